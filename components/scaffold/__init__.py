"""The scaffold component."""
