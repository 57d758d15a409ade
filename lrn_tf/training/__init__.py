"""The training loop, and where it computes."""
