"""What callers hand in, checked before anything is sent: what is wrong is told in a sentence.

Numbers of numpy and the like pass for Python's own; a bool is no number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isfinite
from numbers import Real
from operator import index
from typing import Any

from qlib.errors import InvalidRequest

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


def integer(value: Any, rule: str) -> int:
    """Return an integer; InvalidRequest, with the `rule` that was broken, for anything else."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return index(value)
    except TypeError:
        raise InvalidRequest(f"{rule}, not {_short(value)}") from None


def seconds(value: Any, rule: str, fits: Callable[[float], bool]) -> float:
    """Return a time in seconds, a finite number that `fits`; else InvalidRequest with the rule."""
    try:
        if isinstance(value, Real) and not isinstance(value, bool):
            found = float(value)
            if isfinite(found) and fits(found):
                return found
    except OverflowError:
        pass  # an integer beyond all floats
    raise InvalidRequest(f"{rule}, not {_short(value)}")


def text(value: object, name: str) -> str:
    """Return a text; InvalidRequest for anything else."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is a text, not {_short(value)}")
    return value


def name(value: object, whose: str = "a name") -> str:
    """Return the name of a topic or subscriber; InvalidRequest for what cannot be one."""
    found = text(value, whose)
    if not _NAME.fullmatch(found) or found in (".", ".."):
        rule = "a name is 1 to 200 of A-Z a-z 0-9 . _ -, and not . or .."
        raise InvalidRequest(f"{rule}, not {_short(found)}")
    return found


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:79] + "…"
