"""What goes back to the caller, and how a problem becomes that."""

from http import HTTPStatus
from typing import NamedTuple

from server.http.errors import Problem

_ALWAYS = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]


_FIRST = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n" for one in HTTPStatus}
_CLOSE = "Connection: close\r\n"


class Reply(NamedTuple):
    """An answer, whole."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def head(self, date: str, last: bool) -> bytes:
        """Return the head as it goes out, with a ready line of the date; `last`: the connection ends then."""
        lines = [f"{name}: {text}\r\n" for name, text in self.headers]
        end = _CLOSE if last else ""
        return f"{_FIRST[self.status]}{''.join(lines)}{date}{end}\r\n".encode("latin-1")


def made(status: int, media_type: str, body: bytes, *further: tuple[str, str]) -> Reply:
    """Return a reply with the headers that all have."""
    length = [("Content-Length", str(len(body)))] * (status != HTTPStatus.NO_CONTENT)
    return Reply(status, [("Content-Type", media_type), *further, *_ALWAYS, *length], body)


def refusal(problem: Problem, request_id: str) -> Reply:
    """Return the reply that tells a problem; the log has the same `request_id`."""
    body = problem.body(request_id)
    return made(problem.status, "application/problem+json", body, *problem.headers)
