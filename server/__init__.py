"""The HTTP server of the queue: a thin door to the SQL functions."""
