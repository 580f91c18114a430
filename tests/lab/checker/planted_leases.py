"""Small histories of workers, each right or, on demand, wrong in one way that has a name."""

from itertools import count
from typing import Any

from tests.lab.checker.planted import PLANTED, Told, plant

__all__ = ["PLANTED", "Crew"]  # all that are planted, here or there
AHEAD = 1000.0  # seconds that the database's clock is ahead of ours


class Crew:
    """The workers of kitchen in a history; `published` has a letter a message."""

    def __init__(self, told: Told, published: str = "", **settings: Any) -> None:
        self.told = told
        for n, value in enumerate(published, 1):
            told.publish(value, at=n)
        told.reader("subscribe", position=0, **settings)

    def passes(self, seconds: int) -> None:
        """Let time pass."""
        self.told.clock = count(next(self.told.clock) + seconds)

    def lease(
        self, lease: str, found: str, attempt: int = 1, seconds: float = 100.0, **facts: Any
    ) -> None:
        """`found` has a letter a message, as for `fetch`."""
        offsets = tuple(ord(letter) - ord("a") + 1 for letter in found)
        told = {"offsets": offsets, "values": tuple(found), "attempts": (attempt,) * len(found)}
        start = next(self.told.clock)
        asked = {"limit": 10, "lease": lease, "seconds": seconds, "start": start, "end": start + 1}
        next(self.told.clock)
        since = {"expires": start + AHEAD + 0.5 + seconds, "epoch": None}
        self.told.reader("lease", **{**asked, **told, **since, **facts})

    def nothing(self, **facts: Any) -> None:
        """A lease that waits, and finds nothing to do."""
        asked = {"limit": 10, "seconds": 1.0, "wait": 5.0, "epoch": None}
        self.told.reader("lease", **{**asked, **facts})

    def ack(self, lease: str, *offsets: int, position: int = 0, **facts: Any) -> None:
        told = {"position": position, "count": max(len(offsets), 1), "offsets": offsets}
        self.told.reader("ack_lease", lease=lease, **{**told, **facts})

    def nack(self, lease: str, *offsets: int, **facts: Any) -> None:
        told = {"delay": 0.0, "count": max(len(offsets), 1), "offsets": offsets, "epoch": None}
        self.told.reader("nack", lease=lease, **{**told, **facts})

    def extend(self, lease: str, seconds: float, **facts: Any) -> None:
        start = next(self.told.clock)
        told = {"start": start, "end": next(self.told.clock), "expires": start + AHEAD + seconds}
        self.told.reader("extend", lease=lease, epoch=None, **{**told, "seconds": seconds, **facts})

    def end(self, position: int, dead: str = "", **facts: Any) -> None:
        """The last look at the dead letters; `dead` has a letter a message."""
        offsets = tuple(ord(letter) - ord("a") + 1 for letter in dead)
        told = {"offsets": offsets, "values": tuple(dead), "attempts": (1,) * len(dead)}
        self.told.reader("final_work", position=position, **{**told, **facts})


@plant
def lost_work(t: Told, wrong: bool) -> None:
    crew = Crew(t, "ab", max_attempts=1)
    crew.lease("1", "ab")
    crew.nack("1", 1, count=0, buried=1)
    crew.ack("1", 2, position=2)
    crew.end(2, "" if wrong else "a")
    t.final("ab")


@plant
def lease_stuck(t: Told, wrong: bool) -> None:
    crew = Crew(t, "a", max_attempts=5, backoff_cap=1.0)
    crew.lease("1", "a", seconds=1 if wrong else 500)
    crew.passes(200)
    crew.nothing()
    crew.end(0)
    t.final("a")


@plant
def key_order(t: Told, wrong: bool) -> None:
    crew = Crew(t, "ab", ordered=True, max_attempts=5)
    keys = {"keys": ("table 1",)}
    crew.lease("1", "a", **keys)
    if not wrong:
        crew.ack("1", position=1)
    crew.lease("2", "b", **keys)
    crew.ack("2", position=0 if wrong else 2)
    if wrong:
        crew.ack("1", position=2)
    t.final("ab")


@plant
def double_lease(t: Told, wrong: bool) -> None:
    crew = Crew(t, "a")
    crew.lease("1", "a", seconds=3)
    crew.extend("1", 200 if wrong else 3)
    crew.passes(100)
    crew.lease("2", "a", 2)
    crew.ack("2", position=1)
    t.final("a")


@plant
def zombie_ack(t: Told, wrong: bool) -> None:
    crew = Crew(t, "a")
    crew.lease("1", "a", seconds=3)
    crew.passes(10)
    refused = {"outcome": "fail", "error": "LeaseExpired"}
    crew.ack("1", **({"position": 1} if wrong else refused))
    t.final("a")


@plant
def attempts(t: Told, wrong: bool) -> None:
    crew = Crew(t, "a")
    crew.lease("1", "a")
    crew.nack("1")
    crew.lease("2", "a", 3 if wrong else 2)
    t.final("a")
