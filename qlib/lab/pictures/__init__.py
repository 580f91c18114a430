"""The pictures: what happened in a queue, drawn; one function each."""
