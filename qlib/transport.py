"""The one door to the server: session, time limits, retries, and what each failure means."""

from __future__ import annotations

import json
import os
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from json import JSONEncoder
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
import urllib3
from urllib3.exceptions import MaxRetryError, NewConnectionError

from qlib.connection import Session
from qlib.errors import (
    DefiniteError,
    InvalidRequest,
    MessageTooLarge,
    OutcomeUnknown,
    QueueError,
    Unavailable,
    from_answer,
)

Answer = TypeVar("Answer")

_DEFAULT_URL = "http://127.0.0.1:8008"
_ANSWER_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_LARGEST_REQUEST = 16 * 2**20
_LARGEST_ANSWER = 64 * 2**20
_PIECE = 2**18

_encode = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def to_json(value: object, name: str) -> bytes:
    """Return the value as compact JSON in UTF-8.

    Raises InvalidRequest, which tells the value's `name`, when JSON cannot hold it: a type that
    JSON does not know, NaN or Infinity, a lone surrogate, a circle, or too deep a nesting.
    """
    try:
        return _encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{name} is not JSON: {error}") from error


class Transport:
    """Sends requests to one server; threads may share it, and a forked child may go on using it.

    `url` falls back to $QUEUE_URL, then to http://127.0.0.1:8008; `token` to $QUEUE_TOKEN, then to
    none. `timeout` is in seconds and bounds each call with all its retries. Raises InvalidRequest
    when one of them cannot be used.
    """

    def __init__(self, url: str | None, token: str | None, timeout: float) -> None:
        """Check the settings; nothing is sent yet."""
        self.url = (url or os.environ.get("QUEUE_URL") or _DEFAULT_URL).rstrip("/")
        self._token = token or os.environ.get("QUEUE_TOKEN")
        self._timeout = timeout
        _check(self.url, self._token, timeout)
        self._open()

    def request(
        self,
        method: str,
        path: tuple[str, ...],
        read: Callable[[Any], Answer],
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        repeatable: bool = False,
        wait: float = 0.0,
    ) -> Answer:
        """Send one request, again where that is safe, and return what `read` makes of the answer.

        `path` holds unencoded segments. `read` gets the answer's JSON and may raise KeyError,
        TypeError or ValueError for an answer that breaks the contract. `wait` is the long poll's
        length in seconds, granted on top of the timeout. A request that was surely not done
        because the server is unavailable is sent again; one of unknown outcome only when it is a
        GET or `repeatable`. Raises the error of the last attempt; but when an earlier attempt of
        anything other than a GET may have happened, OutcomeUnknown.
        """
        url = "/".join([self.url, *map(_segment, path)])
        if body is not None and len(body) > _LARGEST_REQUEST:
            raise MessageTooLarge(f"the request is {len(body)} bytes, at most {_LARGEST_REQUEST}")
        options = {"params": query, "data": body}
        deadline = time.monotonic() + self._timeout + wait
        writes, doubt = method != "GET", False
        for pause in _pauses():
            try:
                return self._attempt(method, url, read, options, _ANSWER_SECONDS + wait, deadline)
            except QueueError as error:
                unknown = isinstance(error, OutcomeUnknown)
                doubt = doubt or (writes and unknown)
                again = isinstance(error, Unavailable) or (unknown and (repeatable or not writes))
                pause = max(pause, error.retry_after)
                if not again or time.monotonic() + pause >= deadline:
                    if doubt and isinstance(error, DefiniteError):
                        # This attempt surely did nothing, but an earlier one may have.
                        raise OutcomeUnknown(f"after an attempt without answer: {error}") from error
                    raise
            time.sleep(pause)
        raise AssertionError  # the pauses never end

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _open(self) -> None:
        self._process = os.getpid()
        self._session = Session(self._token)

    def _attempt(
        self,
        method: str,
        url: str,
        read: Callable[[Any], Answer],
        options: Mapping[str, Any],
        seconds: float,
        deadline: float,
    ) -> Answer:
        if self._process != os.getpid():
            # A forked child must not share its parent's sockets: their answers would get mixed.
            self._open()
        # The pause before may have overrun the deadline by a hair, and 0 is no valid timeout.
        limit: Any = urllib3.Timeout(total=max(min(seconds, deadline - time.monotonic()), 0.001))
        try:
            with self._session.request(
                method, url, stream=True, allow_redirects=False, timeout=limit, **options
            ) as response:
                content = _content(response)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _failure(error, self.url) from error
        if not 200 <= response.status_code < 300:
            raise _refusal(response, content)
        try:
            return read(_parsed(content) if content else {})
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise OutcomeUnknown(
                f"the answer is not what the contract says: {error!r:.200}",
                status=response.status_code,
            ) from error


def _check(url: str, token: str | None, timeout: float) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise InvalidRequest(f"this is not a URL: {error}") from error  # it may hold a password
    # `requests` would send a user in the URL in the place of the token.
    if not usable or parts.username is not None or parts.query or parts.fragment:
        raise InvalidRequest("the URL must look like http://host:port")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise InvalidRequest("the token holds characters that a header cannot carry")
    if not timeout > 0:
        raise InvalidRequest(f"timeout must be above 0 seconds, not {timeout!r}")


def _segment(name: str) -> str:
    # Every URL library eats these, so that the request would go to another route.
    if name in ("", ".", ".."):
        raise InvalidRequest(f"{name!r} cannot be a name")
    try:
        return quote(name, safe="")
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"{name!r} cannot be a name") from error


def _pauses() -> Iterator[float]:
    longest = _FIRST_PAUSE
    while True:
        # Full jitter: clients that failed together must not come back together.
        yield random.uniform(0.0, longest)
        longest = min(2 * longest, _LONGEST_PAUSE)


def _content(response: requests.Response) -> bytes:
    content = bytearray()
    while piece := response.raw.read(_PIECE, decode_content=False):
        content += piece
        if len(content) > _LARGEST_ANSWER:
            raise OutcomeUnknown(f"the answer is longer than {_LARGEST_ANSWER} bytes")
    return bytes(content)


def _parsed(content: bytes) -> Any:
    answer = json.loads(content.decode())
    if not isinstance(answer, dict):
        raise TypeError("it is not an object")
    return answer


def _refusal(response: requests.Response, content: bytes) -> QueueError:
    try:
        problem = _parsed(content)
    except (TypeError, ValueError, RecursionError):
        problem = {}
    after = response.headers.get("Retry-After", "")
    seconds = float(after) if re.fullmatch("[0-9]{1,9}", after) else 0.0
    return from_answer(response.status_code, problem, seconds)


def _failure(error: Exception, url: str) -> QueueError:
    reason = error.args[0] if error.args else None
    reason = reason.reason if isinstance(reason, MaxRetryError) else reason
    cause = reason.args[0] if isinstance(reason, Exception) and reason.args else None
    if isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError):
        return Unavailable(f"no connection to {url}: is the server running there?")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unavailable(f"the server's certificate is not trusted: {cause}")
    if isinstance(error, requests.exceptions.InvalidURL):
        return InvalidRequest(str(error))
    return OutcomeUnknown(f"the connection failed: {error!r:.200}")
