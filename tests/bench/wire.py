"""HTTP as thin as it gets: so little of the time is the client's that the server is what is measured."""

from __future__ import annotations

import math
import re
import socket
import time
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PATIENCE = 60.0  # seconds
_REST = 3.0  # seconds


class Wire:
    """One connection to the server, kept open; a context manager.

    The server ends connections that rest, so one that rested is opened anew.
    """

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._socket = socket.socket()
        self._used = -math.inf

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, path: str, expected: str = "2") -> bytes:
        """Send a GET; return the body of the answer. AssertionError unless its status begins as expected."""
        request = f"GET {path} HTTP/1.1\r\nHost: {self._address.netloc}\r\n\r\n"
        return self._ask(request.encode(), expected)

    def post(self, path: str, body: bytes) -> bytes:
        """Send a POST; return the body of the answer. AssertionError unless it is 2xx."""
        return self._ask(self.request(path, body))

    def begin(self, path: str, body: bytes) -> None:
        """Send a POST whose answer `end` returns."""
        self._send(self.request(path, body))

    def end(self) -> bytes:
        """Return the body of the answer, as `post` does."""
        return self._answer("2")

    def request(self, path: str, body: bytes) -> bytes:
        """Return a POST as it goes over the wire."""
        head = f"POST {path} HTTP/1.1\r\nHost: {self._address.netloc}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def _connect(self) -> None:
        self._socket.close()
        address = (self._address.hostname, self._address.port)
        self._socket = socket.create_connection(address, _PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _ask(self, request: bytes, expected: str = "2") -> bytes:
        self._send(request)
        return self._answer(expected)

    def _send(self, request: bytes) -> None:
        if time.monotonic() > self._used + _REST:
            self._connect()
        self._socket.sendall(request)

    def _answer(self, expected: str) -> bytes:
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more(65536)
        length = _length(bytes(received[:end]), received, expected)
        body = received[end + 4 :]
        while (missing := length - len(body)) > 0:
            body += self._more(missing)
        self._used = time.monotonic()
        return bytes(body)

    def _more(self, size: int) -> bytes:
        piece = self._socket.recv(size)
        assert piece, "the server hung up"
        return piece


def body_of(received: bytes | bytearray) -> bytes | None:
    """Return the body of an answer, None while it is not whole. AssertionError unless it is 2xx."""
    head, end, body = bytes(received).partition(b"\r\n\r\n")
    return body if end and len(body) >= _length(head, received) else None


def _length(head: bytes, received: bytes | bytearray, expected: str = "2") -> int:
    assert head.startswith(f"HTTP/1.1 {expected}".encode()), received
    length = _LENGTH.search(head)
    assert length, head
    return int(length[1])
