"""Whether everything that a subscriber's position passed had been delivered to it."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf

from qlib.lab.checker.log import Log
from qlib.lab.checker.moves import Moves
from qlib.lab.checker.verdict import Findings
from qlib.lab.checker.work import Work
from qlib.lab.history.operation import Operation


def check_delivered(
    subscriber: str,
    log: Log,
    moves: Moves,
    acks: Sequence[Operation],
    seen: Sequence[Operation],
    work: Work,
    findings: Findings,
) -> None:
    """Find unseen: what lies between an epoch's beginning and its acks, and never came in it.

    `acks` are those that may have moved the position, `seen` the answers that told it. What
    its workers have done, or given up, need not come to it.
    """
    delivered = _delivered(o for o in seen if o.kind == "fetch")
    begin, end = _passed(moves, acks, seen, delivered)
    for epoch, last in sorted(end.items()):
        first = bisect_right(log.offsets, begin[epoch])
        passed = log.offsets[first : bisect_right(log.offsets, last)]
        came = delivered[epoch]
        if unseen := [o for o in passed if o not in came and not work.may_be_settled(o, epoch)]:
            acked = f"{subscriber} acknowledged {log.topic} up to {last}"
            findings.add("unseen", f"{acked}, yet {unseen[0]} never came to it", len(unseen))


def _delivered(fetches: Iterable[Operation]) -> dict[int | None, dict[int, float]]:
    """Return when each message first came in each epoch; infinity when only by reading ahead."""
    delivered: dict[int | None, dict[int, float]] = defaultdict(dict)
    came = ((inf if fetch.offset is not None else fetch.end, fetch) for fetch in fetches)
    for end, fetch in sorted(came, key=lambda pair: pair[0], reverse=True):
        delivered[fetch.epoch].update(dict.fromkeys(fetch.offsets, end))
    return delivered


def _passed(
    moves: Moves,
    acks: Sequence[Operation],
    seen: Sequence[Operation],
    delivered: Mapping[int | None, Mapping[int, float]],
) -> tuple[dict[int, float], dict[int, int]]:
    """Return after which offset, and up to which one, each epoch must have had everything."""
    begin = moves.begins({ack.epoch for ack in acks if ack.epoch is not None})
    end: dict[int, int] = {}
    stood = {(o.epoch, o.position) for o in seen}
    for ack in acks:
        assert ack.epoch is not None and ack.offset is not None
        if delivered.get(ack.epoch, {}).get(ack.offset, inf) > ack.start:
            # Of its own will the subscriber left out what it had not been given.
            begin[ack.epoch] = max(begin[ack.epoch], ack.offset)
        elif ack.outcome == "ok" or (ack.epoch, ack.offset) in stood:
            end[ack.epoch] = max(end.get(ack.epoch, 0), ack.offset)
    return begin, end
