"""What a run is asked for: every setting, its defaults, and what is refused (Sec. 5.1)."""
