"""A session for one server that takes nothing on trust.

A session of `requests` says what an address means and owns the pool, in which `urllib3` connects,
speaks TLS and keeps what is idle; a request itself goes straight to a connection of the pool, in one
piece, since the two take four times as long over it as all the rest. What they lack is here in one
place: a connect timeout of theirs also bounds the sending of a body, for which it is too short, and a
read timeout each wait for the next byte. Here connecting has a bound of its own, and one deadline
holds for all, but for two things that nobody can cut short from outside: the lookup of a name, and
that each address of a name is tried for as long as the first one was.
"""

from __future__ import annotations

import errno
import os
import socket
from http.client import HTTPException
from queue import Empty, Full
from threading import Lock
from time import monotonic
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ClosedPoolError, HTTPError, SSLError

from qlib.received import Received, receive

FAILURES = (OSError, HTTPException, HTTPError)
"""What an exchange raises: the errors of `requests` are OSErrors, too."""

_CONNECTIONS_KEPT = 32
_CONNECT_SECONDS = 3.0
# The server may well have answered before it had read all, and left.
_HUNG_UP = (errno.EPIPE, errno.ECONNRESET, errno.EPROTOTYPE)


class NotSent(ConnectionError):
    """No byte of the request went out; its cause says why."""


class _Connection(HTTPConnection):
    def __init__(self, host: str, *args: Any, **kwargs: Any) -> None:
        # `requests` leaves the % before the zone of an IPv6 address as URLs have it
        super().__init__(host.replace("%25", "%"), *args, **kwargs)
        self.deadline = 0.0

    def _new_conn(self) -> socket.socket:
        self.timeout = min(_left(self.deadline), _CONNECT_SECONDS)
        sock = super()._new_conn()
        # For TLS' greetings, which come next; without time for them they end at once.
        sock.settimeout(max(self.deadline - monotonic(), 0.001))
        return sock

    def exchange(self, message: bytes, deadline: float) -> Received:
        """Send a request as it is and return the answer."""
        self._ready(deadline)
        taken = self._send(message, deadline)
        received = receive(self.sock, deadline)
        if not (taken and received.goes_on):
            self.close()
        return received

    def _ready(self, deadline: float) -> None:
        try:
            if self.sock is None:
                self.deadline = deadline
                self.connect()
            _left(deadline)
        except (OSError, HTTPError) as error:
            raise NotSent("nothing was sent") from error

    def _send(self, message: bytes, deadline: float) -> bool:
        """Send it, and tell whether all of it was taken.

        `sendall` of a TLS socket has the whole timeout for each 16 KiB.
        """
        rest = memoryview(message)
        try:
            while rest:
                self.sock.settimeout(_left(deadline))
                rest = rest[self.sock.send(rest) :]
        except OSError as error:
            if error.errno not in _HUNG_UP:
                raise
        return not rest

    def written(self, headers: dict[str, str]) -> bytes:
        """Return these headers, and the host's, as `http.client` writes them; nothing is sent."""
        pieces: list[bytes] = []
        self.send = pieces.append  # type: ignore[method-assign,assignment]
        self.request("GET", "/", headers=headers)
        return b"".join(pieces).partition(b"\r\n")[2].removesuffix(b"\r\n")


class _SecureConnection(_Connection, HTTPSConnection):
    @property
    def is_connected(self) -> bool:
        """Whether it is idle as it should be: what nobody asked for may be deciphered already."""
        sock: Any = self.sock
        return super().is_connected and not sock.pending()


