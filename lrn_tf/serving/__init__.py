"""A trained network elsewhere: exported, described, loaded."""
