"""Who fetches: two programs under one subscriber's name get the same messages, and should hear of it."""

import time
from math import inf

_A_WHILE = 60.0  # seconds for which another one is remembered
_MOST = 100_000  # subscribers; those who fetched longest ago are forgotten first


class Readers:
    """The client that fetched last for each subscriber, and when another one did before it.

    In the memory of this process alone, hence best effort: of several servers, each knows what went through
    itself.
    """

    def __init__(self, most: int = _MOST) -> None:
        """Know nobody yet."""
        self._most = most
        self._last: dict[tuple[str, str], tuple[str, float, float]] = {}

    def other(self, topic: str, subscriber: str, client: str) -> float | None:
        """Note that a client fetches; return for how many seconds no other one has, None if for long."""
        now = time.monotonic()
        last, at, another = self._last.pop((topic, subscriber), (client, now, -inf))
        if last != client:
            another = at
        self._last[topic, subscriber] = client, now, another  # the newest is the last
        if len(self._last) > self._most:
            del self._last[next(iter(self._last))]
        return now - another if now - another <= _A_WHILE else None
