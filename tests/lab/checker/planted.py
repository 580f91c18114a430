"""Small histories, each right or, on demand, wrong in one way that has a name."""

from collections.abc import Callable
from itertools import count
from typing import Any

from qlib.lab.history import History, Operation

PLANTED: dict[str, Callable[["Told", bool], object]] = {}
# Names that come along, because the planted fault leads there.
ALSO = {"unseen": {"poll-skip"}}


class Told:
    """A history written down by hand, one operation after the other, of the topic orders."""

    def __init__(self) -> None:
        self.history, self.clock = History(), count(1)

    def add(self, kind: str, *, overlaps: float = 0, **facts: Any) -> None:
        """`overlaps` lets the operation start that much earlier."""
        start = next(self.clock) - overlaps
        facts = {"topic": "orders", "start": start, "end": next(self.clock), **facts}
        self.history.add(Operation(kind, **facts))

    def publish(self, *values: str, at: tuple[int, ...] | int = (), **facts: Any) -> None:
        offsets = (at,) if isinstance(at, int) else at
        outcome = "ok" if offsets else "unknown"
        self.add("publish", **{"outcome": outcome, "values": values, "offsets": offsets, **facts})

    def reader(self, kind: str, **facts: Any) -> None:
        self.add(kind, **{"subscriber": "kitchen", "epoch": 0, **facts})

    def fetch(self, position: int, found: str = "", epoch: int = 0, **facts: Any) -> None:
        """`found` has a letter a message; the message of offset 1 is a."""
        offsets = tuple(ord(letter) - ord("a") + 1 for letter in found)
        seen = {"position": position, "offsets": offsets, "values": tuple(found)}
        self.reader("fetch", **{"limit": 10, "epoch": epoch, **seen, **facts})

    def final(self, values: str, floor: int = 1, **facts: Any) -> None:
        """`values` has a letter a message, a space where there is none."""
        found = [(floor + n, value) for n, value in enumerate(values) if value != " "]
        offsets, texts = zip(*found, strict=True) if found else ((), ())
        head = floor + len(values) - 1
        seen = {"floor": floor, "head": head, "offsets": offsets, "values": texts}
        self.add("final_read", **{**seen, **facts})


def plant(function: Callable[[Told, bool], object]) -> Callable[[Told, bool], object]:
    PLANTED[function.__name__.replace("_", "-")] = function
    return function


@plant
def lost_write(t: Told, wrong: bool) -> None:
    for n, value in enumerate("abc", 1):
        t.publish(value, at=n)
    t.final("ab" if wrong else "abc")


@plant
def duplicate(t: Told, wrong: bool) -> None:
    t.publish("a", at=1)
    t.publish("b", at=2)
    t.final("aba" if wrong else "ab")


@plant
def dedupe_miss(t: Told, wrong: bool) -> None:
    t.publish("a", producer="p", sequence=1)
    t.publish("a", producer="p", sequence=1, at=1)
    t.publish("b", producer="p", sequence=2, at=2)
    t.final("aba" if wrong else "ab")


@plant
def nonmonotonic_send(t: Told, wrong: bool) -> None:
    t.publish("a", at=2 if wrong else 1)
    t.publish("b", at=1 if wrong else 2)
    t.final("ba" if wrong else "ab")


@plant
def batch_order(t: Told, wrong: bool) -> None:
    t.publish("a", "b", at=(1, 3) if wrong else (1, 2))
    t.publish("c", at=2 if wrong else 3, overlaps=2)
    t.final("acb" if wrong else "abc")


@plant
def int_nonmonotonic_poll(t: Told, wrong: bool) -> None:
    t.publish("a", "b", at=(1, 2))
    t.fetch(0, "ba" if wrong else "ab")
    t.final("ab")


@plant
def nonmonotonic_poll(t: Told, wrong: bool) -> None:
    t.publish("a", "b", at=(1, 2))
    t.fetch(0, "ab")
    t.reader("ack", offset=2, outcome="unknown")
    t.fetch(2)
    t.fetch(*((0, "ab") if wrong else (2,)))


@plant
def int_poll_skip(t: Told, wrong: bool) -> None:
    t.publish("a", "b", "c", at=(1, 2, 3))
    t.fetch(0, "ac" if wrong else "abc")


