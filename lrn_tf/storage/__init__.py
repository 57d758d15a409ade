"""The folder of a run, and files that survive a kill."""
