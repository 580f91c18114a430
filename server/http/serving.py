"""The listener with its connections: what they may take together, and their orderly end."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate

from server.address import in_url
from server.http.bounds import Bounds
from server.http.connection import Connection
from server.http.reply import Reply
from server.http.request import Bodies, Received

Application = Callable[[Received], Awaitable[Reply]]
Refuse = Callable[[Exception, str], Reply]

# bytes that the kernel takes off us: with more, nobody would see that a reader has stalled
_SENT = 256 * 2**10
_BACKLOG = 2048
_SLICE = 250  # connections that are looked at in one go


class CannotListen(Exception):
    """An address where somebody listens already, or which is none of this machine's."""


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that may `listen` there: no two ever share an address. Raises CannotListen."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT)  # inherited by what is accepted
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise CannotListen(_said(error, host, port)) from None
    return bound


def listen(bound: socket.socket) -> None:
    """Take connections. Raises CannotListen when another that was bound, too, has begun to meanwhile."""
    try:
        bound.listen(_BACKLOG)
    except OSError as error:
        raise CannotListen(_said(error, *bound.getsockname()[:2])) from None


def _said(error: OSError, host: str, port: int) -> str:
    return f"cannot listen on {in_url(host)}:{port}: {error.strerror}"


class Server:
    """Serves an application on the running loop.

    `ending`: no connection is kept beyond the answer that is due; `date`: the header, as it is now.
    """

    def __init__(
        self, application: Application, refuse: Refuse, bounds: Bounds | None = None
    ) -> None:
        """Let `refuse` make the answer to what an application raised, or what never got there, and the method."""
        self.application = application
        self.refuse = refuse
        self.bounds = bounds or Bounds()
        self.bodies = Bodies(self.bounds.bodies)
        self.connections: set[Connection] = set()
        self.ending = False
        self.date = ""
        self.loop = asyncio.get_running_loop()
        self._unread = 0
        # what is carried out though its client has left
        self._left: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()

    async def serve(
        self,
        listener: socket.socket,
        ended: asyncio.Event,
        ready: Callable[[], None],
        stop: Callable[[], Awaitable[None]],
    ) -> None:
        """Serve until `ended`, and answer then what is in flight.

        `ready` is called as soon as clients are answered, `stop` when none is taken any more: it ends what would wait.
        """
        # which calls listen() again, with 100 unless told otherwise
        accepting = await self.loop.create_server(
            lambda: Connection(self), sock=listener, backlog=_BACKLOG
        )
        sweeping = self.loop.create_task(self._sweep())
        ready()
        try:
            await self._wait(ended, sweeping)
        finally:
            accepting.close()
        await self._end(stop)
        sweeping.cancel()

    async def _end(self, stop: Callable[[], Awaitable[None]]) -> None:
        self.ending = True
        brief = self.bounds.ending
        self.bounds = replace(self.bounds, stall=brief, body_time=brief)
        for one in list(self.connections):
            one.finish()
        await stop()
        self._see_whether_empty()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), self.bounds.grace)
        for one in list(self.connections):
            one.abort()

    async def _wait(self, ended: asyncio.Event, sweeping: "asyncio.Task[None]") -> None:
        waiting = self.loop.create_task(ended.wait())
        await asyncio.wait({sweeping, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if sweeping.done():  # it has failed, and nothing would be bounded any more
            sweeping.result()

    # what connections say

    def lost(self, one: Connection) -> None:
        """Forget a connection that has ended."""
        self.connections.discard(one)
        self._see_whether_empty()

    def left_behind(self, task: "asyncio.Task[None]") -> None:
        """Wait in the end for a task that goes on without its client."""

        def done(task: "asyncio.Task[None]") -> None:
            self._left.discard(task)
            self._see_whether_empty()

        self._left.add(task)
        task.add_done_callback(done)

    def more_unread(self, size: int) -> None:
        """Count bytes that a client has yet to read."""
        self._unread += size
        if self._unread > self.bounds.unread_in_all:
            self._relieve()

    # bounds

    async def _sweep(self) -> None:
        while True:
            self.date = f"Date: {formatdate(usegmt=True)}\r\n"
            connections = list(self.connections)
            for at in range(0, len(connections), _SLICE):
                now = self.loop.time()
                for one in connections[at : at + _SLICE]:
                    one.sweep(now)
                await asyncio.sleep(0)  # others' turn
            self._unread = sum(one.unread for one in self.connections)
            await asyncio.sleep(self.bounds.sweep)

    def _relieve(self) -> None:
        # who has not read for longest goes first
        now = self.loop.time()
        owing = sorted((one for one in self.connections if one.unread), key=lambda one: one.since)
        for one in owing:
            one.look(now)
        self._unread = sum(one.unread for one in owing)
        for one in owing:
            if self._unread <= self.bounds.unread_in_all:
                break
            self._unread -= one.unread
            one.abort()

    def _see_whether_empty(self) -> None:
        if self.ending and not self.connections and not self._left:
            self._empty.set()
