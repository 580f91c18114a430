"""A session for one server that takes nothing on trust: what `requests` lacks, in one place.

A read timeout bounds each wait for the next byte, so a peer that sends one byte now and then can
hold a caller for ever. Here it bounds the whole answer. And a connect timeout also bounds the
sending of a body, for which it is too short; here the two are apart.
"""

from __future__ import annotations

import io
import os
import socket
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from time import monotonic
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_CONNECTIONS_KEPT = 32
_CONNECT_SECONDS = 3.0


class _BoundedReader(io.RawIOBase):
    """Reads a socket; all its waits together last no longer than the socket's timeout."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._deadline = monotonic() + (sock.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = io.BufferedReader(_BoundedReader(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    response_class = _BoundedResponse

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


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class BoundedAdapter(HTTPAdapter):
    """A door for `requests.Session` that keeps the `total` of a `urllib3.Timeout` to the end.

    It bounds connecting (3 seconds at most), sending and the whole answer together.
    """

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


class Session(requests.Session):
    """Sends requests to one server: no proxies, no .netrc, no cookies, no redirects.

    TLS certificates are verified, against $REQUESTS_CA_BUNDLE when it is set.
    """

    def __init__(self, token: str | None, client: str | None = None) -> None:
        """Prepare the headers that all requests share; nothing is sent yet."""
        super().__init__()
        self.trust_env = False
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
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

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return nothing: even a redirect that is not followed would be read without a limit."""
