"""Kill -9 of servers and of the database, on a queue that is ours alone."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from random import Random
from types import TracebackType

import psycopg2
from psycopg2.extensions import connection

from qlib.lab.database.connecting import connect
from qlib.lab.history import History
from qlib.lab.stack import Stack
from qlib.lab.stack.guarded import StackError

_BACK = 120.0  # seconds, for the database
_TICK = 0.05
_BACKENDS = """
select pid from pg_stat_activity where application_name = 'queue-server' order by random() limit 1
"""


class Target:
    """Servers on one embedded PostgreSQL; a context manager, which leaves nothing.

    `killed` counts what was killed, and a history is told of every restart of the database.
    """

    def __init__(self, directory: Path, servers: int, seed: int) -> None:
        """Nothing is started yet."""
        self._servers = servers
        self.killed: Counter[str] = Counter()
        self.history = History()
        self._data = directory / "data"
        self._choose = Random(f"{seed} kills")
        self._stacks: list[Stack] = []
        self._opened = ExitStack()

    def __enter__(self) -> Target:
        """Start the servers."""
        with ExitStack() as opened, self.history.restart():
            for _ in range(self._servers):
                self._stacks.append(opened.enter_context(Stack(self._data)))
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End them."""
        self._opened.close()

    @property
    def urls(self) -> tuple[str, ...]:
        """The servers' addresses."""
        return tuple(stack.url for stack in self._stacks)

    def kill(self) -> None:
        """Kill something, and return when it is back."""
        self._choose.choice((self._server, self._backend, self._postmaster, self._everything))()

    def _server(self) -> None:
        self.killed["servers"] += 1
        stack = self._choose.choice(self._stacks)
        stack.crash()  # PostgreSQL stays, since the other server uses it
        stack.restart()

    def _backend(self) -> None:
        """One session's process: PostgreSQL ends all sessions then, and recovers."""
        self.killed["databases"] += 1
        with closing(connect(self._stacks[0].dsn)) as session, session.cursor() as cursor:
            cursor.execute(_BACKENDS)
            found = cursor.fetchone()
        self._kill(found[0] if found else self._postmaster_pid())

    def _postmaster(self) -> None:
        self.killed["databases"] += 1
        self._kill(self._postmaster_pid())

    def _everything(self) -> None:
        self.killed["databases"] += 1
        self.killed["servers"] += len(self._stacks)
        with self.history.restart():
            for stack in self._stacks:
                stack.crash()
            for stack in self._stacks:
                stack.restart()

    def _postmaster_pid(self) -> int:
        return int((self._data / "postgres" / "postmaster.pid").read_text().split("\n")[0])

    def _kill(self, pid: int) -> None:
        """Kill a process of PostgreSQL, and wait until all sessions are cut and new ones come."""
        with (
            self.history.restart(),
            closing(connect(self._stacks[0].dsn)) as session,
            suppress(ProcessLookupError),
        ):
            os.kill(pid, signal.SIGKILL)
            _until(lambda: not _answers(session))
            _until(self._accepts)

    def _accepts(self) -> bool:
        with suppress(psycopg2.OperationalError):
            connect(self._stacks[0].dsn).close()
            return True
        return False


def _answers(session: connection) -> bool:
    with suppress(psycopg2.Error), session.cursor() as cursor:
        cursor.execute("select 1")
        return True
    return False


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _BACK
    while not condition():
        if time.monotonic() > deadline:
            raise StackError("the database that was killed does not come back")
        time.sleep(_TICK)
