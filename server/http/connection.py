"""One connection: its requests one after the other, each answer in its turn, and every bound of both directions.

At most one request is carried out at a time, and none while an answer before it is unread: whoever does not read is
owed one answer. What is wrong with the bytes themselves is answered last: what was begun is finished, what was not
begun never is.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from server.http.bounds import NEVER
from server.http.errors import Problem
from server.http.parsing import Parser
from server.http.reply import Reply
from server.http.request import Received

if TYPE_CHECKING:
    from server.http.serving import Server

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """Reads always, so that a client's leaving is seen at once.

    `unread` is what of its answers was not read when last looked, and `since` when it was seen to be read last;
    `deadline` is when something has to have come, be it the client's farewell.
    """

    _transport: asyncio.Transport

    def __init__(self, server: "Server") -> None:
        """Belong to a server; be made for a client by its listener."""
        self.bounds = server.bounds
        self.bodies = server.bodies
        self.deadline = NEVER
        self.unread = 0
        self.since = 0.0
        self._mark = 0  # what was unread at `since`, or more
        self._server, self._loop = server, server.loop
        self._parser = Parser(self, self._arrived)
        self._waiting: deque[Received] = deque()
        self._running: Received | None = None
        self._task: asyncio.Task[None] | None = None
        self._refusal: Problem | None = None
        self._deaf = False  # whatever comes is dropped
        self._timed = False  # the head that comes
        self._paused = False

    # what comes in

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        self._transport = transport
        transport.set_write_buffer_limits(self.bounds.unread)
        self.deadline = self._loop.time() + self.bounds.head_time
        self._server.connections.add(self)
        beyond = len(self._server.connections) - self.bounds.connections
        if self._server.ending or beyond > self.bounds.spare:
            transport.abort()
        elif beyond > 0:
            self._refuse(Problem("unavailable", "too many connections"))

    def data_received(self, data: bytes) -> None:
        """Take what came, and begin what is to be done next: not before all that came is understood."""
        if self._deaf:
            return
        try:
            self._parser.feed(data)
        except Problem as problem:
            self._refuse(problem)
            return
        self._deaf = self._parser.enough
        if self._parser.in_head and not self._timed:
            self._timed = True
            self.deadline = self._loop.time() + self.bounds.head_time
        self._begin()

    def eof_received(self) -> bool:
        """Take it that the client has left: that it only sends no more cannot be told apart."""
        self._leave()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it all, but for a write that is being carried out."""
        self._leave()
        self._server.lost(self)

    def go_on(self) -> None:
        """Tell the client that its body is waited for."""
        self._transport.write(_CONTINUE)

    def _arrived(self, one: Received) -> None:
        if len(self._waiting) + (self._running is not None) >= self.bounds.pipelined:
            raise Problem("bad_request", f"{self.bounds.pipelined} requests are under way here")
        self._waiting.append(one)
        self._timed = False
        self.deadline = NEVER

    def _leave(self) -> None:
        self._deaf = True
        self._drop_waiting()
        if self._running and self._task:
            if self._running.given_up or self._running.waited_for:
                self._task.cancel()
                self._running.answer()  # the task may not even have begun
            else:  # a write is carried out, though nobody hears of it
                self._running.cut()
                self._server.left_behind(self._task)

    # what is carried out

    def _begin(self) -> None:
        if self._waiting and not (self._running or self._paused):
            self._running = self._waiting.popleft()
            self._task = self._loop.create_task(self._carry_out(self._running))

    async def _carry_out(self, one: Received) -> None:
        try:
            try:
                reply = await self._server.application(one)
                head = self._head(one, reply)
            except Exception as error:
                reply = self._server.refuse(error, one.method)
                head = self._head(one, reply)
            one.answer()
            self._answer(one, head, b"" if one.method == "HEAD" else reply.body)
        finally:
            self._running = None
            if not one.answered:  # given up: by the client, or at the server's end
                one.answer()
                self._transport.abort()

    def _head(self, one: Received | None, reply: Reply) -> bytes:
        if one and (self._server.ending or one.in_doubt):
            one.keep = False
        return reply.head(self._server.date, last=not (one and one.keep))

    def _answer(self, one: Received, head: bytes, body: bytes) -> None:
        self._running = None
        if self._transport.is_closing():
            return
        self._write(head, body)
        if not one.keep:
            self._hang_up()
        elif self._refusal:
            self._say_refusal(self._refusal)
        elif not one.whole:  # the rest of its body is still to come, and to be dropped
            self.deadline = self._loop.time() + self.bounds.body_time
        elif not self._waiting and not self._parser.in_head:
            self.deadline = self._loop.time() + self.bounds.idle
        self._begin()

    def _write(self, head: bytes, body: bytes) -> None:
        if len(body) < self.bounds.unread:
            self._transport.write(head + body)  # one system call
        else:
            self._transport.writelines((head, body))  # not copied

    # what is refused

    def _refuse(self, problem: Problem) -> None:
        """Look at nothing more that comes; what is wrong concerns the connection."""
        self._deaf = True
        self.deadline = NEVER
        one = self._parser.request
        if one and not one.whole and one.answered:
            self._hang_up()  # nothing waits behind a body that is still to come
        elif one and not one.whole and one is self._running:
            one.keep = False
            one.fail(problem)  # its own answer says it
        else:
            self._drop_waiting()
            self._refusal = problem
            if not self._running:
                self._say_refusal(problem)

    def _say_refusal(self, problem: Problem) -> None:
        reply = self._server.refuse(problem, "-")
        self._write(self._head(None, reply), reply.body)
        self._hang_up()

    def _drop_waiting(self) -> None:
        for one in self._waiting:
            one.answer()
        self._waiting.clear()

    def _hang_up(self) -> None:
        # to close while something comes in would make the kernel take back what the client has not read yet
        self._deaf = True
        self._drop_waiting()
        self._transport.write_eof()
        whole = not (one := self._parser.request) or one.whole
        self.deadline = self._loop.time() + (self.bounds.linger if whole else self.bounds.body_time)

    # what goes out, and time

    def pause_writing(self) -> None:
        """Note that much of an answer is unread."""
        self._paused = True
        self.look(self._loop.time())
        self._server.more_unread(self.unread)

    def resume_writing(self) -> None:
        """Go on, since most of it is read now."""
        self._paused = False
        self._begin()

    def sweep(self, now: float) -> None:
        """See whether something is late."""
        if self.unread or self._transport.get_write_buffer_size():
            self.look(now)
        one = self._parser.request
        if self.unread:
            if now - self.since > self.bounds.stall:
                self.abort()
            elif not self._running and not self._deaf and not self._parser.in_head:
                self.deadline = now + self.bounds.idle  # which begins when all is read
        elif one and now > one.late and not self._deaf:
            self._refuse(Problem("too_slow", "the body did not come in time"))
        elif now > self.deadline:
            if self._parser.in_head and not self._deaf:
                self._refuse(Problem("too_slow", "the head did not come in time"))
            else:
                self._transport.close()

    def look(self, now: float) -> None:
        """See how much is unread, and whether any of it has been read."""
        size = self._transport.get_write_buffer_size()
        if not size or not self.unread or self._mark - size >= self.bounds.unread:
            self._mark, self.since = size, now
        self._mark = max(self._mark, size)
        self.unread = size

    def finish(self) -> None:
        """Close when nothing is carried out here, else after that; nobody is waited for long any more."""
        self.bounds = self._server.bounds
        soon = self._loop.time() + self.bounds.body_time
        if self._deaf:
            self.deadline = min(self.deadline, soon)
        elif not self._running:
            self._leave()
            self._transport.close()
        elif not self._running.whole:
            self._running.late = min(self._running.late, soon)

    def abort(self) -> None:
        """Close at once, whatever is unread."""
        self._transport.abort()
