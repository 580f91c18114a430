"""Whether there was a reason for each operation that failed."""

from __future__ import annotations

from math import inf

from qlib.lab.checker.log import Log
from qlib.lab.checker.verdict import Findings
from qlib.lab.history.operation import Operation


def check_failures(log: Log, faults: bool, valid: bool, findings: Findings) -> None:
    """Find spurious-fail: all but what it takes the epochs, or the leases, to judge.

    What only the sender can judge, such as a request that is not valid or a number used twice, is
    judged when it says that all were `valid`; the refusal to serve, unless there were `faults`.
    """
    known = min((o.end for o in log.operations if o.outcome == "ok"), default=inf)
    subscribers = _known_subscribers(log)
    removed = {o.subscriber for o in log.operations if o.kind == "unsubscribe"}
    for o in (o for o in log.operations if o.outcome == "fail"):
        spurious = {
            "Unavailable": not faults,
            "StaleEpoch": o.epoch is None,
            "TopicNotFound": known < o.start,
            "SubscriberNotFound": subscribers.get(o.subscriber, inf) < o.start
            and o.subscriber not in removed,
            **dict.fromkeys(("LeaseExpired", "KeyOrder", "LeasesOut"), False),
            "OffsetOutOfRange": valid or _is_in_range(o, log),
        }
        if spurious.get(o.error or "", valid):
            who = f" by {o.subscriber}" if o.subscriber else ""
            what = f"{o.kind}{who} on {log.topic} failed with {o.error}"
            findings.add("spurious-fail", f"a valid {what}")


def _known_subscribers(log: Log) -> dict[str | None, float]:
    """Return when each subscriber was first served."""
    known: dict[str | None, float] = {}
    for o in log.operations:
        if o.outcome == "ok" and o.subscriber is not None:
            known[o.subscriber] = min(o.end, known.get(o.subscriber, inf))
    return known


def _is_in_range(operation: Operation, log: Log) -> bool:
    """Return whether the offset surely was within what the topic held. The floor only rises."""
    if log.final is None or log.final.floor is None:
        return False
    if operation.offset is None:
        return operation.kind == "fetch" and log.final.floor == 1
    lowest = {"ack": 0, "browse": log.final.floor}.get(operation.kind, log.final.floor - 1)
    return lowest <= operation.offset <= max(0, log.visible.before(operation.start))
