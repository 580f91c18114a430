"""How the workers of a subscriber work, in the server's words."""

from __future__ import annotations

from typing import Any

from qlib.checks import integer
from qlib.checks import seconds as within
from qlib.errors import InvalidRequest


def settings(
    max_attempts: int | None, backoff: float | None, backoff_cap: float | None, ordered: bool | None
) -> dict[str, Any]:
    """Return the settings that are given, in the server's words. Raises InvalidRequest."""
    given: dict[str, Any] = {}
    if max_attempts is not None:
        given["max_attempts"] = integer(max_attempts, "max_attempts is an integer")
    for name, value in (("backoff", backoff), ("backoff_cap", backoff_cap)):
        if value is not None:
            rule = f"{name} is a number of seconds from 0 on"
            given[f"{name}_seconds"] = within(value, rule, lambda s: s >= 0)
    if ordered is not None:
        if not isinstance(ordered, bool):
            raise InvalidRequest(f"ordered is True or False, not {ordered!r:.80}")
        given["ordered"] = ordered
    return given
