"""The bytes of a connection become requests: each head within its bounds, each body handed on as it comes."""

from collections.abc import Callable

import httptools

from server.http.errors import Problem
from server.http.request import Received, Source

_NOT_HTTP = "these bytes are no request that is understood here"


class _Enough(Exception):
    """What follows is not looked at."""


class Parser:
    """Takes bytes apart with llhttp.

    `in_head`: a head has begun; `request`: the newest one whose head is whole; `enough`: nothing may follow it.
    """

    def __init__(self, source: Source, arrived: Callable[[Received], None]) -> None:
        """Call `arrived` with each request as soon as its head is whole; what that raises, `feed` raises."""
        self.in_head = self.enough = False
        self.request: Received | None = None
        self._source = source
        self._arrived = arrived
        self._bounds = source.bounds
        self._parser = httptools.HttpRequestParser(self)
        self._coming = 0

    def feed(self, data: bytes) -> None:
        """Take what came. Raises Problem: no more is understood, or wanted, on this connection."""
        self._coming = len(data)
        if self.in_head:
            self._size += self._coming
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if not self.enough:
                cause = error.__context__
                raise cause if isinstance(cause, Problem) else _bad(_NOT_HTTP) from None
        except httptools.HttpParserError:
            raise _bad(_NOT_HTTP) from None
        if self.in_head and self._size - self._first > self._bounds.head:
            raise self._too_large()

    # what llhttp calls

    def on_message_begin(self) -> None:
        """Begin a head, somewhere in what came now."""
        self.in_head = True
        self._size = self._first = self._coming  # or less: what is before it is not its own
        self._lines = 0
        self._target = b""
        self._headers: dict[str, str] = {}

    def on_url(self, part: bytes) -> None:
        """Take a piece of the target."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._lines += 1
        if self._lines > self._bounds.lines:
            raise self._too_large()
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in self._headers:
            if key == "host":
                raise _bad("a request has one Host")
            text = f"{self._headers[key]},{text}"
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        """Make a request of a whole head."""
        if self._parser.should_upgrade():
            return
        version, coding = self._parser.get_http_version(), self._headers.get("transfer-encoding")
        self._check_head(version, coding)
        if version == "1.0":
            self._headers.pop("expect", None)  # it knows of no 100 Continue
        self.in_head = False
        keep = version == "1.1" and coding is None and self._parser.should_keep_alive()
        method = self._parser.get_method().decode("latin-1")
        target = _in_origin_form(self._target).decode("latin-1")
        self.request = Received(self._source, method, target, self._headers, keep)
        self._arrived(self.request)
        if coding:  # a body in chunks is not taken, however long it is, nor the headers behind it
            self.enough = True
            raise _Enough

    def on_body(self, part: bytes) -> None:
        """Take a piece of the body."""
        assert self.request
        self.request.take(part)

    def on_message_complete(self) -> None:
        """End the body, if there is any."""
        if self.request and not self.in_head:
            self.request.end()

    # the rest

    def _without_upgrade(self, rest: bytes) -> None:
        # a client that would rather speak another protocol may speak this one. llhttp now takes the body for that
        # other protocol, so it reads the head again, without the wish
        method = self._parser.get_method()
        if method == b"CONNECT":
            raise _bad("this is no proxy")
        version = self._parser.get_http_version()
        lines = [f"{name}: {text}\r\n" for name, text in self._headers.items() if name != "upgrade"]
        head = b"%s %s HTTP/%s\r\n" % (method, self._target, version.encode())
        self._parser = httptools.HttpRequestParser(self)
        self.in_head = False
        self.feed(head + "".join(lines).encode("latin-1") + b"\r\n" + rest)

    def _check_head(self, version: str, coding: str | None) -> None:
        if self._size > self._bounds.head and self._exact() > self._bounds.head:
            raise self._too_large()
        if version not in ("1.0", "1.1") or (version == "1.1" and "host" not in self._headers):
            raise _bad(_NOT_HTTP)
        if coding is not None and coding.lower() != "chunked":
            raise _bad(_NOT_HTTP)

    def _exact(self) -> int:
        headers = sum(len(name) + len(text) + 4 for name, text in self._headers.items())
        return len(self._target) + headers

    def _too_large(self) -> Problem:
        most = f"{self._bounds.head} bytes and {self._bounds.lines} headers"
        return Problem("head_too_large", f"the head of a request has at most {most}")


def _bad(detail: str) -> Problem:
    return Problem("bad_request", detail)


def _in_origin_form(target: bytes) -> bytes:
    # as a proxy is asked: http://host/path; whom it is for, Host says
    if target.startswith(b"/") or target == b"*":
        return target
    url = httptools.parse_url(target)
    return (url.path or b"/") + (b"?" + url.query if url.query is not None else b"")
