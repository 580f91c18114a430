"""A session: a connection to PostgreSQL that takes writes and has every setting that the queue relies on.

The caller's connection string is kept whole; ours comes in addition. Settings are made after connecting, since poolers
refuse or drop those of the start, and read back in the same round trip.
"""

import itertools
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from hashlib import sha256
from typing import Any

import psycopg2
import psycopg2.errors
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import make_dsn, parse_dsn

# What must hold whatever a role or a database sets, each as Postgres shows it. Every wait is bounded: for a lock, for
# a statement, for us in a transaction; and no session is ended for being idle or long.
SETTINGS = {
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "10s",
    "idle_session_timeout": "0",
    "TimeZone": "UTC",
    "default_transaction_isolation": "read committed",  # above it, a publish fails beside another
    "search_path": "pg_catalog, pg_temp",
    "row_security": "on",
    "exit_on_error": "off",  # on, a topic that does not exist ends the session
}
_SINCE_17 = {"transaction_timeout": "0"}
# What must stay as it was at the start: psycopg2 looks at it once, and then quotes for it.
_KEPT = "standard_conforming_strings"

# And for the connection and a peer that went silent, unless the caller says otherwise.
_NETWORK = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20000,
}


class NotWritable(psycopg2.OperationalError):
    """The database takes no writes now: nothing was done, and a read from it may be stale."""


class Unfit(psycopg2.Error):
    """The queue cannot work on such a database, or through such a pooler."""


