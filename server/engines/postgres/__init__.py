"""The engine on PostgreSQL, with its connections, its SQL files and a cluster of its own."""
