"""A server that does what its script says, well or badly, and remembers what it was asked."""

import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

# The longest that a planted hang lasts when a test goes wrong.
PATIENCE = 20.0
PATH = "/topics/orders/subscribers"
TIME = "2024-02-29T12:00:00.000001+00:00"


@dataclass
class Seen:
    """One request as it came in; `raw` is its body."""

    method: str
    target: str
    headers: dict[str, str]
    raw: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


# A step answers one request on its socket; it returns whether the connection goes on.
Step = Callable[["Hostile", socket.socket, Seen], bool]


@dataclass
class Hostile:
    """The scripted server: one step a request; when the script is through, 500 to everything."""

    script: list[Step]
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    connections: set[socket.socket] = field(default_factory=set)
    accepted: int = 0
    finished: list[str] = field(default_factory=list)
    closing: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)

    def next_step(self, seen: Seen) -> Step:
        with self.lock:
            self.seen.append(seen)
            return self.script.pop(0) if self.script else problem(500, "internal")


@contextmanager
def hostile(*script: Step, tls: ssl.SSLContext | None = None) -> Iterator[Hostile]:
    """Serve the script on a port of its own; at the end no thread and no socket is left."""
    state = Hostile(list(script))
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.state = state
        state.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            state.closing.set()
            server.shutdown()
            thread.join()
            with state.lock:
                for connection in state.connections:
                    with suppress(OSError):  # the client may have left a moment ago
                        connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingTCPServer):
    daemon_threads = False
    request_queue_size = 64
    state: Hostile


class _Handler(StreamRequestHandler):
    timeout = PATIENCE
    server: _Server

    def handle(self) -> None:
        state = self.server.state
        with state.lock:
            state.accepted += 1
            state.connections.add(self.connection)
        try:
            while self.answer_one(state):
                pass
        except OSError:
            pass  # the client, or the end of the test, closed the connection
        finally:
            with state.lock:
                state.connections.discard(self.connection)

    def answer_one(self, state: Hostile) -> bool:
        start = self.rfile.readline().split()
        if not start:
            return False
        headers = {}
        while line := self.rfile.readline().strip():
            name, value = line.decode().split(":", 1)
            headers[name.lower()] = value.strip()
        seen = Seen(start[0].decode(), start[1].decode(), headers)
        step = state.next_step(seen)
        if step not in (cut_unread, refuse_unread, read_slowly):
            seen.raw = self.rfile.read(int(headers.get("content-length", 0)))
        return step(state, self.connection, seen)


def raw(content: bytes, *, more: bool = False) -> Step:
    """Send these bytes, then cut the connection unless there is `more`."""

    def step(state: Hostile, connection: socket.socket, seen: Seen) -> bool:
        connection.sendall(content)
        return more

    return step


