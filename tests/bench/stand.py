"""What is measured on: a server with its embedded PostgreSQL as `make lab` starts them, durable."""

from __future__ import annotations

from contextlib import ExitStack, closing
from itertools import count

import psycopg2
from psycopg2.extensions import connection, cursor, make_dsn

from qlib.lab.stack import Stack
from server.engines.postgres.install import install

# No part hangs: a statement that takes longer than this fails it.
_BOUNDED = "-c statement_timeout=120s -c client_min_messages=warning"


class Stand:
    """A cluster and a server of our own, which end with this context manager or with us.

    `url` is the server's address, `served` the DSN of the database behind it, `numbers` never come
    twice. Every part of the
    benchmark has a new stand, so none meets what another left behind.
    """

    def __enter__(self) -> Stand:
        with ExitStack() as self._opened:
            stack = self._opened.enter_context(Stack())
            self.url, self.served, self.numbers = stack.url, stack.dsn, count(1)
            self._cursor = self.cursor()
            self._opened = self._opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def dsn(self, name: str) -> str:
        """Make an empty database of this name; return its DSN."""
        self._cursor.execute(f'create database "{name}"')
        return make_dsn(self.served, dbname=name)

    def queue(self, name: str) -> str:
        """Make a database of this name that holds an empty queue; return its DSN."""
        dsn = self.dsn(name)
        install(dsn)
        return dsn

    def session(self, dsn: str | None = None) -> connection:
        """Open a session in autocommit mode, with the served database unless told otherwise."""
        opened = psycopg2.connect(dsn or self.served, options=_BOUNDED)
        self._opened.enter_context(closing(opened))
        opened.autocommit = True
        return opened

    def cursor(self, dsn: str | None = None) -> cursor:
        """Open a session as `session` does, and return a cursor of it."""
        return self.session(dsn).cursor()

    def topic(self) -> str:
        """Make a new topic in the served database; return its name."""
        return self.topics(1)[0]

    def topics(self, count: int) -> list[str]:
        """Make new topics in the served database, whose names differ in the number at their end."""
        stem = f"bench-{next(self.numbers)}-"
        self._cursor.execute(
            "select (queue.create_topic(%s || n)).topic from generate_series(0, %s) n order by n",
            (stem, count - 1),
        )
        return [name for (name,) in self._cursor.fetchall()]
