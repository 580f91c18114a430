"""A session: a connection to PostgreSQL that is driven by an event loop.

psycopg2 sends a statement and reads its answer without waiting; the loop says when there is something to read or room
to write. Whoever waits for an answer may leave: the session goes on by itself, and is busy until the answer has come.
"""

import asyncio
import itertools
import re
import select
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

import psycopg2
import psycopg2.errors
from psycopg2.extensions import (
    POLL_OK,
    POLL_WRITE,
    TRANSACTION_STATUS_IDLE,
    Notify,
)
from psycopg2.extensions import connection as Connection

from server.engines.postgres.failures import Lost, NotWritable

Rows = list[tuple[Any, ...]]

# A little more than statement_timeout: who has not answered by then is stopped, or beyond reach.
_LIMIT = 35.0


class Session(Connection):
    """A connection that has each statement parsed and planned once, and not at every call.

    `connect` makes one. All of it belongs on the loop on which that was done.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Begin to connect. Raises psycopg2.OperationalError."""
        super().__init__(*arguments, **named)
        self.writable = True
        self.backend = 0  # its process; what a pooler tells us at the start is not
        self.limit: float | None = _LIMIT  # seconds for an answer
        self.busy = False
        self.turn = 0  # the pool's
        self._loop = asyncio.get_running_loop()
        self._prepared: dict[str, str] = {}
        self._answer: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._socket = -1
        self._watched = False  # the loop says when there is something to read
        self._writing = False

    async def opened(self) -> None:
        """Wait until the connection is there. Raises psycopg2.OperationalError."""
        while (state := self.poll()) != POLL_OK:
            await self._ready(state)
        # a pooler keeps what it heard when it connected: such a welcome says nothing, and we have to ask
        self._misled = self._told_read_only()
        self._cursor = self.cursor()
        self._socket = self.fileno()
        self._watch()
        self._look = select.poll()
        self._look.register(self._socket, select.POLLIN | select.POLLHUP | select.POLLERR)

    @property
    def usable(self) -> bool:
        """Whether it may be asked again."""
        there = self._socket >= 0 and not self.closed
        return there and self.get_transaction_status() == TRANSACTION_STATUS_IDLE

    @property
    def quiet(self) -> bool:
        """Whether it is surely there.

        An idle connection has nothing to say. If there is something to read, the database has gone (or is going), and
        the next statement must not be sent into it: its outcome would be unknown.
        """
        return self._watched and not self._look.poll(0)

    async def run(self, sql: str, values: Sequence[Any]) -> Rows:
        """Run a statement that has %s for each of its values; return its rows.

        Raises psycopg2.Error; Lost when the connection has ended, NotWritable instead of rows when the database has
        been made read only. Whoever is cancelled leaves the session busy.
        """
        execute = self._prepared.get(sql) or await self._prepare(sql)
        try:
            rows = await self.execute(execute, values)
        except psycopg2.errors.FeatureNotSupported:  # a function returns another type by now
            await self._forget(sql)
            raise
        except psycopg2.errors.InvalidSqlStatementName:  # somebody has deallocated it
            del self._prepared[sql]
            raise
        except psycopg2.errors.ReadOnlySqlTransaction:
            self.writable = False
            raise
        if self._told_read_only() and (not self._misled or await self._is_read_only()):
            self.writable = False
            raise NotWritable("the database has been made read only")
        return rows

    async def execute(self, text: str, values: Sequence[Any] | None = None) -> Rows:
        """Have a text executed as it is, of several statements perhaps; return the last one's rows."""
        try:
            self._cursor.execute(text, values)
            if (state := self.poll()) != POLL_OK:
                await self._answered(state)
        except psycopg2.Error as error:
            if self.closed:
                self.close()
                raise Lost(str(error)) from error
            raise
        return self._cursor.fetchall() if self._cursor.description else []

    async def settled(self) -> None:
        """Wait until the session is not busy any more, whatever the answer."""
        if self.busy:
            self._answer = self._loop.create_future()
            with suppress(psycopg2.Error):
                await self._answer

    async def heard(self, seconds: float) -> list[Notify]:
        """Return what this session has heard by LISTEN, at the latest after so many seconds."""
        if not self.notifies:
            self._answer = self._loop.create_future()
            self._watch()
            timer = self._loop.call_later(seconds, self._settle)
            try:
                await self._answer
            finally:
                timer.cancel()
                self._answer = None
        heard = list(self.notifies)
        self.notifies.clear()
        return heard

    def close(self) -> None:
        """End the session, whatever it does."""
        if self._socket >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket, self._watched, self.busy = -1, False, False
        if self._timer:
            self._timer.cancel()
        super().close()

    def _watch(self) -> None:
        if not self._watched:
            self._loop.add_reader(self._socket, self._proceed)
            self._watched = True

    async def _ready(self, state: int) -> None:
        # the socket may be another one each time: without TLS, say, after it was refused with it
        watch, forget = self._loop.add_reader, self._loop.remove_reader
        if state == POLL_WRITE:
            watch, forget = self._loop.add_writer, self._loop.remove_writer
        ready, socket = self._loop.create_future(), self.fileno()
        watch(socket, _done, ready)
        try:
            await ready
        finally:
            forget(socket)

    async def _answered(self, state: int) -> None:
        self.busy = True
        self._answer = self._loop.create_future()
        if self.limit:
            self._deadline = self._loop.time() + self.limit
            if not self._timer:
                self._timer = self._loop.call_at(self._deadline, self._time_is_up)
        self._wait_for_room(state == POLL_WRITE)
        await self._answer

    def _proceed(self) -> None:
        """Go on: there is something to read, or room to write."""
        if not self._answer:  # nobody has asked: it is not quiet, and is left to whoever looks next
            self._loop.remove_reader(self._socket)
            self._watched = False
            return
        try:
            state = self.poll()
        except psycopg2.Error as error:
            if self.closed:
                self.close()  # now: the number of its socket may soon be another one's
            self._settle(error)
            return
        self._wait_for_room(state == POLL_WRITE)
        if state == POLL_OK:
            self._settle()

    def _wait_for_room(self, wanted: bool) -> None:
        if wanted == self._writing:
            return
        self._writing = wanted
        if wanted:
            self._loop.add_writer(self._socket, self._proceed)
        else:
            self._loop.remove_writer(self._socket)

    def _settle(self, error: psycopg2.Error | None = None) -> None:
        self.busy = False
        answer, self._answer = self._answer, None
        if not answer or answer.done():
            return
        if error:
            answer.set_exception(error)
        else:
            answer.set_result(None)

    def _time_is_up(self) -> None:
        # one timer for many statements: it looks whether the one that is under way is late
        self._timer = None
        if self.busy and self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._time_is_up)
        elif self.busy:
            self.close()
            self._settle(psycopg2.OperationalError(f"no answer within {self.limit:g} s"))

    async def _prepare(self, sql: str) -> str:
        # a name says what it stands for, in case another server's statements are on this backend, too
        name = "queue_" + sha256(sql.encode()).hexdigest()[:32]
        places = itertools.count(1)
        text = re.sub("%s", lambda _: f"${next(places)}", sql)
        with suppress(psycopg2.errors.DuplicatePreparedStatement):
            await self.execute(f"prepare {name} as {text}")
        marks = ", ".join(["%s"] * sql.count("%s"))
        execute = f"execute {name} ({marks})" if marks else f"execute {name}"
        return self._prepared.setdefault(sql, execute)

    async def _forget(self, sql: str) -> None:
        name = self._prepared.pop(sql).split()[1]
        with suppress(psycopg2.errors.InvalidSqlStatementName):
            await self.execute(f"deallocate {name}")

    def _told_read_only(self) -> bool:
        # Postgres says so with the first answer after a change of its configuration
        return self.get_parameter_status("default_transaction_read_only") == "on"

    async def _is_read_only(self) -> bool:
        return await self.execute("show transaction_read_only") == [("on",)]


def _done(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
