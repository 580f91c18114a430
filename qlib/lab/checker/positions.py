"""Whether a subscriber always stood where its acks, and the resets and seeks, had put it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import inf

from qlib.lab.checker.delivered import check_delivered
from qlib.lab.checker.doubles import check_doubles
from qlib.lab.checker.keys import check_keys
from qlib.lab.checker.left import check_left
from qlib.lab.checker.log import Log
from qlib.lab.checker.moves import Moves
from qlib.lab.checker.prefix import Highest
from qlib.lab.checker.restarts import Restarts
from qlib.lab.checker.tries import check_tries
from qlib.lab.checker.verdict import Findings
from qlib.lab.checker.work import Work
from qlib.lab.checker.zombies import check_zombies
from qlib.lab.history.operation import Operation

_TELLING = ("subscribe", "info", "configure", "fetch", "ack", "ack_lease", "final_work")


def check_positions(
    subscriber: str, own: Sequence[Operation], log: Log, restarts: Restarts, findings: Findings
) -> None:
    """Find what is wrong with the positions and leases of one subscriber, and what went unseen.

    `own` are its operations. Nothing is found when nobody was ever told where it stood.
    """
    seen = [
        o
        for o in own
        if o.kind in _TELLING and o.outcome == "ok" and None not in (o.position, o.epoch)
    ]
    if not seen:
        return
    seeks = [o for o in own if o.kind == "seek" and o.outcome != "fail"]
    moves = Moves(log.resets + seeks, seen)
    acks = [o for o in own if o.kind == "ack"]
    work = Work(subscriber, own, log, moves, restarts)
    sweep = _Sweep(subscriber, log, moves, acks, seen, work, findings)
    for operation in own:
        sweep.check_refusal(operation)
    valid = [ack for ack in acks if sweep.check_ack(ack)]
    for operation in seen:
        sweep.check_standing(operation)
    check_delivered(subscriber, log, moves, valid, seen, work, findings)
    if work.held or work.in_doubt:
        check_doubles(work, sweep.stood, findings)
        check_zombies(work, findings)
        check_tries(work, findings)
        check_keys(work, findings)
        check_left(work, sweep.stood, findings)


class _Sweep:
    """All that could move the subscriber, and all that was told of it, by epoch and time."""

    def __init__(
        self,
        subscriber: str,
        log: Log,
        moves: Moves,
        acks: Sequence[Operation],
        seen: Sequence[Operation],
        work: Work,
        findings: Findings,
    ) -> None:
        self._name = f"{subscriber} of {log.topic}"
        self._log, self._moves, self._work, self._findings = log, moves, work, findings
        # The acks that surely, and those that possibly, came before a time.
        self._after = _by_epoch((o.epoch, o.end, o.offset) for o in acks if o.outcome == "ok")
        self._possible: dict[tuple[int | None, int | None], float] = {}
        for ack in acks:
            if ack.outcome != "fail":
                where = (ack.epoch, ack.offset)
                self._possible[where] = min(ack.start, self._possible.get(where, inf))
        # With leases the position moves on without waiting for the disk.
        told = [o for o in seen if not work.held or work.restarts.survived(o, inf)]
        self.stood = _by_epoch((o.epoch, o.end, o.position) for o in told)
        self._epochs = Highest((o.end, o.epoch or 0) for o in seen)
        self._undoing: set[int | None] = set()

    def check_refusal(self, operation: Operation) -> None:
        """Check that an epoch was over which an ack, or a read ahead, was refused for."""
        if operation.error == "StaleEpoch" and operation.epoch == self._moves.high(operation.end):
            what = f"a valid {operation.kind} by {self._name}"
            self._findings.add("spurious-fail", f"{what} was refused; nothing had moved")

    def check_ack(self, ack: Operation) -> bool:
        """Check one ack against the epochs and the head; return whether it may have moved on."""
        epoch, offset = ack.epoch or 0, ack.offset or 0
        what = f"the ack of {offset} by {self._name}"
        if ack.outcome != "ok":
            return ack.outcome == "unknown"
        if self._log.final and offset > max(0, self._log.possible.until(ack.end)):
            self._findings.add("ack-beyond-head", f"{what} was accepted; there was no such message")
        if epoch >= self._low(ack.start):
            return True
        self._undoing.add(ack.offset)
        self._findings.add("reset-undone", f"{what} was accepted after a reset or seek")
        return False

    def check_standing(self, operation: Operation) -> None:
        """Check one position that the subscriber was told, or that a fetch began at."""
        epoch, position = operation.epoch or 0, _position(operation)
        start, end = operation.start, operation.end
        what = f"{self._name} stood at {position}"
        if epoch < self._low(start):
            later = self._moves.may_begin(position, epoch + 1, self._moves.high(end))
            if not later and position not in self._undoing:
                self._findings.add("lost-ack", f"{what} after a reset or seek had ended")
        elif epoch > self._moves.high(end):
            self._findings.add("phantom-position", f"{what} in an epoch that nothing began")
        elif position < (acked := self._acked(operation)):
            self._findings.add("lost-ack", f"{what} after the ack of {acked} had ended")
        elif position < (before := self.stood[epoch].before(start)):
            self._findings.add("nonmonotonic-poll", f"{what}, and before that at {before}")
        elif position != operation.position or not self._is_explained(position, epoch, end):
            self._findings.add("phantom-position", f"{what}, where nothing had put it")

    def _acked(self, operation: Operation) -> int:
        """Return the last offset that surely was acknowledged in the epoch before the answer."""
        own = operation.offset if operation.kind == "ack" else None
        return max(self._after[operation.epoch or 0].before(operation.start), own or 0)

    def _low(self, time: float) -> int:
        return max(self._moves.low(time), self._epochs.before(time))

    def _is_explained(self, position: int, epoch: int, time: float) -> bool:
        return (
            self._moves.may_begin(position, epoch, epoch)
            or self._possible.get((epoch, position), inf) <= time
            or position in self._undoing
            or self._work.may_be_settled(position, epoch, time)
        )


def _position(operation: Operation) -> int:
    """Return where the subscriber stood: a fetch may say one thing and do another."""
    position = operation.position or 0
    if operation.kind == "fetch" and operation.offset is None and operation.offsets:
        return min(position, min(operation.offsets) - 1)
    return position


def _by_epoch(
    facts: Iterable[tuple[int | None, float, int | None]],
) -> defaultdict[int, Highest[int]]:
    pairs: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for epoch, time, offset in facts:
        pairs[epoch or 0].append((time, offset or 0))
    highest: defaultdict[int, Highest[int]] = defaultdict(lambda: Highest(()))
    highest.update({epoch: Highest(found) for epoch, found in pairs.items()})
    return highest
