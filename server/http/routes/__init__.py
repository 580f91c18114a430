"""The routes, one module for each thing that they are about; importing them registers the operations."""

from server.http.routes import dead, leases, messages, service, subscribers, topics

__all__ = ["dead", "leases", "messages", "service", "subscribers", "topics"]
