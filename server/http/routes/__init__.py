"""The routes, one module for each thing that they are about; importing them registers the operations."""

from server.http.routes import messages, service, subscribers, topics

__all__ = ["messages", "service", "subscribers", "topics"]
