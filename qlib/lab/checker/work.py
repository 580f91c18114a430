"""The work on one subscriber's messages: its leases, and what else has to do with them."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from math import inf
from typing import TypeVar

from qlib.lab.checker.clock import Clock
from qlib.lab.checker.held import Held
from qlib.lab.checker.log import Log
from qlib.lab.checker.moves import Moves
from qlib.lab.checker.prefix import Highest
from qlib.lab.checker.restarts import Restarts
from qlib.lab.history.operation import Operation

T = TypeVar("T")

_SETTINGS = ("subscribe", "info", "configure", "final_work")
_WORK = ("lease", "ack_lease", "nack", "extend", "redrive", "remove_dead", "seek")
_LATE = 60.0  # seconds after which what was in doubt does not happen any more


class Work:
    """What is known of the work on a subscriber's messages.

    `held` are the leases that were answered, in the order in which they were made; `at` those of
    each message. `empty` are those that found nothing, `in_doubt` those without an answer, which
    hold nobody knows what; `refused` is what was asked of a lease in vain. Order by key is on since
    `ordered_from`, or never was if `unordered`; `max_attempts` and `backoff_cap` are None when they
    are unknown or were changed. `final` is the last look at the dead letters, if nothing was done
    after it.
    """

    def __init__(
        self,
        subscriber: str,
        own: Sequence[Operation],
        log: Log,
        moves: Moves,
        restarts: Restarts,
    ) -> None:
        """Put it together from the subscriber's own operations."""
        self.name = f"{subscriber} of {log.topic}"
        self.log, self.moves, self.restarts = log, moves, restarts
        leases = [o for o in own if o.kind == "lease"]
        self.held = sorted((_held(o, moves) for o in leases if o.lease), key=lambda h: h.since)
        self.empty = [o for o in leases if o.outcome == "ok" and not o.lease]
        self.in_doubt = [o for o in leases if o.outcome == "unknown"]
        self._doubts = sorted(o.start for o in self.in_doubt)
        self._late = max((o.end + (o.seconds or 0.0) + _LATE for o in self.in_doubt), default=-inf)
        self._plain, self._redrives = _plain(own), _redrives(own)
        self.clock = Clock((h.operation.start, h.operation.end, h.since) for h in self.held)
        self.at: dict[int, list[Held]] = defaultdict(list)
        for held in self.held:
            for offset in held.attempts:
                self.at[offset].append(held)
        self._acks: dict[int, dict[int, float]] = {}
        self.refused = _sort(own, {held.operation.lease: held for held in self.held})
        told = [o for o in own if o.kind in _SETTINGS and _tells(o)]
        self.unordered = bool(told) and all(o.ordered is False for o in told)
        self.ordered_from = _ordered_from(told)
        self.max_attempts = _only(o.max_attempts for o in told)
        self.backoff_cap = _only(o.backoff_cap for o in told)
        self.final = _final(own)
        self._dead = set(self.final.offsets) if self.final else set()

    @cached_property
    def repeated(self) -> dict[int, list[Held]]:
        """The leases of each message that was leased again."""
        return {offset: leases for offset, leases in self.at.items() if len(leases) > 1}

    def doubts(self, time: float) -> int:
        """Return how many leases without an answer may have been made before a time."""
        return bisect_left(self._doubts, time)

    def redriven(self, offset: int, after: float, before: float) -> bool:
        """Return whether a dead letter may have been redriven, or removed, between two times."""
        if offset in self._redrives and self._redrives[offset].before(before) > after:
            return True
        some = None in self._redrives and self._redrives[None].before(before) > after
        return some and self._has_had_all(offset, self.at.get(offset, ()), before)

    def may_be_over(self, offset: int, epoch: int, time: float = inf) -> bool:
        """Return whether a message may have been done or dead in an epoch by a time."""
        return offset <= self._plain[epoch].until(time) or self.may_be_settled(offset, epoch, time)

    def may_be_settled(self, offset: int, epoch: int, time: float = inf) -> bool:
        """Return whether a worker may have settled it: acknowledged it, or brought it to its end."""
        leases = self.at.get(offset, ())
        for held in leases:
            if held.first <= epoch <= held.last:
                begun = self._acked(held).get(offset)
                if begun is not None and begun <= time:
                    return True
        return self._may_be_dead(offset, [h for h in leases if h.first <= epoch <= h.last], time)

    def _acked(self, held: Held) -> dict[int, float]:
        """Return when the first ack of each message began that may be for it."""
        found = self._acks.get(id(held))
        if found is None:
            found = self._acks[id(held)] = {}
            for ack in sorted(held.acks, key=lambda o: o.start, reverse=True):
                whole = () if ack.offsets else self._surely_back(held, ack)
                found.update((o, ack.start) for o in held.asked(ack) if o not in whole)
        return found

    def _surely_back(self, held: Held, ack: Operation) -> set[int]:
        """Return what an ack of all that a lease holds is not for: what it had given back."""
        return {
            offset
            for nack in held.whole_nacks
            if nack.end < ack.start and self.restarts.survived(nack, ack.end)
            for offset in held.asked(nack)
        }

    def _may_be_dead(self, offset: int, leases: Sequence[Held], time: float) -> bool:
        first = min((held.operation.start for held in leases), default=inf)
        # Of a time before a crash the end does not tell: a death, too, may have been undone.
        known = self.final and (time == inf or self.restarts.none_since(first))
        if known and offset not in self._dead and not self.redriven(offset, -inf, inf):
            return False
        return self._has_had_all(offset, leases, time)

    def _has_had_all(self, offset: int, leases: Sequence[Held], time: float) -> bool:
        """Return whether a message may have had all its attempts by a time."""
        attempts = (h.attempts[offset] for h in leases if h.operation.start <= time)
        return max(attempts, default=0) + self.doubts(time) >= (self.max_attempts or 1)

    def is_over(self, offset: int, epoch: int) -> bool:
        """Return whether a message surely is done or dead at the end."""
        if self.final and (offset in self._dead or offset <= (self.final.position or 0)):
            return True
        return any(held.epoch == epoch and offset in held.done for held in self.at.get(offset, ()))

    def free(self, offset: int, epoch: int) -> float:
        """Return by when a message that is not over surely was to be leased again, by our clock."""
        leases = [h for h in self.at.get(offset, ()) if h.first <= epoch <= h.last]
        return max([self._late, *map(self._released, leases)])

    def _released(self, held: Held) -> float:
        cap = inf if self.backoff_cap is None else self.backoff_cap
        delays = [o.end + _LATE * (o.outcome != "ok") + (cap if o.delay is None else o.delay)
                  for o in held.nacks]  # fmt: skip
        last = max((o.seconds or 0.0 for o in held.extends), default=0.0)
        longer = [o.end + last + _LATE for o in held.extends if o.outcome != "ok"]
        return max(self.clock.passed(held.ends + last), *delays, *longer, -inf)