@plant
def poll_skip(t: Told, wrong: bool) -> None:
    t.publish("a", "b", "c", at=(1, 2, 3))
    t.fetch(0, "bc" if wrong else "abc")
    t.final("abc")


@plant
def unseen(t: Told, wrong: bool) -> None:
    t.publish("a", "b", at=(1, 2))
    t.fetch(0, "b" if wrong else "ab")
    t.reader("ack", offset=2, position=2)
    t.final("ab")


@plant
def inconsistent_offsets(t: Told, wrong: bool) -> None:
    t.publish("a")
    t.publish("b", overlaps=2)
    t.fetch(0, "a")
    t.final("b" if wrong else "ab")


@plant
def gap(t: Told, wrong: bool) -> None:
    t.publish("a", at=1)
    t.publish("b")
    t.publish("c", at=3)
    t.final("a c" if wrong else "abc")


@plant
def bad_first_offset(t: Told, wrong: bool) -> None:
    t.publish("a", at=2 if wrong else 1)
    t.final(" a" if wrong else "a")


@plant
def aborted_read(t: Told, wrong: bool) -> None:
    t.publish("a", at=1)
    t.publish("b", outcome="fail")
    t.final("ab" if wrong else "a")


@plant
def phantom(t: Told, wrong: bool) -> None:
    t.publish("a", at=1)
    t.final("ab" if wrong else "a")


@plant
def wrong_topic(t: Told, wrong: bool) -> None:
    t.publish("a", at=1)
    t.publish("p", at=1, topic="parcels")
    t.final("ap" if wrong else "a")
    t.final("p", topic="parcels")


@plant
def corrupt(t: Told, wrong: bool) -> None:
    t.publish("a", at=1)
    t.final("A" if wrong else "a")


@plant
def future_read(t: Told, wrong: bool) -> None:
    t.fetch(0, "a" if wrong else "")
    t.publish("a", at=1)
    t.final("a")


@plant
def lost_ack(t: Told, wrong: bool) -> None:
    t.publish("a", "b", at=(1, 2))
    t.fetch(0, "ab")
    t.reader("ack", offset=2, position=2)
    t.fetch(*((0, "ab") if wrong else (2,)))


@plant
def phantom_position(t: Told, wrong: bool) -> None:
    t.publish("a", "b", at=(1, 2))
    t.fetch(0, "ab")
    t.fetch(*((1, "b") if wrong else (0, "ab")))


@plant
def stale_read(t: Told, wrong: bool) -> None:
    t.publish("a", at=1)
    t.publish("b", at=2)
    t.fetch(0, "a" if wrong else "ab")
    t.final("ab")


@plant
def stale_empty(t: Told, wrong: bool) -> None:
    t.publish("a", at=1)
    t.fetch(0, "" if wrong else "a")
    t.final("a")


@plant
def ack_beyond_head(t: Told, wrong: bool) -> None:
    t.publish("a", at=1)
    t.fetch(0, "a")
    refused = {"outcome": "fail", "error": "OffsetOutOfRange"}
    t.reader("ack", offset=2, **({"position": 2} if wrong else refused))
    t.publish("b", at=2)
    t.final("ab")


@plant
def reset_undone(t: Told, wrong: bool) -> None:
    t.publish("a", "b", at=(1, 2))
    t.fetch(0, "ab")
    t.add("reset", offset=0)
    t.fetch(0, "ab", epoch=1)
    refused = {"outcome": "fail", "error": "StaleEpoch"}
    t.reader("ack", offset=2, **({"position": 2} if wrong else refused))
    t.fetch(*((2, "") if wrong else (0, "ab")), epoch=1)
    t.final("ab")


@plant
def false_dedupe(t: Told, wrong: bool) -> None:
    t.publish("a", producer="p", sequence=1, at=1)
    t.publish("a", producer="p", sequence=2, at=1 if wrong else 2)
    t.final("a" if wrong else "aa")


@plant
def spurious_fail(t: Told, wrong: bool) -> None:
    t.publish("a", at=1)
    t.fetch(0, "a")
    refused = {"outcome": "fail", "error": "StaleEpoch"}
    t.reader("ack", offset=1, **(refused if wrong else {"position": 1}))
    t.final("a")
