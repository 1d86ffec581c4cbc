"""The splat component."""
