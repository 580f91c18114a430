"""The second half of the check: every subscriber got everything, from where it stood on."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from qlib.lab.stress.check_log import Final, Visible
from qlib.lab.stress.findings import Findings
from qlib.lab.stress.records import (
    OK,
    STALE,
    UNAVAILABLE,
    UNKNOWN,
    Ack,
    Fetch,
    History,
    difference,
)


def check_subscriber(
    number: int, history: History, final: Final, visible: Sequence[Visible], findings: Findings
) -> None:
    """Follow one subscriber through everything it did."""
    topic = number % history.topics
    sweep = _Sweep(number, topic, _Moves(number, topic, history), final, visible[topic], findings)
    steps: Iterable[Fetch | Ack] = heapq.merge(
        history.fetches[number], history.acks[number], key=lambda step: step.started
    )
    for step in steps:
        if isinstance(step, Fetch):
            sweep.fetch(step)
        else:
            sweep.ack(step)
    sweep.end()


class _Moves:
    """The resets and seeks that may have moved one subscriber; each that did began an epoch."""

    def __init__(self, number: int, topic: int, history: History) -> None:
        moves = [
            move
            for move in history.moves
            if move.topic == topic
            and move.subscriber in (-1, number)
            and move.outcome in (OK, UNKNOWN)
        ]
        self.starts = [move.started for move in moves]
        self.ends = [move.ended for move in moves if move.outcome == OK]
        self._moves = moves

    def epochs(self, started: int, ended: int) -> range:
        """Return the epochs that an operation between two moments may have seen."""
        return range(bisect_left(self.ends, started), bisect_left(self.starts, ended) + 1)

    def bases(self, epoch: int) -> set[int]:
        """Return where the subscriber may have stood when an epoch began."""
        found, doubts = set(), 0
        for number, move in enumerate(self._moves, 1):
            doubts += move.outcome == UNKNOWN
            if number - doubts <= epoch <= number:
                found.add(move.position)
        return found


class _Sweep:
    """Where a subscriber may stand, as far as all it was told allows, and what it has seen."""

    def __init__(
        self,
        number: int,
        topic: int,
        moves: _Moves,
        final: Final,
        visible: Visible,
        findings: Findings,
    ) -> None:
        self._name = f"subscriber {number} of topic {topic}"
        self._moves, self._visible, self._findings = moves, visible, findings
        self._checksums, self._head = final.checksums[topic], final.head(topic)
        self._epoch, self._positions, self._stood, self._drained = 0, {0}, 0, False
        self._seen = bytearray(self._head + 1)  # a flag an offset
        self._seen[0] = 1

    def fetch(self, fetch: Fetch) -> None:
        """Check one fetch: where it began, what it brought, and whether something was missing."""
        self._findings.outcome(fetch.outcome, (OK, UNKNOWN, UNAVAILABLE), f"{self._name}: a fetch")
        if fetch.outcome != OK:
            return
        self._check_epoch(fetch)
        self._check_position(fetch)
        self._check_contents(fetch)
        if fetch.size:
            self._see(fetch.first, fetch.last)
        reached = fetch.last if fetch.size else fetch.position
        due = min(fetch.position + fetch.limit, self._visible.head(fetch.started))
        if reached < due:
            self._add("skipped", f"stopped at {reached}, though {due} had been published", fetch)
        self._drained = not fetch.size and fetch.position == self._head

    def ack(self, ack: Ack) -> None:
        """Check one ack: its answer, or whether there was a reason to refuse it."""
        what = f"{self._name}: an ack of {ack.offset}"
        self._findings.outcome(ack.outcome, (OK, STALE, UNKNOWN, UNAVAILABLE), what)
        epochs = self._moves.epochs(ack.started, ack.ended)
        if ack.outcome == STALE and ack.epoch == epochs[-1]:
            self._findings.add("failed", f"{what} was called stale, but nothing had moved")
        if ack.outcome == OK and ack.epoch not in epochs:
            self._findings.add("skipped", f"{what} was taken after a reset or seek")
        results = {max(position, ack.offset) for position in self._positions}
        if ack.outcome == UNKNOWN:
            self._positions |= results
        elif ack.outcome == OK:
            if ack.position not in results:
                self._findings.add("out of order", f"{what} led to {ack.position}")
            self._positions = {ack.position}

    def end(self) -> None:
        """Check that nothing is left."""
        if not self._drained:
            seen = f"its last fetch stood at {self._stood} of {self._head}"
            self._findings.add("skipped", f"{self._name} did not come to the end: {seen}")
        # Counted up to the position alone: what lies behind it has just been told.
        unseen = self._seen.count(0) if self._drained else 0
        if unseen:
            offset = self._seen.index(0)
            self._findings.add("skipped", f"{self._name} never got {unseen}, first {offset}")

    def _check_epoch(self, fetch: Fetch) -> None:
        if fetch.epoch < self._epoch or fetch.epoch not in self._moves.epochs(
            fetch.started, fetch.ended
        ):
            self._add("out of order", f"was in epoch {fetch.epoch}", fetch)

    def _check_position(self, fetch: Fetch) -> None:
        jumped = fetch.epoch != self._epoch
        allowed = self._moves.bases(fetch.epoch) if jumped else self._positions
        if fetch.position not in allowed:
            word = "skipped" if fetch.position > max(allowed, default=0) else "out of order"
            self._add(word, f"stood at {fetch.position}, not at {sorted(allowed)}", fetch)
        elif jumped:
            # What a reset or seek jumps over need not be seen.
            self._see(min(self._positions) + 1, fetch.position)
        self._epoch, self._positions, self._stood = fetch.epoch, {fetch.position}, fetch.position

    def _check_contents(self, fetch: Fetch) -> None:
        if not fetch.size:
            return
        if fetch.first != fetch.position + 1 or fetch.last - fetch.first + 1 != fetch.size:
            run = f"{fetch.size} messages from {fetch.first} to {fetch.last}"
            self._add("skipped", f"brought {run}, from position {fetch.position}", fetch)
        elif fetch.last > self._head:
            self._add("phantom", f"brought {fetch.last}, behind the last message", fetch)
        elif fetch.checksum != difference(
            self._checksums[fetch.last], self._checksums[fetch.first - 1]
        ):
            run = f"messages {fetch.first} to {fetch.last} otherwise than the final read"
            self._add("phantom", f"brought {run}", fetch)

    def _see(self, first: int, last: int) -> None:
        last = min(last, self._head)
        if first <= last:
            self._seen[first : last + 1] = b"\1" * (last + 1 - first)

    def _add(self, word: str, what: str, fetch: Fetch) -> None:
        self._findings.add(word, f"{self._name}: a fetch of up to {fetch.limit} {what}")