def _held(lease: Operation, moves: Moves) -> Held:
    assert lease.expires is not None and lease.seconds is not None
    since, first, last = (
        lease.expires - lease.seconds,
        moves.low(lease.start),
        moves.high(lease.end),
    )
    return Held(lease, since, lease.expires, first, last)


def _sort(own: Iterable[Operation], held: dict[str | None, Held]) -> list[tuple[Held, Operation]]:
    """Give each lease what was asked of it; return what was refused."""
    refused = []
    for o in own:
        if (lease := held.get(o.lease)) and o.kind != "lease":
            kinds = {"ack_lease": lease.acks, "nack": lease.nacks, "extend": lease.extends}
            if o.outcome == "fail":
                refused.append((lease, o))
            else:
                kinds[o.kind].append(o)
    return refused


def _plain(own: Iterable[Operation]) -> defaultdict[int | None, Highest[int]]:
    """Return what was acknowledged as if alone, by epoch."""
    pairs: dict[int | None, list[tuple[float, int]]] = defaultdict(list)
    for o in own:
        if o.kind == "ack" and o.outcome != "fail":
            pairs[o.epoch].append((o.start, o.offset or 0))
    found: defaultdict[int | None, Highest[int]] = defaultdict(lambda: Highest(()))
    found.update({epoch: Highest(acks) for epoch, acks in pairs.items()})
    return found


def _redrives(own: Iterable[Operation]) -> dict[int | None, Highest[float]]:
    """Return when dead letters may have been redriven or removed: each, or under None any."""
    pairs: dict[int | None, list[tuple[float, float]]] = defaultdict(list)
    for o in own:
        if o.kind in ("redrive", "remove_dead") and o.outcome != "fail" and o.count != 0:
            for offset in o.offsets or (None,):
                pairs[offset].append((o.start, o.end if o.outcome == "ok" else inf))
    return {offset: Highest(spans) for offset, spans in pairs.items()}


def _tells(operation: Operation) -> bool:
    """Return whether an operation tells settings, or may have changed them."""
    return (
        operation.outcome == "ok"
        or operation.outcome == "unknown"
        and operation.kind == "configure"
    )


def _ordered_from(told: Iterable[Operation]) -> float:
    """Return since when order by key surely is on; infinity when it is not, or nobody knows."""
    since, before = inf, -inf
    for o in sorted(told, key=lambda o: o.end):
        if not o.ordered or o.outcome != "ok":
            since, before = inf, o.end
        elif o.start > before:
            since = min(since, o.end)
    return since


def _only(told: Iterable[T | None]) -> T | None:
    """Return what a setting always was, None when it is not known or was changed."""
    values = {value for value in told if value is not None}
    return values.pop() if len(values) == 1 else None


def _final(own: Sequence[Operation]) -> Operation | None:
    """Return the last look at the dead letters, unless something was done, or is in doubt, after it."""
    found = next((o for o in reversed(own) if o.kind == "final_work" and o.outcome == "ok"), None)
    if found and any(o.kind in _WORK and o.end > found.start for o in own):
        return None
    return found