class _Idle:
    """Keeps what is idle without a lock, which a fork may leave held for ever.

    A list takes and gives in one step; a few too many, taken at the same time, do no harm.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[Any] = []

    def get(self, block: bool = False, timeout: float | None = None) -> Any:
        try:
            return self._kept.pop()
        except IndexError:
            raise Empty from None

    def put(self, connection: Any, block: bool = False) -> None:
        if self.qsize() >= self._most:
            raise Full
        self._kept.append(connection)

    def qsize(self) -> int:
        return len(self._kept)


class _Pool(HTTPConnectionPool):
    QueueCls: Any = _Idle
    ConnectionCls: Any = _Connection

    def exchange(self, message: bytes, seconds: float) -> Received:
        """Send a request over a connection that is idle, or new, and return the answer."""
        deadline = monotonic() + seconds
        connection: Any = self._get_conn()
        try:
            return connection.exchange(message, deadline)  # type: ignore[no-any-return]
        except BaseException:
            connection.close()
            raise
        finally:
            self._put_conn(connection)


class _SecurePool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class BoundedAdapter(HTTPAdapter):
    """An adapter of `requests` whose pools hold connections with a deadline."""

    def __init__(self) -> None:
        """Keep enough idle connections for a process full of threads."""
        super().__init__(pool_maxsize=_CONNECTIONS_KEPT)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Put the bounded connections in the place of the plain ones."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


class _Way(NamedTuple):
    """Where requests go, and what stands in the head of each."""

    pool: _Pool
    path: str
    head: bytes


class Session:
    """Sends requests to one server: no proxies, no .netrc, no cookies, no redirects.

    TLS certificates are verified, against $REQUESTS_CA_BUNDLE when it is set. Threads may share it.
    """

    def __init__(self, url: str, token: str | None = None, client: str | None = None) -> None:
        """Prepare the headers that all requests share; nothing is sent yet."""
        self._url = url
        self._way: _Way | None = None
        self._lock = Lock()
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self._session.mount(url, BoundedAdapter())
        headers = self._session.headers
        headers.update({"Accept": "application/json", "Content-Type": "application/json"})
        headers.update({"Accept-Encoding": "identity", "User-Agent": "qlib"})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if client:
            headers["Queue-Client"] = client

    def exchange(self, method: str, target: str, body: bytes | None, seconds: float) -> Received:
        """Send one request and return the answer; the seconds bound all of it together.

        `target` is what comes behind the server's address, encoded. Raises one of `FAILURES`: the
        errors of `requests` for an address that cannot be used, NotSent, urllib3's ClosedPoolError
        when it is closed again and again, OSError and HTTPException when it fails.
        """
        try:
            return self._exchange(method, target, body, seconds)
        except ClosedPoolError:  # by another thread, and nothing was sent
            return self._exchange(method, target, body, seconds)

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        with self._lock:  # whoever looks for a way meanwhile waits, and finds a new pool
            way, self._way = self._way, None
            if way:
                # now: by itself it waits until nothing refers to it, an exception's traceback, say
                way.pool.close()
            self._session.close()

    def _exchange(self, method: str, target: str, body: bytes | None, seconds: float) -> Received:
        way = self._way or self._found()
        length = b"" if body is None and method == "GET" else b"%d" % len(body or b"")
        sized = b"Content-Length: %b\r\n" % length if length else b""
        first = f"{method} {way.path}{target} HTTP/1.1\r\n".encode("ascii")
        message = b"".join((first, way.head, sized, b"\r\n", body or b""))
        return way.pool.exchange(message, seconds)

    def _found(self) -> _Way:
        """Return the way, the same for all threads."""
        with self._lock:
            if not self._way:
                verify = self._session.verify
                address: Any = self._session.prepare_request(requests.Request("GET", self._url))
                adapter: Any = self._session.get_adapter(self._url)
                pool = adapter.get_connection_with_tls_context(address, verify)
                try:
                    adapter.cert_verify(pool, address.url, verify, None)
                except OSError as error:  # no such file
                    raise NotSent("nothing was sent") from SSLError(error)
                head = pool._new_conn().written(address.headers)
                self._way = _Way(pool, address.path_url.rstrip("/"), head)
            return self._way


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("there was no time left to send it")
    return left
