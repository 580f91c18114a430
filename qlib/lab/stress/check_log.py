"""The first half of the check: every message where its publisher was told, once, in order."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from qlib.lab.stress.findings import Findings
from qlib.lab.stress.records import (
    OK,
    UNAVAILABLE,
    UNKNOWN,
    History,
    Publish,
    Stored,
    checksum,
)

_TOPIC = 2**44  # a topic's number times this, plus an offset, is a place


class Final:
    """The final read: where every message is, and the checksum of each topic up to each offset."""

    def __init__(self, history: History, findings: Findings) -> None:
        """Read every topic."""
        sent = (max((c.n + c.size for c in calls), default=0) for calls in history.publishes)
        # 0 stands for nowhere. Eight bytes a message: a run may have many millions.
        self.places = [array("q", bytes(8 * count)) for count in sent]
        self.checksums = [array("q", [0]) for _ in history.stored]
        self.holes: set[int] = set()
        for topic, messages in enumerate(history.stored):
            for message in messages:
                self._keep(topic, message, findings)

    def head(self, topic: int) -> int:
        """Return the topic's last offset."""
        return len(self.checksums[topic]) - 1

    def found(self, publisher: int, call: Publish) -> array[int]:
        """Return where the messages of a publish are."""
        return self.places[publisher][call.n : call.n + call.size]

    def _keep(self, topic: int, message: Stored, findings: Findings) -> None:
        sums, (offset, publisher, n) = self.checksums[topic], message
        if offset < len(sums):
            findings.add("out of order", f"the final read of topic {topic} repeats {offset}")
            return
        while len(sums) < offset:
            self.holes.add(topic * _TOPIC + len(sums))
            sums.append(sums[-1])
        sums.append(checksum(sums[-1], offset, publisher, n))
        where = topic * _TOPIC + offset
        if not 0 <= publisher < len(self.places) or not 0 <= n < len(self.places[publisher]):
            findings.add("phantom", f"{_place(where)} holds a message that nobody sent")
        elif self.places[publisher][n]:
            twice = f"{_place(self.places[publisher][n])} and at {_place(where)}"
            findings.add("duplicated", f"{_name(publisher, n)} is at {twice}")
        else:
            self.places[publisher][n] = where


class Visible:
    """What a topic must show at a time: everything whose publish had returned before."""

    def __init__(self, topic: int, history: History) -> None:
        """Collect the acknowledged publishes of a topic."""
        done = sorted(
            (call.ended, call.offset + call.size - 1)
            for calls in history.publishes
            for call in calls
            if call.topic == topic and call.outcome == OK
        )
        self.times = array("q", (ended for ended, _ in done))
        self.heads = array("q", accumulate((last for _, last in done), max))

    def head(self, moment: int) -> int:
        """Return the last offset that had been answered before a moment, 0 for none."""
        earlier = bisect_left(self.times, moment)
        return self.heads[earlier - 1] if earlier else 0


def check_publishes(
    history: History, final: Final, visible: Sequence[Visible], findings: Findings
) -> None:
    """Compare what each publisher was told with where its messages are."""
    for publisher, calls in enumerate(history.publishes):
        for call in calls:
            what = f"publish of {call.size} from {_name(publisher, call.n)}"
            findings.outcome(call.outcome, (OK, UNKNOWN, UNAVAILABLE), what)
            if _check_places(publisher, call, final, findings):
                _check_order(publisher, call, final, visible[call.topic], findings)
    for hole in sorted(final.holes):
        findings.add("lost", f"{_place(hole)} is empty, and there are messages behind it")


def _check_places(publisher: int, call: Publish, final: Final, findings: Findings) -> bool:
    """Return whether all messages of a publish are where they belong."""
    found = final.found(publisher, call)
    expected = _expected(call, found)
    if found == expected:
        return True
    for k, (place, right) in enumerate(zip(found, expected, strict=True)):
        name = _name(publisher, call.n + k)
        if right and not place:
            final.holes.discard(right)
            findings.add("lost", f"{name} belongs at {_place(right)} and is nowhere")
        elif place and not right:
            findings.add("phantom", f"{name} is at {_place(place)}, but was refused")
        elif place != right:
            at = f"{_place(place)} and belongs at {_place(right)}"
            findings.add("out of order", f"{name} is at {at}")
    return False


def _expected(call: Publish, found: Sequence[int]) -> array[int]:
    """Return the places where a batch must be: whole and without a gap, or not at all."""
    first = call.topic * _TOPIC + call.offset if call.outcome == OK else 0
    if call.outcome == UNKNOWN and any(found):
        k = next(k for k, place in enumerate(found) if place)
        first = call.topic * _TOPIC + (found[k] - k) % _TOPIC
    return array("q", range(first, first + call.size) if first else [0] * call.size)


def _check_order(
    publisher: int, call: Publish, final: Final, visible: Visible, findings: Findings
) -> None:
    place = final.places[publisher][call.n]
    before = visible.head(call.started)
    if place and place % _TOPIC <= before:
        name = f"{_name(publisher, call.n)} is at {_place(place)}"
        findings.add("out of order", f"{name}, but {before} had been given out before it was sent")


def _name(publisher: int, n: int) -> str:
    return f"message {n} of publisher {publisher}"


def _place(place: int) -> str:
    topic, offset = divmod(place, _TOPIC)
    return f"offset {offset} of topic {topic}"
