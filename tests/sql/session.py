"""A database session that a test steps by hand, and bugs to plant in the test's own database."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

from tests.waiting import until

# Longer than any statement may run (see BOUNDED in tests/conftest.py).
PATIENCE = 40.0
# They pin no setting, which would keep Postgres from inlining them into callers that do. (publish only calls another.)
INLINED = {
    *("publish", "slice", "as_json", "rfc3339"),
    *("is_small", "open_brackets", "may_hold_a_large_number"),
    *("crew_of", "crew_key", "lease_key", "act_of", "ledger", "rest", "keyed", "leased_json"),
    "secret",
}

Row = tuple[Any, ...]


class Session:
    """One connection in autocommit; ``run`` begin and commit by hand.

    Statements run in a thread of the session's own, so that one that has to wait for another
    session can be watched: ``start`` it, ask ``waits_for`` or ``settles``, then its ``outcome``.
    """

    def __init__(self, own: connection, watcher: connection) -> None:
        self._connection = own
        self._watcher = watcher
        self._connection.autocommit = self._watcher.autocommit = True
        self._thread = ThreadPoolExecutor(1)
        self._started: Future[list[Row]] | None = None
        self.pid = own.info.backend_pid

    def start(self, statement: str, *arguments: object) -> None:
        """Run a statement in the background."""
        assert self._started is None, "the statement before this one was never looked at"
        self._started = self._thread.submit(self._execute, statement, arguments)

    def rows(self, statement: str, *arguments: object) -> list[Row]:
        """Run a statement; return its rows, [] when it has none."""
        self.start(statement, *arguments)
        return self._finish()

    def row(self, statement: str, *arguments: object) -> Row:
        """Run a statement; return its only row."""
        return only(self.rows(statement, *arguments))

    def value(self, statement: str, *arguments: object) -> Any:
        """Run a statement; return its only value."""
        return only(self.row(statement, *arguments))

    def run(self, *statements: str) -> None:
        """Run statements one after the other."""
        for statement in statements:
            self.rows(statement)

    def outcome(self) -> Any:
        """Wait for the started statement; return its only value (None: no rows), or its SQLSTATE."""
        try:
            rows = self._finish()
        except psycopg2.Error as error:
            return error.pgcode
        return only(only(rows)) if rows else None

    def attempt(self, statement: str, *arguments: object) -> Any:
        """Run a statement; return its outcome."""
        self.start(statement, *arguments)
        return self.outcome()

    def settles(self) -> str:
        """Say "done" or "waiting", as soon as the started statement is either."""
        return until(lambda: "done" if self.done() else "waiting" if self.blockers() else "")

    def waits_for(self, other: "Session") -> bool:
        """Whether the started statement comes to wait for the other session before it is done."""
        return self.settles() == "waiting" and other.pid in self.blockers()

    def done(self) -> bool:
        """Whether the started statement is done."""
        assert self._started is not None
        return self._started.done()

    def blockers(self) -> list[int]:
        """Return the process ids of the sessions that this one waits for."""
        with self._watcher.cursor() as cursor:
            cursor.execute("select pg_blocking_pids(%s)", (self.pid,))
            return list(only(cursor.fetchone()))

    def close(self) -> None:
        """End the thread; the statement in it is cancelled by whoever closes the connection."""
        if self._started is not None:
            self._connection.cancel()
        self._thread.shutdown(wait=True)

    def _finish(self) -> list[Row]:
        assert self._started is not None, "no statement was started"
        started, self._started = self._started, None
        return started.result(PATIENCE)

    def _execute(self, statement: str, arguments: Sequence[object]) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)
            return cursor.fetchall() if cursor.description else []


def only(rows: Sequence[Any] | None) -> Any:
    """Return the only element."""
    assert rows is not None and len(rows) == 1, f"one was expected, not {rows}"
    return rows[0]


@contextmanager
def refused(code: str, message: str = "", detail: object = None) -> Iterator[None]:
    """Expect an error with this SQLSTATE, this in its message, and (ours only) this JSON in DETAIL."""
    with pytest.raises(psycopg2.Error) as caught:
        yield
    diagnosis = caught.value.diag
    assert caught.value.pgcode == code, caught.value
    assert message in (diagnosis.message_primary or "")
    if code.startswith("QL"):
        assert json.loads(diagnosis.message_detail or "null") == detail


def plant(session: Session, function: str, *changes: tuple[str, str]) -> None:
    """Replace a function by itself with some of its text changed; the text has to be there."""
    source = session.value("select pg_get_functiondef(%s::regproc)", function)
    for old, new in changes:
        assert old in source, f"{function} has no {old!r} (any more)"
        source = source.replace(old, new)
    session.run(source)
