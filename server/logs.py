"""The log, on stderr: its form, its level, and one line for each request.

A line about a request names the route by its rule and nothing that the caller has chosen: no name, query, key,
payload or token. `request_id` stands in the answer too, which says the rest to the caller alone.
"""

import logging
import traceback
from http import HTTPMethod

LEVELS = ("debug", "info", "warning", "error")

log = logging.getLogger("server.requests")

_LINE = "request_id=%s method=%s route=%s status=%s code=%s ms=%.1f%s"


def configure(level: str) -> None:
    """Write what is of that level or above."""
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=level.upper(), format=form)


def told(
    method: str,
    route: str,
    status: int | None,
    seconds: float,
    *,
    request_id: str = "-",
    code: str = "-",
    error: Exception | None = None,
) -> None:
    """Write a request's line, if its level is written; `error` is a failure of ours, and its place is told.

    Without a status its client has left: there was no answer.
    """
    level = _level(status or 0)
    if log.isEnabledFor(level):
        known = method if method in HTTPMethod.__members__ else "-"
        place = _place(error) if error else ""
        said = "left" if status is None else status
        log.log(level, _LINE, request_id, known, route, said, code, seconds * 1000, place)


def _level(status: int) -> int:
    if status < 400:
        return logging.DEBUG
    if status < 500:
        return logging.INFO
    return logging.ERROR if status == 500 else logging.WARNING


def _place(error: Exception) -> str:
    # not its text, which may quote what was sent
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"\n{frames}{type(error).__name__}"
