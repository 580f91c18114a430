"""A request as it is asked for its parts, and the one that comes in over a connection."""

import asyncio
from typing import Protocol
from urllib.parse import unquote_to_bytes

from server.http.bounds import MAX_BODY, NEVER, Bounds
from server.http.errors import Problem

_WITH_BODY = ("POST", "PUT", "PATCH", "DELETE")  # what others send is dropped


class Request(Protocol):
    """What a handler sees of a request.

    `path` is percent-decoded once, its bytes as latin-1, as in WSGI's PATH_INFO; `query` is as it came, without "?".
    `given_up`: what carries it out is cancelled when its client leaves.
    """

    method: str
    path: str
    query: str
    given_up: bool

    def header(self, name: str) -> str | None:
        """Return a header by its name in lower case; several of one name are joined by commas."""

    async def body(self) -> bytes:
        """Return the whole body, once: it is not kept.

        Raises Problem: 411, 413, 408 when it is late, 400 when it is cut, 503 when too many come in.
        """


class Bodies:
    """The bytes of all bodies that are held at the moment."""

    def __init__(self, most: int) -> None:
        """Hold nothing yet, and never more than that."""
        self.held = 0
        self._most = most

    def take(self, size: int) -> bool:
        """Make room for so many bytes; False when there is none."""
        if self.held + size > self._most:
            return False
        self.held += size
        return True


class Source(Protocol):
    """What a request comes in over, and the bounds there."""

    bounds: Bounds
    bodies: Bodies

    def go_on(self) -> None:
        """Tell the client that its body is waited for (100 Continue)."""


class Received:
    """A request whose head is here and whose body may still be on its way.

    A body is counted while it comes: what a client only announces costs nothing. `late` is when it has to be whole.
    """

    __slots__ = (
        "_expects",
        "_length",
        "_parts",
        "_problem",
        "_size",
        "_source",
        "_waiter",
        "answered",
        "given_up",
        "headers",
        "keep",
        "late",
        "method",
        "path",
        "query",
        "whole",
    )

    def __init__(
        self, source: Source, method: str, target: str, headers: dict[str, str], keep: bool
    ) -> None:
        """Take a head apart; `keep` says that another request may follow on the connection."""
        path, _, self.query = target.partition("?")
        self.path = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
        self.method = method
        self.headers = headers
        self.keep = keep
        self.whole = self.answered = False
        self.given_up = method in ("GET", "HEAD")  # else what was begun is carried out
        self.late = NEVER
        self._source = source
        self._size = 0
        self._parts: list[bytes] = []
        self._problem: Problem | None = None
        self._waiter: asyncio.Future[None] | None = None
        length = headers.get("content-length")
        self._length = -1 if length is None else int(length)
        self._expects = headers.get("expect", "").lower() == "100-continue"

    def header(self, name: str) -> str | None:
        """See `Request`."""
        return self.headers.get(name)

    async def body(self) -> bytes:
        """See `Request`. It is counted until the answer: what is made of it takes as much room."""
        await self.arrival()
        parts, self._parts = self._parts, []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def arrival(self) -> None:
        """Wait until the body is whole. Raises what `body` raises; is cancelled when the client leaves."""
        if self._length < 0:  # one in chunks that is cut could not be told from one that has ended
            raise Problem("length_required", "send the body with a Content-Length, not in chunks")
        if self._length > MAX_BODY:
            said = f"a body has at most {MAX_BODY} bytes; this one has {self._length}"
            raise Problem("body_too_large", said)
        if not self.whole and not self._problem:
            await self._rest()
        if self._problem:
            raise self._problem

    async def _rest(self) -> None:
        if self._expects and not self._size:
            self._source.go_on()
            self._expects = False
        loop = asyncio.get_running_loop()
        self.late = loop.time() + self._source.bounds.body_time
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self.late = NEVER

    @property
    def waited_for(self) -> bool:
        """Whether somebody waits for the rest of the body."""
        return self._waiter is not None

    @property
    def in_doubt(self) -> bool:
        """Whether the body may follow or not: the client has not been told to send it."""
        return self._expects and not self.whole

    def take(self, data: bytes) -> None:
        """Keep a piece of the body, unless nobody is going to want it."""
        if self.answered or self._problem or self.method not in _WITH_BODY:
            return
        if not 0 <= self._length <= MAX_BODY:
            return
        if self._source.bodies.take(len(data)):
            self._size += len(data)
            self._parts.append(data)
        else:
            self.fail(Problem("unavailable", "too many requests are being received"))

    def end(self) -> None:
        """Say that the body is whole."""
        self.whole = True
        self._wake()

    def fail(self, problem: Problem) -> None:
        """Say that the body will never be whole, and why."""
        self._problem = self._problem or problem
        self._release()
        self._wake()

    def cut(self) -> None:
        """Say that no more of the body comes."""
        if not self.whole:
            self.fail(Problem("bad_request", "the client left before the body was whole"))

    def answer(self) -> None:
        """Say that the request has its answer: nobody wants its body any more."""
        self.answered = True
        self._release()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _release(self) -> None:
        self._source.bodies.held -= self._size
        self._size = 0
        self._parts = []
