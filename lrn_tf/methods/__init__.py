"""What is trained: Limitless Routing Networks, and what they are compared with."""
