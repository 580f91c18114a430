"""Everything that can go wrong, as one table of codes and one exception.

A `Problem` is an answer: RFC 9457 `application/problem+json` with `status`, `title`, `detail`, `code` and
`request_id`, and on 503 and 507 an `outcome`: "none" says that it surely did not happen, "unknown" that it
may have happened.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from server.engines.errors import EngineError

# code -> HTTP status; the one place where a code gets its status
STATUS: dict[str, int] = {
    "bad_request": 400,
    "invalid_json": 400,
    "unauthorized": 401,
    "not_found": 404,
    "topic_not_found": 404,
    "subscriber_not_found": 404,
    "method_not_allowed": 405,
    "too_slow": 408,
    "topic_exists": 409,
    "offset_out_of_range": 409,
    "stale_epoch": 409,
    "sequence_conflict": 409,
    "lease_expired": 409,
    "key_order": 409,
    "leases_out": 409,
    "length_required": 411,
    "message_too_large": 413,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "host_not_allowed": 421,
    "invalid_name": 422,
    "invalid_message": 422,
    "invalid_request": 422,
    "head_too_large": 431,
    "internal": 500,
    "unavailable": 503,
    "disk_full": 507,
}

# code -> the headers that go with it
HEADERS: dict[str, list[tuple[str, str]]] = {
    "unauthorized": [("WWW-Authenticate", "Bearer")],
    "unavailable": [("Retry-After", "1")],
}


class Problem(Exception):
    """An answer that says what went wrong.

    `code` is one of `STATUS`; `detail` says in a sentence what happened to this request; `outcome` is "none" or
    "unknown" and goes with 503 and 507; `headers` go with the code's own; `members` are added to the answer as they
    are.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        outcome: str = "none",
        headers: Sequence[tuple[str, str]] = (),
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = STATUS[code]
        self.outcome = outcome
        self.headers = [*HEADERS.get(code, ()), *headers]
        self.members = members

    def body(self, request_id: str) -> bytes:
        """Return the answer's JSON."""
        problem = {
            "status": self.status,
            "title": HTTPStatus(self.status).phrase,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }
        if self.status in (503, 507):
            problem["outcome"] = self.outcome
        return msgspec.json.encode(problem | self.members)


def problem(error: Exception) -> Problem:
    """Return the answer that an error is: one of ours, the engine's, or a failure that is told in the log alone."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, EngineError):
        return Problem(error.code, error.detail, outcome=error.outcome, **error.members)
    return Problem("internal", "the server failed to carry this out; its log says more")
