"""The trajectory component."""
