"""What came back for a request, or did not, and which error that is."""

from __future__ import annotations

import json
import re
import ssl
from typing import Any

import requests
from urllib3.exceptions import ClosedPoolError, ConnectTimeoutError, NewConnectionError, SSLError

from qlib.connection import NotSent
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
from qlib.received import Received


def nothing(content: bytes) -> None:
    """Read the answer to what returns nothing: a JSON object, if any."""
    if content:
        _parsed(content)


def refusal(received: Received) -> QueueError:
    """Return the error that an answer other than 2xx stands for."""
    try:
        problem = _parsed(received.content) if received.content else {}
    except (TypeError, ValueError, RecursionError):
        problem = {}
    after = received.headers.get("retry-after", "")
    seconds = float(after) if re.fullmatch("[0-9]{1,9}", after) else 0.0
    return from_answer(received.status, problem, seconds)


def failure(error: Exception, url: str) -> QueueError:
    """Return the error that stands for an exchange which broke off."""
    if isinstance(error, NotSent):
        return _not_sent(error.__cause__, url)
    if isinstance(error, ClosedPoolError):
        return _not_sent(error, url)
    if isinstance(error, requests.exceptions.InvalidURL):
        return InvalidRequest(str(error))
    return OutcomeUnknown(f"the connection failed: {error!r:.200}")


def _not_sent(cause: BaseException | None, url: str) -> DefiniteError:
    if isinstance(cause, ConnectTimeoutError | NewConnectionError):
        return Unavailable(f"no connection to {url}: is the server running there?")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unavailable(f"the server's certificate is not trusted: {cause}")
    if isinstance(cause, SSLError):  # urllib3's, which is about our own files
        return InvalidRequest(f"let $REQUESTS_CA_BUNDLE name a file of certificates: {cause}")
    return Unavailable(f"nothing was sent to {url}: {cause!r:.200}")


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


def _parsed(content: bytes) -> dict[str, Any]:
    answer = json.loads(content.decode())
    if not isinstance(answer, dict):
        raise TypeError("it is not an object")
    return answer
