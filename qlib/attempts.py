"""One request through all its attempts: how long each may take, and when the last one was made."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from qlib import answers
from qlib.errors import DefiniteError, OutcomeUnknown, QueueError, Unavailable, in_doubt

_ANSWER_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


def pauses() -> Iterator[float]:
    """Yield the pauses between attempts, longer and longer, without end."""
    longest = _FIRST_PAUSE
    while True:
        # Full jitter: clients that failed together must not come back together.
        yield random.uniform(0.0, longest)
        longest = min(2 * longest, _LONGEST_PAUSE)


@dataclass
class Outage:
    """What several calls go through together: `since` when, and for how many seconds at most.

    It begins with the first failure of one of them, on the monotonic clock; `inf` is not yet. `tell`
    is given each failure after which a call goes on, but for a first one that may heal at once.
    """

    most: float = inf
    since: float = inf
    tell: Callable[[QueueError], None] | None = None

    @property
    def end(self) -> float:
        """When no call goes on any more."""
        return self.since + self.most

    def lasted(self, seconds: float) -> bool:
        """Tell whether it has lasted so long by now."""
        return time.monotonic() >= self.since + seconds


@dataclass
class Attempts:
    """What is asked, and what is known of it so far: `doubt` is whether it may have happened.

    All attempts together take `timeout` seconds, and what a long poll of `wait` seconds needs. In
    an `outage` the timeout begins with the first attempt that fails.
    """

    method: str
    target: str
    query: Mapping[str, Any]
    body: bytes | None
    repeatable: bool
    timeout: float
    wait: float | None = None
    outage: Outage | None = None
    doubt: bool = False
    _deadline: float = field(init=False)
    _due: float = field(init=False)

    def __post_init__(self) -> None:
        """Let the time begin."""
        self._deadline = time.monotonic() + self.timeout + (self.wait or 0.0)
        if self.outage:
            self._deadline = min(self._deadline, self.outage.end)

    def next(self) -> tuple[Mapping[str, Any], bytes | None, float]:
        """Return the next attempt's query and body, and for how many seconds its answer is awaited."""
        now = time.monotonic()
        left = self._deadline - now
        poll, query, body = 0.0, self.query, self.body
        if self.wait is not None:
            # A poll that lasts as long as we do would be cut off, again and again.
            poll = max(min(self.wait, left - min(_ANSWER_SECONDS, self.timeout)), 0.0)
            told = f"{poll:.3f}".rstrip("0").rstrip(".")
            if body is None:
                query = {**query, "wait": told}
            else:
                body = b'%b,"wait":%b}' % (body[:-1], told.encode())  # an object with members
        # The pause before may have overrun the deadline by a hair, and 0 is no valid timeout.
        seconds = max(min(_ANSWER_SECONDS + poll, left), 0.001)
        self._due = now + seconds
        return query, body, seconds

    def pause_after(self, error: QueueError, pause: float) -> float:
        """Return how long to pause before the next attempt; raise what was wrong if that is all."""
        now, writes = time.monotonic(), self.method != "GET"
        unknown = isinstance(error, OutcomeUnknown)
        self.doubt = self.doubt or (writes and unknown)
        again = isinstance(error, Unavailable) or (unknown and (self.repeatable or not writes))
        if self.outage and again:
            self.outage.since = min(self.outage.since, now)
            self._deadline = min(self._deadline, now + self.timeout, self.outage.end)
        pause = max(pause, error.retry_after)
        if again and now + pause < self._deadline:
            if self.outage and self.outage.tell and not self._heals_at_once(now, pause):
                self.outage.tell(error)
            return pause
        if isinstance(error, OutcomeUnknown) and not writes:
            raise answers.of_a_read(error) from error.__cause__
        if isinstance(error, DefiniteError) and self.doubt:
            raise in_doubt(error) from error
        raise error

    def _heals_at_once(self, now: float, pause: float) -> bool:
        """Tell whether the next attempt may do, as after an idle connection that was cut."""
        first = self.outage is not None and self.outage.since == now
        return first and now < self._due and pause <= _LONGEST_PAUSE
