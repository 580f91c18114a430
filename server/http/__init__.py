"""The door: what comes in over HTTP, is checked, handed to its operation, and goes out again."""
