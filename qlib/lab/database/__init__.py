"""The database itself, as people and plots look at it."""
