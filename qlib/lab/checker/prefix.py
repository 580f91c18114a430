"""What must have been reached by a time: the largest of all that had happened before."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Generic, TypeVar

N = TypeVar("N", int, float)


class Highest(Generic[N]):
    """The highest value up to a time, of pairs of a time and a value. A look-up is O(log n)."""

    def __init__(self, pairs: Iterable[tuple[float, N]]) -> None:
        """Sort the pairs."""
        ordered = sorted(pairs)
        self._times = [time for time, _ in ordered]
        self._values: list[N] = list(accumulate((value for _, value in ordered), max))

    def before(self, time: float) -> N:
        """Return the highest value from before a time, -1 when there is none."""
        return self._at(bisect_left(self._times, time))

    def until(self, time: float) -> N:
        """Return the highest value from a time or before it, -1 when there is none."""
        return self._at(bisect_right(self._times, time))

    def _at(self, count: int) -> N:
        return self._values[count - 1] if count else -1
