"""Thousands of long polls from one process: a socket each, none of them blocking, all watched by one selector."""

from __future__ import annotations

import math
import resource
import selectors
import socket
import time
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from tests.bench.wire import body_of

_PATIENCE = 70.0  # seconds: longer than a long poll
_REST = 2.0  # seconds
_OTHERS = 256  # open files beside the sockets


class Polls:
    """So many connections to a server, known by their numbers; a context manager.

    Each is opened when it is first used, and kept. The server ends connections that rest, so after a rest
    `renew` is called, when nothing is under way.
    """

    def __init__(self, url: str, count: int) -> None:
        self._address = urlsplit(url)
        self._sockets: dict[int, socket.socket] = {}
        self._used = -math.inf
        _allow_open_files(count + _OTHERS)

    def __enter__(self) -> Polls:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def renew(self) -> None:
        """Close the connections if they rested."""
        if time.monotonic() > self._used + _REST:
            self._close()

    def send(self, paths: Mapping[int, str]) -> None:
        """Send a GET of a path over each of these connections."""
        for number, path in paths.items():
            request = f"GET {path} HTTP/1.1\r\nHost: {self._address.netloc}\r\n\r\n".encode()
            if number not in self._sockets:
                self._sockets[number] = self._connect()
            assert self._sockets[number].send(request) == len(request)

    def answers(self, numbers: Iterable[int]) -> list[bytes]:
        """Return the bodies of the answers over these connections, as soon as all are there, in the order they came.

        AssertionError when one is not 2xx, or late.
        """
        with selectors.DefaultSelector() as selector:
            for number in numbers:
                selector.register(self._sockets[number], selectors.EVENT_READ, bytearray())
            found: list[bytes] = []
            while selector.get_map():
                ready = selector.select(_PATIENCE)
                assert ready, f"{len(selector.get_map())} long polls are not answered"
                for key, _ in ready:
                    body = _received(key)
                    if body is not None:
                        selector.unregister(key.fileobj)
                        found.append(body)
        self._used = time.monotonic()
        return found

    def _connect(self) -> socket.socket:
        opened = socket.create_connection((self._address.hostname, self._address.port), _PATIENCE)
        opened.setblocking(False)
        return opened

    def _close(self) -> None:
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()


def _received(key: selectors.SelectorKey) -> bytes | None:
    """Read on; return the body when it is whole."""
    assert isinstance(key.fileobj, socket.socket)
    piece = key.fileobj.recv(65536)
    assert piece, "the server hung up"
    key.data.extend(piece)
    return body_of(key.data)


def _allow_open_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = hard == resource.RLIM_INFINITY or hard >= wanted
    assert allowed, f"this takes {wanted:,} open files, and ulimit -Hn allows {hard:,}"
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
