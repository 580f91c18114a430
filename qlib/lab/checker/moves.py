"""The resets and seeks of one subscriber: which epochs they began, and where."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from math import inf

from qlib.lab.checker.prefix import Highest
from qlib.lab.history.operation import Operation


class Moves:
    """Counts the moves that surely, and those that possibly, came before a time.

    `seen` is every answer that told where the subscriber stood; the first one says with which
    epoch the count begins.
    """

    def __init__(self, moves: Sequence[Operation], seen: Sequence[Operation]) -> None:
        """Sort the moves, and find which epochs each of them can have begun."""
        first = min(seen, key=lambda o: o.end)
        # Whatever ran at the same time may have come first.
        opening = [o for o in seen if o.start <= first.end]
        self.first_epoch = min(_epoch(o) for o in opening)
        opening = [o for o in opening if o.epoch == self.first_epoch]
        begin = min(opening, key=lambda o: o.end)
        sure = [o for o in moves if o.outcome == "ok" and o.start > begin.end]
        possible = [o for o in moves if o.outcome == "unknown" or o.end >= begin.start]
        self._ends = sorted(o.end for o in sure)
        self._starts = sorted(o.start for o in possible)
        self._spans = [(self.first_epoch, self.first_epoch, o.position) for o in opening]
        for move in possible:
            last = self.high(move.end if move.outcome == "ok" else inf)
            self._spans.append((self.low(move.start) + 1, last, move.offset))
        at: dict[int | None, list[tuple[float, int]]] = defaultdict(list)
        for first_possible, last, position in self._spans:
            at[position].append((first_possible, last))
        self._at = {position: Highest(spans) for position, spans in at.items()}

    def low(self, time: float) -> int:
        """Return the epoch that had begun before a time, at least."""
        return self.first_epoch + bisect_left(self._ends, time)

    def high(self, time: float) -> int:
        """Return the epoch that had begun by a time, at most."""
        return self.first_epoch + bisect_right(self._starts, time)

    def may_begin(self, position: int, first: int, last: int) -> bool:
        """Return whether an epoch from one to another may have begun at a position."""
        spans = (self._at[where] for where in (position, None) if where in self._at)
        return any(span.until(last) >= first for span in spans)

    def begins(self, epochs: Iterable[int]) -> dict[int, float]:
        """Return the highest position at which each epoch may have begun, infinity for any."""
        begins: dict[int, float] = {}
        coming = sorted(self._spans, key=lambda span: span[0], reverse=True)
        begun: list[tuple[float, int]] = []
        for epoch in sorted(epochs):
            while coming and coming[-1][0] <= epoch:
                _, last, position = coming.pop()
                heappush(begun, (-inf if position is None else -position, last))
            while begun and begun[0][1] < epoch:
                heappop(begun)
            begins[epoch] = -begun[0][0] if begun else inf
        return begins


def _epoch(operation: Operation) -> int:
    assert operation.epoch is not None
    return operation.epoch