class Session(Connection):
    """A connection that has each statement parsed and planned once, and not at every call."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Connect. Raises psycopg2.OperationalError."""
        super().__init__(*arguments, **named)
        self.writable = True
        self.backend = 0  # its process; what a pooler tells us at the start is not
        # a pooler keeps what it heard when it connected: such a welcome says nothing, and we have to ask
        self._misled = self._told_read_only()
        self._prepared: dict[str, str] = {}

    def run(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a statement that has %s for each of its values; return its rows.

        Raises psycopg2.Error; NotWritable instead of rows when the database has been made read only.
        """
        with self.cursor() as cursor:
            if sql not in self._prepared:
                self._prepare(cursor, sql)
            try:
                cursor.execute(self._prepared[sql], values)
            except psycopg2.errors.FeatureNotSupported:  # a function returns another type by now
                self._forget(cursor, sql)
                raise
            except psycopg2.errors.InvalidSqlStatementName:  # somebody has deallocated it
                del self._prepared[sql]
                raise
            except psycopg2.errors.ReadOnlySqlTransaction:
                self.writable = False
                raise
            rows = cursor.fetchall()
            if self._told_read_only() and (not self._misled or self._is_read_only(cursor)):
                self.writable = False
                raise NotWritable("the database has been made read only")
            return rows

    def _prepare(self, cursor: Cursor, sql: str) -> None:
        # a name says what it stands for, in case another server's statements are on this backend, too
        name = "queue_" + sha256(sql.encode()).hexdigest()[:32]
        places = itertools.count(1)
        text = re.sub("%s", lambda _: f"${next(places)}", sql)
        with suppress(psycopg2.errors.DuplicatePreparedStatement):
            cursor.execute(f"prepare {name} as {text}")
        marks = ", ".join(["%s"] * sql.count("%s"))
        self._prepared[sql] = f"execute {name} ({marks})" if marks else f"execute {name}"

    def _forget(self, cursor: Cursor, sql: str) -> None:
        name = self._prepared.pop(sql).split()[1]
        with suppress(psycopg2.errors.InvalidSqlStatementName):
            cursor.execute(f"deallocate {name}")

    def _told_read_only(self) -> bool:
        # Postgres says so with the first answer after a change of its configuration
        return self.get_parameter_status("default_transaction_read_only") == "on"

    def _is_read_only(self, cursor: Cursor) -> bool:
        cursor.execute("show transaction_read_only")
        return cursor.fetchone() == ("on",)


def connect(dsn: str, **settings: str) -> Session:
    """Open a session in autocommit mode; `settings` go before ours.

    Raises psycopg2.OperationalError when the database does not answer, NotWritable among them, and Unfit.
    """
    given = parse_dsn(dsn)
    ours = {
        name: value
        for name, value in _NETWORK.items()
        if name not in given and f"PG{name.upper()}" not in os.environ
    }
    encoding = {"client_encoding": "UTF8"}  # of all places where it can be set, this one counts
    whole = make_dsn(dsn, fallback_application_name="queue-server", **ours, **encoding)
    opened = psycopg2.connect(whole, connection_factory=Session)
    try:
        opened.autocommit = True
        since = _SINCE_17 if opened.server_version >= 170000 else {}
        kept = {_KEPT: opened.get_parameter_status(_KEPT) or "on"}
        with _bounded(opened):
            _set_up(opened, SETTINGS | since | kept | settings)
    except BaseException:
        opened.close()
        raise
    return opened


@contextmanager
def _bounded(session: Session) -> Iterator[None]:
    # a pooler takes a connection before it has a backend for it, and then lets it wait for minutes
    seconds = int(session.info.dsn_parameters["connect_timeout"])
    twin = socket.socket(fileno=os.dup(session.fileno()))
    timer = threading.Timer(seconds, twin.shutdown, [socket.SHUT_RDWR])
    if seconds > 0:  # else the caller wants to wait for ever
        timer.start()
    try:
        yield
    except psycopg2.OperationalError as error:
        if timer.finished.is_set():
            said = f"no answer within {seconds} s: has the pooler no session left?"
            raise psycopg2.OperationalError(said) from error
        raise
    finally:
        timer.cancel()
        twin.close()


def _set_up(session: Session, wanted: dict[str, str]) -> None:
    sets = ", ".join(["pg_catalog.set_config(%s, %s, false)"] * len(wanted))
    reads = ", ".join(["pg_catalog.current_setting(%s)"] * len(wanted))
    with session.cursor() as cursor:
        cursor.execute(
            f"""set statement_timeout = 0; -- the role's own may be too short for this
            select {sets};
            select pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_encoding'),
                   pg_catalog.pg_client_encoding(), pg_catalog.pg_is_in_recovery(),
                   pg_catalog.current_setting('transaction_read_only'), {reads}""",
            [*itertools.chain(*wanted.items()), *wanted],
        )
        session.backend, holds, speaks, recovers, read_only, *found = cursor.fetchone() or ()
    if holds != "UTF8":
        raise Unfit(
            f"the database keeps its text as {holds}, which cannot hold every message: make another one with"
            " create database NAME encoding 'UTF8' template template0"
        )
    if recovers:
        raise NotWritable("the database is a standby, which takes no writes")
    if read_only != "off":
        raise NotWritable("the database is read only: default_transaction_read_only is on")
    missed = [name for name, got in zip(wanted, found, strict=True) if got != wanted[name]]
    if missed or speaks != "UTF8":
        raise Unfit(f"the session did not take {', '.join(missed) or 'UTF-8'}: is there a pooler?")


def check(dsn: str) -> None:
    """See that a session is ours alone, by what it does: poolers that share backends show what one wants to see.

    Raises Unfit when it is not, and as `connect`.
    """
    with ExitStack() as opened:
        first, *others = [opened.enter_context(closing(connect(dsn))) for _ in range(3)]
        with first.cursor() as cursor:
            cursor.execute("select set_config('queue.mark', %s, false)", (secrets.token_hex(8),))
        before = _mark(first)
        for other in others:  # one of them takes the first one's backend, if it can be taken
            try:
                with other.cursor() as cursor:
                    cursor.execute(_HOLD)
            finally:  # where transactions are refused, the other one is cut off now
                if _mark(first) != before:
                    raise _shared(first)


# Not for long: the pooler may have a single backend, for which the first one waits.
_HOLD = "begin; set local idle_in_transaction_session_timeout = '2s'; select 1"


def _mark(session: Session) -> tuple[Any, ...] | None:
    with session.cursor() as cursor:
        cursor.execute("select pg_backend_pid(), current_setting('queue.mark', true)")
        return cursor.fetchone()


def _shared(session: Session) -> Unfit:
    return Unfit(
        f"the pooler at {session.info.host}:{session.info.port} hands out transactions, and the queue needs sessions:"
        " connect to PostgreSQL itself, or let the pooler hand out sessions (pgbouncer: pool_mode = session)"
    )
