"""A proxy between a client and its server.

It swallows answers: what the client asked for happens, and the client never hears of it. It leads elsewhere when it
is turned, as an endpoint does in a failover. And it delays requests, so that those behind them may overtake.
"""

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Condition, Thread
from typing import TypeVar
from urllib.parse import urlsplit


class CuttingProxy(ThreadingTCPServer):
    """Forwards connections to `target`, a URL or a Unix socket; cuts the first `cuts` when their answer comes.

    `cut` and `reached` count the connections that were cut, and all of them.
    """

    daemon_threads = False
    block_on_close = True

    def __init__(self, target: str, cuts: int, address: tuple[str, int]) -> None:
        super().__init__(address, _Forward)
        self.target = target
        self.left = cuts
        self.cut = self.reached = 0
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.clients: set[socket.socket] = set()

    def turn(self, target: str) -> None:
        """Lead to another target from now on, and cut off whoever is connected."""
        self.target = target
        for client in list(self.clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def passing(self, data: bytes) -> None:
        """Called with what is about to be sent on, to either side."""


class DelayingProxy(CuttingProxy):
    """Holds back every second POST until a later one is answered, or for so many seconds: one that is sent
    before the answer to the one before it overtakes that.

    `held` counts those that were held back.
    """

    def __init__(self, target: str, seconds: float) -> None:
        super().__init__(target, 0, ("127.0.0.1", 0))
        self.seconds = seconds
        self.posts = self.held = self.answers = 0
        self.answered = Condition()

    def passing(self, data: bytes) -> None:
        with self.answered:
            if data.startswith(b"HTTP/1.1 "):
                self.answers += 1
                self.answered.notify_all()
            elif data.startswith(b"POST "):
                self.posts += 1
                before = self.answers
                if self.posts % 2:
                    self.held += 1
                    self.answered.wait_for(lambda: self.answers > before, self.seconds)


class _Forward(BaseRequestHandler):
    server: CuttingProxy
    request: socket.socket

    def setup(self) -> None:
        self.server.clients.add(self.request)

    def finish(self) -> None:
        self.server.clients.discard(self.request)

    def handle(self) -> None:
        self.server.reached += 1
        with _connected(self.server.target) as upstream:
            while True:
                readable, _, _ = select.select([self.request, upstream], [], [], 20)
                if not readable:
                    return
                if upstream in readable and self.server.left > 0:
                    self.server.left -= 1
                    self.server.cut += 1
                    return
                for source in readable:
                    with suppress(ConnectionError):
                        if data := source.recv(65536):
                            self.server.passing(data)
                            (upstream if source is self.request else self.request).sendall(data)
                            continue
                    return


def _connected(target: str) -> socket.socket:
    if target.startswith("/"):
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(target)
        return upstream
    parts = urlsplit(target)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


Proxy = TypeVar("Proxy", bound=CuttingProxy)


@contextmanager
def cutting(
    target: str, cuts: int, address: tuple[str, int] = ("127.0.0.1", 0)
) -> Iterator[CuttingProxy]:
    """Run a proxy, on a port of its own unless an address is given."""
    with _running(CuttingProxy(target, cuts, address)) as proxy:
        yield proxy


@contextmanager
def delaying(target: str, seconds: float) -> Iterator[DelayingProxy]:
    """Run a proxy that holds requests back, on a port of its own."""
    with _running(DelayingProxy(target, seconds)) as proxy:
        yield proxy


@contextmanager
def _running(proxy: Proxy) -> Iterator[Proxy]:
    with proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
