"""The clock of the database beside ours, as far as leases tell it."""

from __future__ import annotations

from collections.abc import Iterable

_SLACK = 1.0  # seconds that one of the two may have lost or won between two leases


class Clock:
    """How far the database's clock is ahead of ours; it is not set meanwhile, or leases show it."""

    def __init__(self, seen: Iterable[tuple[float, float, float]]) -> None:
        """Take in when a call began and ended by our clock, and what the other one said in between."""
        seen = list(seen)
        least = max((said - end for _, end, said in seen), default=0.0)
        most = min((said - start for start, _, said in seen), default=0.0)
        # When they contradict each other it was set, or it drifts: then it has been at both.
        self._least, self._most = min(least, most) - _SLACK, max(least, most) + _SLACK

    def earliest(self, time: float) -> float:
        """Return what it surely has reached at a time of ours."""
        return time + self._least

    def latest(self, time: float) -> float:
        """Return what it surely has not passed at a time of ours."""
        return time + self._most

    def passed(self, instant: float) -> float:
        """Return a time of ours by which it surely has passed an instant."""
        return instant - self._least
