"""A bounded pool of database connections whose exhaustion is a bounded wait."""

import itertools
import logging
import re
import select
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
import psycopg2.errors
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from server.errors import Problem

log = logging.getLogger(__name__)

# Every wait is bounded: for the connection, for a lock, for a statement, for a peer that went silent.
SETTINGS = {
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
    "client_encoding": "UTF8",
}


class Session(Connection):
    """A connection that has each statement parsed and planned once, and not at every call."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Connect. Raises psycopg2.OperationalError."""
        super().__init__(*arguments, **named)
        self._numbers = itertools.count()
        self._prepared: dict[str, str] = {}

    def run(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a statement that has %s for each of its values; return its rows. Raises psycopg2.Error."""
        with self.cursor() as cursor:
            if sql not in self._prepared:
                self._prepare(cursor, sql)
            try:
                cursor.execute(self._prepared[sql], values)
            except psycopg2.errors.FeatureNotSupported:  # a function returns another type by now
                del self._prepared[sql]
                raise
            return cursor.fetchall()

    def _prepare(self, cursor: Cursor, sql: str) -> None:
        name = f"s{next(self._numbers)}"
        places = itertools.count(1)
        cursor.execute(f"prepare {name} as " + re.sub("%s", lambda _: f"${next(places)}", sql))
        marks = ", ".join(["%s"] * sql.count("%s"))
        self._prepared[sql] = f"execute {name} ({marks})" if marks else f"execute {name}"


def connect(dsn: str, **settings: str) -> Session:
    """Open a connection in autocommit mode with every timeout set. Raises psycopg2.OperationalError."""
    opened = psycopg2.connect(
        dsn,
        connection_factory=Session,
        application_name="queue-server",
        connect_timeout=5,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=20000,
        options=" ".join(f"-c {name}={value}" for name, value in (SETTINGS | settings).items()),
    )
    opened.autocommit = True
    return opened


class Pool:
    """At most `size` connections, opened when they are needed; a caller waits `patience` seconds for one."""

    def __init__(self, dsn: str, size: int, patience: float, **settings: str) -> None:
        """Open nothing yet. `settings` are Postgres' own, for every connection."""
        self._dsn = dsn
        self._settings = settings
        self._patience = patience
        self._slots = threading.BoundedSemaphore(size)
        self._idle: list[Session] = []  # the last one used is the first one taken: it is warm

    @contextmanager
    def connection(self) -> Iterator[Session]:
        """Lend a connection. Raises Problem (503, outcome none) when none can be had."""
        if not self._slots.acquire(timeout=self._patience):
            raise Problem("unavailable", "all database connections are busy")
        try:
            lent = self._take()
            try:
                yield lent
            finally:
                self._give_back(lent)
        finally:
            self._slots.release()

    def _take(self) -> Session:
        while True:
            try:
                idle = self._idle.pop()
            except IndexError:
                break
            if _is_quiet(idle):
                return idle
            idle.close()
        try:
            return connect(self._dsn, **self._settings)
        except psycopg2.OperationalError as error:
            log.warning("no connection to the database: %s", str(error).strip().replace("\n", " "))
            raise Problem("unavailable", "the database does not answer") from None

    def _give_back(self, lent: Session) -> None:
        if not lent.closed and lent.info.transaction_status == TRANSACTION_STATUS_IDLE:
            self._idle.append(lent)
        else:
            with suppress(psycopg2.Error):
                lent.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


def _is_quiet(idle: Session) -> bool:
    # An idle connection has nothing to say. If there is something to read, the database has gone (or is going), and
    # the next statement must not be sent into it: its outcome would be unknown.
    poll = select.poll()
    poll.register(idle.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return not idle.closed and not poll.poll(0)