def http(status: int, body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    """Return a whole answer as bytes."""
    named = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{k}: {v}" for k, v in named.items())]
    return "\r\n".join(lines).replace("_", "-").encode() + b"\r\n\r\n" + body


def answer(body: Any, status: int = 200, **headers: str) -> Step:
    """Answer with JSON and keep the connection."""
    return raw(http(status, json.dumps(body).encode(), **headers), more=True)


def problem(status: int, code: str, *, after: str | None = None, **members: Any) -> Step:
    """Answer with a problem document."""
    headers = {} if after is None else {"Retry_After": after}
    return answer({"status": status, "code": code, **members}, status, **headers)


def busy(after: str | None = None) -> Step:
    """Answer 503: surely not done."""
    return problem(503, "unavailable", outcome="none", after=after)


def unsure() -> Step:
    """Answer 503: may have been done."""
    return problem(503, "unavailable", outcome="unknown")


def html(status: int = 200) -> Step:
    """Answer as a stray web server would."""
    return raw(http(status, b"<html>hello</html>", "text/html"), more=True)


def cut_unread(state: Hostile, connection: socket.socket, seen: Seen) -> bool:
    """Reset the connection without having read the body."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def refuse_unread(state: Hostile, connection: socket.socket, seen: Seen) -> bool:
    """Refuse the body for its length, without having read it, and leave."""
    problem(413, "body_too_large")(state, connection, seen)
    return False


def read_slowly(state: Hostile, connection: socket.socket, seen: Seen) -> bool:
    """Take half of the largest body, a little now and then: it takes more than a second."""
    for _ in range(512):
        connection.recv(2**14)
        state.closing.wait(0.002)
    state.finished.append("slow")
    return False


def cut(state: Hostile, connection: socket.socket, seen: Seen) -> bool:
    """Close the connection after the request was read, without an answer."""
    return False


def hang(state: Hostile, connection: socket.socket, seen: Seen) -> bool:
    """Say nothing until the test is over."""
    state.closing.wait(PATIENCE)
    state.finished.append("hang")
    return False


def trickle(content: bytes, pause: float = 0.01) -> Step:
    """Send one byte at a time: it takes pause × length seconds."""

    def step(state: Hostile, connection: socket.socket, seen: Seen) -> bool:
        for index in range(len(content)):
            connection.sendall(content[index : index + 1])
            state.closing.wait(pause)
        state.finished.append("trickle")
        return False

    return step


def topic(name: str = "orders", **changed: Any) -> dict[str, Any]:
    """Return a topic as the server would."""
    fields = {"description": None, "created_at": TIME, "floor": 1, "head": 0, "subscribers": 0}
    return {"topic": name, **fields, **changed}


def subscriber(name: str = "billing", **changed: Any) -> dict[str, Any]:
    """Return a subscriber as the server would."""
    fields = {"position": 0, "epoch": 1, "head": 0, "lag": 0, "created_at": TIME}
    return {"topic": "orders", "subscriber": name, **fields, **changed}


def message(offset: int, payload: Any = None) -> dict[str, Any]:
    """Return a message as the server would."""
    return {"offset": offset, "published_at": TIME, "payload": payload}


def stored(first: int, count: int = 1) -> Step:
    """Answer a publish."""
    offsets = {"first_offset": first, "last_offset": first + count - 1}
    return answer({"topic": "orders", **offsets, "count": count, "duplicate": False}, 201)


def fetched(*offsets: int, epoch: int = 1, position: int = 0) -> Step:
    """Answer a fetch with these offsets; a payload is its offset times ten."""
    messages = [message(offset, offset * 10) for offset in offsets]
    names = {"topic": "orders", "subscriber": "billing"}
    return answer({**names, "position": position, "epoch": epoch, "head": 99, "messages": messages})


LEASES = f"{PATH}/billing/leases"
EXPIRED = problem(409, "lease_expired")


def leased(
    *offsets: int, lease: str = "7-11", attempt: int = 1, keys: dict[int, str] | None = None
) -> Step:
    """Answer a lease with these offsets, or with nothing; a payload is its offset times ten."""
    messages = [
        message(offset, offset * 10)
        | {"attempt": attempt}
        | ({"key": keys[offset]} if keys and offset in keys else {})
        for offset in offsets
    ]
    held = {"lease": lease, "expires_at": TIME} if offsets else {"lease": None, "expires_at": None}
    return answer({"topic": "orders", "subscriber": "billing", **held, "messages": messages})


def done(acked: int, position: int = 0) -> Step:
    """Answer the ack of a lease."""
    return answer(
        {"acked": acked, "position": position, "epoch": 1, "head": 99, "lag": 99 - position}
    )


def given_back(nacked: int, dead: int = 0) -> Step:
    """Answer what gives messages of a lease back."""
    return answer({"nacked": nacked, "dead": dead})


def asked(state: Hostile, verb: str, lease: str = "7-11") -> list[Any]:
    """Return the bodies of what was asked of a lease."""
    return [seen.body for seen in state.seen if seen.path == f"{LEASES}/{lease}/{verb}"]


def acked(position: int, epoch: int = 1) -> Step:
    """Answer an ack."""
    return answer({"position": position, "epoch": epoch, "head": 99, "lag": 99 - position})


STALE = problem(409, "stale_epoch")


def acks(state: Hostile) -> list[tuple[int, int]]:
    """Return what billing acknowledged: offset and epoch of each ack."""
    sent = [seen.body for seen in state.seen if seen.path == f"{PATH}/billing/ack"]
    return [(body["offset"], body["epoch"]) for body in sent]


def waits(state: Hostile) -> list[float]:
    """Return how long each of billing's fetches was ready to wait."""
    sent = [seen for seen in state.seen if seen.path == f"{PATH}/billing/messages"]
    return [float(seen.query["wait"]) for seen in sent]


def made(kind: type[Any], answer: dict[str, Any]) -> Any:
    """Return a value of the client's, read from this answer."""
    return kind.from_json(json.dumps(answer).encode())
