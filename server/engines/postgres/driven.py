"""A connection to PostgreSQL that is driven by an event loop.

psycopg2 sends a statement and reads its answer without waiting; the loop says when there is something to read or room
to write. Whoever waits for an answer may leave: the session goes on by itself, and is busy until the answer has come.
"""

import asyncio
import select
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_WRITE, Notify
from psycopg2.extensions import connection as Connection

from server.engines.postgres.failures import Lost

Rows = list[tuple[Any, ...]]


class Driven(Connection):
    """A connection whose statements are awaited. All of it belongs on the loop on which it was made."""

    limit: float | None = None  # seconds for an answer

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Begin to connect. Raises psycopg2.OperationalError."""
        super().__init__(*arguments, **named)
        self.busy = False
        self._loop = asyncio.get_running_loop()
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
        self._cursor = self.cursor()
        self._socket = self.fileno()
        self._watch()
        self._look = select.poll()
        self._look.register(self._socket, select.POLLIN | select.POLLHUP | select.POLLERR)

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
            if self._is_cut():
                self._loop.remove_reader(self._socket)
                self._watched = False
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
            while state != POLL_OK and self._is_cut():
                state = self.poll()
        except psycopg2.Error as error:
            if self.closed:
                self.close()  # now: the number of its socket may soon be another one's
            self._settle(error)
            return
        self._wait_for_room(state == POLL_WRITE)
        if state == POLL_OK:
            self._settle()

    def _is_cut(self) -> bool:
        """Whether the other side has hung up: uvloop says so once, however much is left to be read."""
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in self._look.poll(0))

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


def _done(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
