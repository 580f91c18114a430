"""An exercise: a cell that asks, and one that judges the answer as often as one likes."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

OPEN = "Not answered yet:"
"""How the sentence begins that stands below an open exercise."""


def exercise(judge: Callable[..., object], *answers: object) -> None:
    """Judge the answers of an exercise, or say kindly which are still missing.

    An answer is missing while it is `...`, or a function whose body is; `judge` is called with all
    of them when none is, and its parameters are their names. What it raises is raised: `claim`
    tells what was found and what was wanted. Nothing is remembered, so that an answer can be
    corrected and judged again.
    """
    names = signature(judge).parameters
    missing = [name for name, answer in zip(names, answers, strict=True) if _is_open(answer)]
    if missing:
        print(f"{OPEN} {' and '.join(missing)}. Write yours into the cell above, and run both.")
    else:
        judge(*answers)


def _is_open(answer: object) -> bool:
    if answer is ...:
        return True
    body = getattr(answer, "__code__", None)
    if body is None or body.co_code not in (_empty.__code__.co_code, _told.__code__.co_code):
        return False
    return body.co_consts[-1] is None  # `return 7` is the same code with another constant


def _empty() -> None: ...


def _told() -> None:
    """Say what it is to do; that is no answer."""
