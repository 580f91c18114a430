"""A small application on the server's own connections, in a thread: no queue, no database, no process."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from secrets import token_hex

from server.http.bounds import Bounds
from server.http.errors import Problem
from server.http.reply import Reply, made, refusal
from server.http.request import Received
from server.http.serving import Application, Server, bind, listen
from tests.loop import Loop, looping

MIB = 2**20


def text(body: bytes) -> Reply:
    """Return a reply of plain text."""
    return made(200, "text/plain", body)


class Small:
    """What the application does, and what it has seen. `events` are in the order in which they happened."""

    def __init__(self, loop: Loop, bounds: Bounds, application: Application | None = None) -> None:
        self.loop = loop
        self.events: list[str] = []
        self.places = 5
        self.gate = loop.call(asyncio.Event)  # what waits goes on when it is set
        self.ended = loop.call(asyncio.Event)
        self.started = False
        self.server = loop.call(Server, application or self.answer, self.refuse, bounds)
        listener = bind("127.0.0.1", 0)
        listen(listener)
        self.port = int(listener.getsockname()[1])
        self.done = loop.submit(self.server.serve(listener, self.ended, self.ready, self.stop))

    def ready(self) -> None:
        self.started = True

    async def stop(self) -> None:
        self.events.append("stop")

    async def answer(self, request: Received) -> Reply:
        """Do what the path says."""
        return await getattr(self, "do_" + request.path.strip("/").partition("/")[0])(request)

    def refuse(self, error: Exception, method: str) -> Reply:
        """Tell a problem, as the server does."""
        problem = error if isinstance(error, Problem) else Problem("internal", "failed")
        self.events.append(f"refused {method} {problem.code}")
        return refusal(problem, token_hex(8))

    async def do_ping(self, request: Received) -> Reply:
        return text(b"pong")

    async def do_seen(self, request: Received) -> Reply:
        return text(f"{request.method} {request.path} {request.query} {request.headers}".encode())

    async def do_body(self, request: Received) -> Reply:
        body = await request.body()
        self.events.append(f"body {len(body)}")
        return text(b"%d" % len(body))

    async def do_early(self, request: Received) -> Reply:
        return text(b"early")

    async def do_big(self, request: Received) -> Reply:
        self.events.append("big")
        return text(b"x" * int(request.query))

    async def do_boom(self, request: Received) -> Reply:
        raise RuntimeError("boom")

    async def do_given_up(self, request: Received) -> Reply:
        raise asyncio.CancelledError

    async def do_bad_reply(self, request: Received) -> Reply:
        return Reply(200, [("X", "\N{SNOWMAN}")], b"")

    async def do_wait(self, request: Received) -> Reply:
        """Take one of the places until the gate is opened."""
        if not self.places:
            raise Problem("unavailable", "no place")
        self.places -= 1
        self.events.append("waits")
        try:
            await self.gate.wait()
            self.events.append("woken")
            return text(b"woken")
        finally:
            self.places += 1

    def connect(self, data: bytes = b"", *, receives: int | None = None) -> socket.socket:
        """Open a connection and send something; with a small buffer for what is received, if asked for."""
        one = socket.socket()
        if receives:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        one.settimeout(20)
        try:
            one.connect(("127.0.0.1", self.port))
            one.sendall(data)
        except OSError:
            one.close()
            raise
        return one

    def open_gate(self) -> None:
        """Let all that waits go on."""
        self.loop.call(self.gate.set)

    def end(self) -> None:
        """Tell the server that the end is near."""
        self.loop.call(self.ended.set)


@contextmanager
def small(application: Application | None = None, **bounds: float) -> Iterator[Small]:
    """Run a small server with some other bounds, looking at its connections all the time."""
    given = Bounds(**{"sweep": 0.01, "grace": 5.0, **bounds})  # type: ignore[arg-type]
    with looping() as loop:
        one = Small(loop, given, application)
        yield one
        one.open_gate()
        one.end()
        one.done.result(20)


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """Return a request without a body, on a connection that is kept."""
    lines = "".join(f"{line}\r\n" for line in ("Host: localhost", *headers))
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


def post(body: bytes, *headers: str, path: str = "/body", length: int | None = None) -> bytes:
    """Return a request with a body, on a connection that is kept."""
    announced = f"Content-Length: {len(body) if length is None else length}"
    return get(path, announced, *headers, method="POST") + body


def answer(one: socket.socket, *, head: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Read one answer: status, headers and body. A status of 0: the connection ended first."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = one.recv(1)
        if not piece:
            assert not got, got
            return 0, {}, b""
        got += piece
    first, *lines = got.decode("latin-1").strip().split("\r\n")
    headers = {n.lower(): v for n, v in (line.split(": ", 1) for line in lines)}
    size = 0 if head else int(headers.get("content-length", 0))
    body = b""
    while len(body) < size and (piece := one.recv(size - len(body))):
        body += piece
    return int(first.split()[1]), headers, body


def asked(server: Small, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send something over a connection of its own; return the first answer."""
    with closing(server.connect(data)) as one:
        return answer(one, head=data.startswith(b"HEAD"))


def ended(one: socket.socket) -> bool:
    """Whether the server has ended the connection, waiting for it; nothing more may have come."""
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True
