"""Transactions that are stepped by hand, statement by statement, so that they meet as one wants.

Whether a statement waits is not guessed from the time it takes: the database is asked, until the
statement is either over or known to wait for somebody.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from typing import Any, Self
from weakref import WeakSet

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR, connection
from psycopg2.extras import Json

from qlib.lab.database.connecting import connect
from qlib.lab.database.query import database
from qlib.lab.sessions.steps import (
    Event,
    Rows,
    SessionError,
    Waiting,
    in_short,
    label,
    rows_of,
    steps,
)

_PATIENCE = 60.0  # seconds until a statement that neither ends nor waits is given up
_PROMPTNESS = 0.001
# A reader may think for a while about a statement that waits; but nothing waits for ever.
_BOUNDED = "-c statement_timeout=15min -c client_min_messages=warning"

# Who keeps a session waiting; nobody when they wait for each other in a circle: that is not a wait
# but a deadlock, which PostgreSQL ends.
_BLOCKERS = """
with recursive circle (pid) as (
    select unnest(pg_blocking_pids(%(pid)s))
    union
    select unnest(pg_blocking_pids(circle.pid)) from circle)
select distinct coalesce(nullif(a.application_name, ''), a.backend_type, 'a prepared transaction')
from unnest(pg_blocking_pids(%(pid)s)) as blocker (pid) left join pg_stat_activity a using (pid)
where %(pid)s not in (select circle.pid from circle)
order by 1
"""
# Who closes a circle is the one who finds it, at once, whoever has waited longest.
_HASTE = "set local deadlock_timeout = '1ms'"

# PostgreSQL's own wait for the end looks again only after 0.1 s.
_END = "select pg_terminate_backend(pid) from pg_stat_activity where pid = %(pid)s"

_waiting: WeakSet[Session] = WeakSet()


class Session:
    """A transaction on a connection of its own to the database that $QUEUE_DSN names.

    `name` is what those are told who have to wait for it, 1 to 63 ASCII characters; `isolation` is
    "read committed", "repeatable read" or "serializable"; else ValueError. A context manager: what
    is open in the end is rolled back. `events` are what it did so far; `timeline` draws them.
    Raises psycopg2.OperationalError without a database, LookupError without $QUEUE_DSN.
    """

    def __init__(self, name: str, isolation: str = "read committed") -> None:
        """Connect, twice: while one connection waits, the other one asks for whom."""
        if not re.fullmatch("[ -~]{1,63}", name):  # or PostgreSQL would show another one
            raise ValueError("a session's name is 1 to 63 ASCII characters")
        self.name = name
        self.events: list[Event] = []
        self._own, self._watcher = _connect(name), _connect(f"watcher of {name}")
        self._own.set_session(isolation_level=isolation)
        self._pid = self._own.info.backend_pid
        self._thread: threading.Thread | None = None
        self._pending: Future[Any] | None = None

    def run(self, statement: str, *values: object) -> Rows | Waiting | None:
        """Run a statement, in a new transaction when none is open.

        `values` take the places of the `%s`, as in `lab.sql`; `events` and pictures call it by the
        comment that it begins with, such as `/* charge */`, if any. Returns its rows as named tuples
        (None when it is not of the kind that returns rows) or, at once, for whom it has to wait:
        then `result` has the rows when that is over. Raises SessionError when the statement fails,
        and as always in PostgreSQL the transaction can then only be rolled back; RuntimeError
        while nobody has asked for the result of one that had to wait.
        """
        rows: Rows | Waiting | None
        rows = self.step(label(statement), lambda: self._execute(statement, values))
        return rows

    def commit(self) -> Waiting | None:
        """Commit. Raises SessionError when there was something that could only be rolled back."""
        return self._end("commit")

    def rollback(self) -> Waiting | None:
        """Roll back."""
        return self._end("rollback")

    def result(self) -> Any:
        """Return what the last statement returned, or for whom it waits still.

        Raises SessionError as `run`; LookupError when there is no result to wait for; TimeoutError
        when the statement neither ends nor waits for a lock within 60 seconds.
        """
        if not self._pending:
            raise LookupError(f"there is no result of {self.name} to wait for")
        event = self.events[-1]
        deadline = time.monotonic() + _PATIENCE
        while not wait_for([self._pending], _PROMPTNESS).done:
            blockers = self._blockers()
            # A circle that PostgreSQL breaks while we ask looks like a wait; a moment later it is gone.
            if blockers and all(blockers == self._later_blockers() for _ in range(3)):
                event.waited_for = blockers
                _waiting.add(self)
                return Waiting(self.name, blockers)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: {event.what} does not end")
        pending, self._pending = self._pending, None
        _waiting.discard(self)
        self._note(event, pending)
        return pending.result()

    def step(self, what: str, work: Callable[[], Any]) -> Any:
        """Do several things as one step, which `events` calls `what`.

        `work` is called in a thread of its own and may `run` statements, which then return rows
        only. Returns what it returns or, at once, for whom it has to wait. Raises as `run`.
        """
        if threading.current_thread() is self._thread:
            return work()
        if self._pending:
            raise RuntimeError(f"{self.name} has not told the result of {self.events[-1].what} yet")
        self.events.append(Event(what, next(steps)))
        self._pending = Future()
        self._thread = threading.Thread(target=_fulfil, args=(self._pending, work), daemon=True)
        self._thread.start()
        return self.result()

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self._own.info.transaction_status == TRANSACTION_STATUS_IDLE

    @property
    def waiting(self) -> bool:
        """Whether there is a result that nobody has asked for since the statement had to wait."""
        return self._pending is not None

    def kill(self) -> None:
        """End it as the death of its process would: what is open is rolled back when this returns."""
        deadline = time.monotonic() + _PATIENCE
        while self._ask(_END) and time.monotonic() < deadline:
            time.sleep(_PROMPTNESS)
        self.close()

    def close(self) -> None:
        """Close the connections; whatever runs is ended and rolled back. Again: nothing happens."""
        if self._thread and self._thread.is_alive():
            with suppress(psycopg2.Error):
                self._ask("select pg_terminate_backend(%(pid)s)")
            self._thread.join(_PATIENCE)
        self._pending = None
        _waiting.discard(self)
        self._own.close()
        self._watcher.close()

    def __enter__(self) -> Self:
        """Return the session itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Return its name, and whether a transaction is open."""
        return f"<session {self.name}, {'idle' if self.idle else 'in a transaction'}>"

    def _end(self, word: str) -> Waiting | None:
        ended = self.run(word)
        return ended if isinstance(ended, Waiting) else None

    def _execute(self, statement: str, values: tuple[object, ...]) -> Rows | None:
        try:
            with self._own.cursor() as done:
                failed = self._own.info.transaction_status == TRANSACTION_STATUS_INERROR
                if self.idle:
                    done.execute("begin")
                if _waiting and not failed:
                    done.execute(_HASTE)
                # psycopg2 looks for placeholders only when there are values
                given = [Json(v) if isinstance(v, dict) else v for v in values]
                done.execute(statement, given or None)
                if failed and self.idle and label(statement) == "commit":
                    raise SessionError("25P02", "the transaction had failed and was rolled back")
                return rows_of(done)
        except psycopg2.Error as error:
            message = error.diag.message_primary or str(error).strip()
            hint = error.diag.message_hint
            if hint and error.pgcode != "40P01":  # a deadlock's only names the server's log
                message += f". {hint}"
            # without a code the connection is lost, and with it the transaction
            raise SessionError(error.pgcode or "08006", message) from None

    def _later_blockers(self) -> tuple[str, ...]:
        wait_for([self._pending] if self._pending else [], _PROMPTNESS)
        return self._blockers()

    def _blockers(self) -> tuple[str, ...]:
        return tuple(name for (name,) in self._ask(_BLOCKERS))

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        with self._watcher.cursor() as done:
            done.execute(query, {"pid": self._pid})
            return done.fetchall()

    def _note(self, event: Event, done: Future[Any]) -> None:
        event.ended = next(steps) if event.waited_for else event.started
        event.idle = self.idle
        error = done.exception()
        event.failed = error is not None
        told = getattr(error, "sqlstate", "") if error else in_short(event.what, done.result())
        event.outcome = told


def session(name: str, isolation: str = "read committed") -> Session:
    """Open a transaction to be stepped by hand: see `Session`."""
    return Session(name, isolation)


def _connect(name: str) -> connection:
    opened = connect(database(), application_name=name, options=_BOUNDED)
    opened.autocommit = True
    return opened


def _fulfil(promise: Future[Any], work: Callable[[], Any]) -> None:
    try:
        promise.set_result(work())
    except BaseException as error:
        promise.set_exception(error)
