"""What is expected of an answer."""

import re
from typing import Any

import requests

# code -> status and title, as the contract has them: kept apart from the server's own table on purpose
PROBLEMS = {
    "invalid_json": (400, "Bad Request"),
    "unauthorized": (401, "Unauthorized"),
    "not_found": (404, "Not Found"),
    "topic_not_found": (404, "Not Found"),
    "subscriber_not_found": (404, "Not Found"),
    "method_not_allowed": (405, "Method Not Allowed"),
    "topic_exists": (409, "Conflict"),
    "offset_out_of_range": (409, "Conflict"),
    "stale_epoch": (409, "Conflict"),
    "sequence_conflict": (409, "Conflict"),
    "lease_expired": (409, "Conflict"),
    "key_order": (409, "Conflict"),
    "leases_out": (409, "Conflict"),
    "length_required": (411, "Length Required"),
    "message_too_large": (413, None),  # Python has renamed this title
    "body_too_large": (413, None),
    "unsupported_media_type": (415, "Unsupported Media Type"),
    "host_not_allowed": (421, "Misdirected Request"),
    "invalid_name": (422, None),
    "invalid_message": (422, None),
    "invalid_request": (422, None),
    "unavailable": (503, "Service Unavailable"),
}
MEMBERS = {"status", "title", "detail", "code", "request_id"}
SETTINGS = {
    "max_attempts": 5,
    "backoff_seconds": 1,
    "backoff_cap_seconds": 3600,
    "ordered": False,
}  # of a subscriber, as usual
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def ok(answer: requests.Response, status: int = 200) -> Any:
    """Expect an answer with that status; return its JSON, None when it has no content."""
    assert answer.status_code == status, answer.text[:500]
    if status == 204:
        assert answer.content == b""
        return None
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json()


def refused(answer: requests.Response, code: str, *further: str, outcome: str = "none") -> Any:
    """Expect a problem with that code, with exactly the members it should have; return it."""
    status, title = PROBLEMS[code]
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert title in (None, problem["title"]) and problem["title"]
    assert problem["detail"]
    assert re.fullmatch("[0-9a-f]{16}", problem["request_id"])
    assert set(problem) - {"outcome"} == MEMBERS | set(further)
    if status == 503:
        assert problem["outcome"] == outcome
        assert answer.headers["Retry-After"] == "1"
    else:
        assert "outcome" not in problem
    return problem
