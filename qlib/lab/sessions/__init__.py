"""Transactions stepped by hand, every order of their statements, and other strategies to try."""
