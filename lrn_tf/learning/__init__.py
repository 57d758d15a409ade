"""What modules and router learn from, and how (Sec. 4.3, 5)."""
