"""The router, and episodes in which it makes networks (Sec. 4.2)."""
