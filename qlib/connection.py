"""A session for one server that takes nothing on trust.

`requests` owns the pools of connections, TLS and what an address means; a request itself goes straight
to a connection of its pool, in one piece, since `requests` and `urllib3` take four times as long over
it as all the rest. What they lack is here in one place: a connect timeout of theirs also bounds the
sending of a body, for which it is too short, and a read timeout each wait for the next byte. Here
connecting has a bound of its own, and one deadline holds for all.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import cached_property
from time import monotonic
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from qlib.received import Received, receive

_CONNECTIONS_KEPT = 32
_CONNECT_SECONDS = 3.0
# The server may well have answered before it had read all, and left.
_HUNG_UP = (errno.EPIPE, errno.ECONNRESET, errno.EPROTOTYPE)


class _Connection(HTTPConnection):
    def __init__(self, host: str, *args: Any, **kwargs: Any) -> None:
        # `requests` leaves the % before the zone of an IPv6 address as URLs have it
        super().__init__(host.replace("%25", "%"), *args, **kwargs)

    def _new_conn(self) -> socket.socket:
        sending, self.timeout = self.timeout, min(self.timeout or 0.0, _CONNECT_SECONDS)
        try:
            sock = super()._new_conn()
        finally:
            self.timeout = sending
        sock.settimeout(sending)
        return sock

    def exchange(self, message: bytes, deadline: float) -> Received:
        """Send a request as it is and return the answer."""
        if self.sock is None:
            self.timeout = _left(deadline)
            self.connect()
        self.sock.settimeout(_left(deadline))
        try:
            self.sock.sendall(message)
        except OSError as error:
            if error.errno not in _HUNG_UP:
                raise
        received = receive(self.sock, deadline)
        if not received.goes_on:
            self.close()
        return received

    def written(self, headers: dict[str, str]) -> bytes:
        """Return these headers, and the host's, as `http.client` writes them; nothing is sent."""
        pieces: list[bytes] = []
        self.send = pieces.append  # type: ignore[method-assign,assignment]
        self.request("GET", "/", headers=headers)
        return b"".join(pieces).partition(b"\r\n")[2].removesuffix(b"\r\n")


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
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
    """A door for `requests.Session` whose pools hold connections with a deadline."""

    def __init__(self) -> None:
        """Keep enough idle connections for a process full of threads."""
        super().__init__(pool_maxsize=_CONNECTIONS_KEPT)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Put the bounded connections in the place of the plain ones."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def close(self) -> None:
        """Close the connections now: urllib3 waits until nothing refers to their pool any more.

        An exception that somebody keeps does, through its traceback.
        """
        for key in self.poolmanager.pools.keys():  # noqa: SIM118 (no mapping: it cannot be iterated)
            self.poolmanager.pools[key].close()
        super().close()


class _Way(NamedTuple):
    """Where requests go, and what stands in the head of each."""

    pool: _Pool
    path: str
    head: bytes


class Session(requests.Session):
    """Sends requests to one server: no proxies, no .netrc, no cookies, no redirects.

    TLS certificates are verified, against $REQUESTS_CA_BUNDLE when it is set.
    """

    def __init__(self, url: str, token: str | None = None, client: str | None = None) -> None:
        """Prepare the headers that all requests share; nothing is sent yet."""
        super().__init__()
        self._url = url
        self.trust_env = False
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self.mount("http://", BoundedAdapter())
        self.mount("https://", BoundedAdapter())
        self.headers.update(
            {
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": "qlib",
            }
        )
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        if client:
            self.headers["Queue-Client"] = client

    def exchange(self, method: str, target: str, body: bytes | None, seconds: float) -> Received:
        """Send one request and return the answer; the seconds bound all of it together.

        `target` is what comes behind the server's address, encoded. Raises the errors of `requests`
        for an address that cannot be used, those of `urllib3` when there is no connection, OSError
        and `http.client.HTTPException` when it fails.
        """
        way = self._way
        length = b"" if body is None and method == "GET" else b"%d" % len(body or b"")
        sized = b"Content-Length: %b\r\n" % length if length else b""
        first = f"{method} {way.path}{target} HTTP/1.1\r\n".encode("ascii")
        message = b"".join((first, way.head, sized, b"\r\n", body or b""))
        return way.pool.exchange(message, seconds)

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self.__dict__.pop("_way", None)
        super().close()

    @cached_property
    def _way(self) -> _Way:
        address = self.prepare_request(requests.Request("GET", self._url))
        adapter: Any = self.get_adapter(self._url)
        pool = adapter.get_connection_with_tls_context(address, self.verify)
        adapter.cert_verify(pool, address.url, self.verify, None)
        return _Way(pool, address.path_url.rstrip("/"), pool._new_conn().written(address.headers))


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("there was no time left to send it")
    return left
