"""One lease, with all that was asked of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import inf

from qlib.lab.history.operation import Operation


@dataclass(eq=False)
class Held:
    """A lease that was answered, and what was asked of it: what surely failed is left out.

    By the database's clock it was made at `since`, and lasts until `until` unless it is extended. It
    is of an epoch from `first` to `last`.
    """

    operation: Operation
    since: float
    until: float
    first: int
    last: int
    acks: list[Operation] = field(default_factory=list)
    nacks: list[Operation] = field(default_factory=list)
    extends: list[Operation] = field(default_factory=list)

    @cached_property
    def attempts(self) -> dict[int, int]:
        """The attempt that each of its messages was leased as."""
        return dict(zip(self.operation.offsets, self.operation.attempts, strict=True))

    @cached_property
    def keys(self) -> dict[int, str | None]:
        """The key of each of its messages, if any has one."""
        return dict(zip(self.operation.offsets, self.operation.keys, strict=False))

    @property
    def epoch(self) -> int | None:
        """Its epoch, when that is certain."""
        return self.first if self.first == self.last else None

    def asked(self, operation: Operation) -> tuple[int, ...]:
        """Return the messages that an ack or nack of it is for."""
        return operation.offsets or self.operation.offsets

    @cached_property
    def returned(self) -> dict[int, float]:
        """When the first nack began that may have given a message back."""
        return _earliest(_first(self, self.nacks), _behind(self))

    @property
    def whole_nacks(self) -> list[Operation]:
        """The nacks that gave back all that was asked."""
        return [
            nack
            for nack in self.nacks
            if nack.outcome == "ok"
            and (nack.count or 0) + (nack.buried or 0) == len(set(self.asked(nack)))
        ]

    @cached_property
    def untried(self) -> dict[int, float]:
        """When the first nack began that may have given a message back as if never leased."""
        untried = (nack for nack in self.nacks if nack.untried)
        return _earliest(_first(self, untried), _behind(self))

    @cached_property
    def done(self) -> dict[int, float]:
        """When the first ack ended that a message surely was done by."""
        found: dict[int, float] = {}
        for ack in self.acks:
            if ack.outcome == "ok":
                for offset in self.asked(ack):
                    if ack.offsets or self.returned.get(offset, inf) > ack.end:
                        found[offset] = min(ack.end, found.get(offset, inf))
        return found

    @cached_property
    def ends(self) -> float:
        """Until when it lasts with all extensions that were answered."""
        return max([self.until, *(o.expires or 0.0 for o in self.extends if o.outcome == "ok")])

    def ends_without(self, operation: Operation) -> float:
        """Return until when it lasts at the most, but for one operation on it; infinity in doubt.

        An extension may have been sent twice, the second time when the answer to the first one was
        lost, and be done twice.
        """
        others = [o for o in self.extends if o is not operation and o.start < operation.end]
        if any(extend.outcome != "ok" for extend in self.extends):
            return inf
        return max([self.until, *((o.expires or 0.0) + (o.seconds or 0.0) for o in others)])


def _first(held: Held, nacks: Iterable[Operation]) -> dict[int, float]:
    """Return when each message may have been given back first by one of these, as it was asked."""
    found: dict[int, float] = {}
    for nack in nacks:
        for offset in held.asked(nack):
            found[offset] = min(nack.start, found.get(offset, inf))
    return found


def _behind(held: Held) -> dict[int, float]:
    """Return when each message may have been given back first because of its key."""
    found: dict[int, float] = {}
    for nack in held.nacks:
        if keys := {held.keys.get(offset) for offset in nack.offsets} - {None}:
            for offset in (offset for offset, key in held.keys.items() if key in keys):
                found[offset] = min(nack.start, found.get(offset, inf))
    return found


def _earliest(*found: dict[int, float]) -> dict[int, float]:
    both: dict[int, float] = {}
    for each in found:
        for offset, time in each.items():
            both[offset] = min(time, both.get(offset, inf))
    return both
