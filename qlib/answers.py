"""What came back for a request, or did not, and which error that is."""

from __future__ import annotations

import json
import re
import ssl
from typing import Any

import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError

from qlib.errors import (
    DefiniteError,
    InvalidRequest,
    OutcomeUnknown,
    QueueError,
    Unavailable,
    UnreadableAnswer,
    from_answer,
    is_broken,
)

LARGEST = 64 * 2**20
_PIECE = 2**18


def content(response: requests.Response) -> tuple[bytes, bool]:
    """Return the answer's bytes, and whether these are all: of a longer one, its beginning."""
    found = bytearray()
    while len(found) <= LARGEST:
        piece = response.raw.read(_PIECE, decode_content=False)
        if not piece:
            return bytes(found), True
        found += piece
    return bytes(found), False


def is_delimited(response: requests.Response) -> bool:
    """Tell whether the answer says where it ends: else it may have been cut off, even in its head.

    `http.client` takes a connection that ends there for the end of the head.
    """
    return any(name in response.headers for name in ("Content-Length", "Transfer-Encoding"))


def parsed(content: bytes, whole: bool = True) -> Any:
    """Return the JSON object that the bytes are; TypeError or ValueError when they are none."""
    if not whole:
        raise ValueError(f"it is longer than {LARGEST} bytes")
    answer = json.loads(content.decode()) if content else {}
    if not isinstance(answer, dict):
        raise TypeError("it is not an object")
    return answer


def refusal(response: requests.Response, content: bytes) -> QueueError:
    """Return the error that an answer other than 2xx stands for."""
    try:
        problem = parsed(content)
    except (TypeError, ValueError, RecursionError):
        problem = {}
    after = response.headers.get("Retry-After", "")
    seconds = float(after) if re.fullmatch("[0-9]{1,9}", after) else 0.0
    return from_answer(response.status_code, problem, seconds)


def failure(error: Exception, url: str) -> QueueError:
    """Return the error that stands for an exchange which broke off."""
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


def of_a_read(error: OutcomeUnknown) -> DefiniteError:
    """Return what an unknown outcome means for a read, which changes nothing in any case."""
    kind = UnreadableAnswer if is_broken(error) else Unavailable
    return kind(
        error.detail,
        status=error.status,
        code=error.code,
        request_id=error.request_id,
        retry_after=error.retry_after,
    )
