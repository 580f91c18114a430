"""How tests wait: on a condition, never for a time."""

import inspect
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout: float = 10.0) -> T:
    """Call ``condition`` until it returns something true, and return that.

    Raises AssertionError, which names the condition, after ``timeout`` seconds. What the
    condition raises is not caught.
    """
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {_source(condition)}")
        time.sleep(0.01)
    return result


def _source(condition: Callable[[], object]) -> str:
    if getattr(condition, "__name__", "") != "<lambda>":
        return getattr(condition, "__qualname__", repr(condition))
    return inspect.getsource(condition).strip()
