"""The one door to the server: session, time limits, retries, and what each failure means."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from qlib import answers
from qlib.attempts import Attempts, Outage, pauses
from qlib.checks import name, seconds, text
from qlib.connection import FAILURES, Session
from qlib.errors import (
    InvalidRequest,
    MessageTooLarge,
    OutcomeUnknown,
    QueueError,
    UnreadableAnswer,
)
from qlib.process import OfProcess
from qlib.received import LARGEST, Received

Answer = TypeVar("Answer")
Read: TypeAlias = Callable[[bytes], Answer]
Salvage: TypeAlias = Callable[[bytes, bool], Answer | None]

_DEFAULT_URL = "http://127.0.0.1:8008"
_LARGEST_REQUEST = 16 * 2**20


class Reply(NamedTuple):
    """What came with a good answer, beside its JSON; `headers` have names in lower case.

    `doubt` tells that an earlier attempt may have been carried out, too.
    """

    status: int
    headers: Mapping[str, str]
    doubt: bool


class _Own:
    """The connections of one process, and the name by which the server knows its requests."""

    def __init__(self, url: str, token: str | None, named: bool) -> None:
        self._settings = url, token, named
        self.client = uuid4().hex if named else None
        self.session = Session(url, token, self.client)

    def anew(self) -> _Own:
        # A child must not share its parent's sockets: their answers would get mixed.
        return _Own(*self._settings)


class Transport:
    """Sends requests to one server; threads may share it, and a forked child may go on using it.

    `url` falls back to $QUEUE_URL, then to http://127.0.0.1:8008; `token` to $QUEUE_TOKEN, then to
    none. `timeout` is in seconds and bounds each call with all its retries. Raises InvalidRequest
    when one of them cannot be used. A `named` one tells the server a random name, `client`, by
    which it knows its requests; a forked child has another.
    """

    def __init__(
        self, url: str | None, token: str | None, timeout: float, *, named: bool = False
    ) -> None:
        """Check the settings; nothing is sent yet."""
        self.url = text(url or os.environ.get("QUEUE_URL") or _DEFAULT_URL, "the URL").rstrip("/")
        token = token or os.environ.get("QUEUE_TOKEN")
        self._timeout = seconds(timeout, "timeout must be above 0 seconds", lambda s: s > 0)
        _check(self.url, token)
        self._own = OfProcess(_Own(self.url, token, named))

    @property
    def client(self) -> str | None:
        """The name that this process has told the server."""
        return self._own[os.getpid()].client

    def request(
        self,
        method: str,
        path: tuple[str, ...],
        read: Read[Answer],
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        repeatable: bool = False,
        wait: float | None = None,
        outage: Outage | None = None,
        salvage: Salvage[Answer] | None = None,
        heard: Callable[[Reply], None] | None = None,
    ) -> Answer:
        """Send one request, again where that is safe, and return what `read` makes of the answer.

        `path` holds names. `read` gets the answer's bytes and may raise TypeError, ValueError or
        RecursionError when they break the contract; `salvage` may then still make something of
        them (False: of the first ones), or None. `heard` is told what came beside a good answer.
        `wait` is the long poll's length in seconds, granted on top of the timeout, and travels in the
        query, or in the JSON object that is the body. An `outage` ends the attempts with it, and is
        told when it begins.

        A request that was surely not done because the server is unavailable is sent again; one of
        unknown outcome only when it is a GET or `repeatable`; a long poll then asks for no more
        than what is left. Raises the error of the last attempt; but when an earlier attempt may
        have changed something, OutcomeUnknown, and of a GET never that.
        """
        # Another name would make the request go to another route.
        target = "/".join(["", *map(name, path)])
        if body is not None and len(body) > _LARGEST_REQUEST:
            raise MessageTooLarge(f"the request is {len(body)} bytes, at most {_LARGEST_REQUEST}")
        attempts = Attempts(
            method, target, query or {}, body, repeatable, self._timeout, wait, outage
        )
        return self._carried_out(attempts, read, salvage, heard)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    @property
    def _session(self) -> Session:
        return self._own[os.getpid()].session

    def _carried_out(
        self,
        attempts: Attempts,
        read: Read[Answer],
        salvage: Salvage[Answer] | None,
        heard: Callable[[Reply], None] | None,
    ) -> Answer:
        for pause in pauses():
            try:
                received = self._exchange(attempts)
                answer = _read(attempts.method, received, read, salvage)
            except QueueError as error:
                time.sleep(attempts.pause_after(error, pause))
                continue
            if heard:
                heard(Reply(received.status, received.headers, attempts.doubt))
            return answer
        raise AssertionError  # the pauses never end

    def _exchange(self, attempts: Attempts) -> Received:
        query, body, seconds = attempts.next()
        target = f"{attempts.target}?{urlencode(query)}" if query else attempts.target
        try:
            return self._session.exchange(attempts.method, target, body, seconds)
        except FAILURES as error:
            raise answers.failure(error, self.url) from error


def _read(
    method: str, received: Received, read: Read[Answer], salvage: Salvage[Answer] | None
) -> Answer:
    status, content, whole = received.status, received.content, received.whole
    if not 200 <= status < 300:
        raise answers.refusal(received)
    try:
        if not whole:
            raise ValueError(f"it is longer than {LARGEST} bytes")
        return read(content)
    except (TypeError, ValueError, RecursionError) as error:
        salvaged = salvage(content, whole) if salvage else None
        if salvaged is not None:
            return salvaged
        detail = f"the answer is not what the contract says: {error!r:.200}"
        if not whole and method == "GET":
            raise UnreadableAnswer(detail, status=status) from error  # not again
        raise OutcomeUnknown(detail, status=status if received.is_delimited else None) from error


def _check(url: str, token: str | None) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise InvalidRequest(f"this is not a URL: {error}") from error  # it may hold a password
    # `requests` would send a user in the URL in the place of the token.
    if not usable or parts.username is not None or parts.query or parts.fragment:
        raise InvalidRequest("the URL must look like http://host:port")
    if token is not None and not isinstance(token, str):
        raise InvalidRequest("the token is a text")  # and not shown
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise InvalidRequest("the token holds characters that a header cannot carry")
