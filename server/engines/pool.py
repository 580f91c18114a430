"""A bounded pool of database connections whose exhaustion is a bounded wait."""

import logging
import select
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection

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


def connect(dsn: str, **settings: str) -> Connection:
    """Open a connection in autocommit mode with every timeout set. Raises psycopg2.OperationalError."""
    opened = psycopg2.connect(
        dsn,
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


class Turns:
    """Lets at most `most` callers at a time go on under one name; the others wait `patience` seconds.

    A topic whose lock is held by a stuck session must not take all connections with it.
    """

    def __init__(self, most: int, patience: float) -> None:
        """Nobody goes on yet."""
        self._most = most
        self._patience = patience
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Semaphore] = {}
        self._callers: Counter[str] = Counter()

    @contextmanager
    def taken(self, name: str) -> Iterator[None]:
        """Take a turn. Raises Problem (503, outcome none) when none comes in time."""
        with self._lock:
            self._callers[name] += 1
            turn = self._turns.setdefault(name, threading.Semaphore(self._most))
        try:
            if not turn.acquire(timeout=self._patience):
                raise Problem("unavailable", f"too many wait for topic {name!r}")
            try:
                yield
            finally:
                turn.release()
        finally:
            with self._lock:
                self._callers[name] -= 1
                if not self._callers[name]:
                    del self._callers[name], self._turns[name]


class Pool:
    """At most `size` connections, opened when they are needed; a caller waits `patience` seconds for one."""

    def __init__(self, dsn: str, size: int, patience: float, **settings: str) -> None:
        """Open nothing yet. `settings` are Postgres' own, for every connection."""
        self._dsn = dsn
        self._settings = settings
        self._patience = patience
        self._slots = threading.BoundedSemaphore(size)
        self._idle: list[Connection] = []  # the last one used is the first one taken: it is warm

    @contextmanager
    def connection(self) -> Iterator[Connection]:
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

    def _take(self) -> Connection:
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

    def _give_back(self, lent: Connection) -> None:
        if not lent.closed and lent.info.transaction_status == TRANSACTION_STATUS_IDLE:
            self._idle.append(lent)
        else:
            with suppress(psycopg2.Error):
                lent.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()


def _is_quiet(idle: Connection) -> bool:
    # An idle connection has nothing to say. If there is something to read, the database has gone (or is going), and
    # the next statement must not be sent into it: its outcome would be unknown.
    poll = select.poll()
    poll.register(idle.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return not idle.closed and not poll.poll(0)
