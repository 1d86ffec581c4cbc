"""The networks of the full engine and their wrappers."""
