"""Whether a worker that had lost its lease was always refused, and no other one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import inf

from qlib.lab.checker.held import Held
from qlib.lab.checker.verdict import Findings
from qlib.lab.checker.work import Work
from qlib.lab.history.operation import Operation


def check_zombies(work: Work, findings: Findings) -> None:
    """Find zombie-ack; reset-undone and spurious-fail of acks and nacks of leases."""
    next_ones = _next_ones(work)
    for held in work.held:
        for operation in (*held.acks, *held.nacks, *held.extends):
            if operation.outcome == "ok":
                _check(held, operation, next_ones[id(held)], work, findings)
    _check_twice(work, findings)
    for held, operation in work.refused:
        if operation.error == "LeaseExpired" and _was_live(held, operation, work):
            what = f"a valid {_verb(operation)} by {work.name} was refused: it had not expired"
            findings.add("spurious-fail", what)


def _check(
    held: Held, operation: Operation, later: dict[int, Held], work: Work, findings: Findings
) -> None:
    changed = 1 if operation.kind == "extend" else (operation.count or 0) + (operation.buried or 0)
    if not changed:
        return
    what = f"the {_verb(operation)} of {held.operation.lease} by {work.name} was accepted"
    if held.last < work.moves.low(operation.start):
        findings.add("reset-undone", f"{what} after a reset or seek")
    elif work.clock.earliest(operation.start) > held.ends_without(operation):
        findings.add("zombie-ack", f"{what} after it had expired")
    elif operation.kind != "extend":
        lost = set(_lost(held, operation, later, work))
        if changed > len(set(held.asked(operation)) - lost):
            findings.add("zombie-ack", f"{what}; {min(lost)} was another's, or had been, by then")


def _lost(held: Held, operation: Operation, later: dict[int, Held], work: Work) -> Iterator[int]:
    """Yield what is asked for that somebody else surely had leased before."""
    for offset in held.asked(operation):
        other = later.get(offset)
        if other is None or other.operation.end >= operation.start:
            continue
        # A crash may bring back what was given back without waiting for the disk.
        if held.returned.get(offset, inf) > operation.end or work.restarts.survived(
            other.operation, operation.end
        ):
            yield offset


def _next_ones(work: Work) -> dict[int, dict[int, Held]]:
    """Return who had each message next, by the lease before it in the same epoch."""
    found: dict[int, dict[int, Held]] = defaultdict(dict)
    for offset, leases in work.repeated.items():
        for held, other in zip(leases, leases[1:], strict=False):
            if held.epoch is not None and held.epoch == other.epoch:
                found[id(held)][offset] = other
    return found


def _check_twice(work: Work, findings: Findings) -> None:
    """Find what was done under two leases, whoever of them was the zombie."""
    for offset, leases in work.repeated.items():
        done = [h for h in leases if h.epoch is not None and offset in h.done]
        for held, other in zip(done, done[1:], strict=False):
            if held.epoch == other.epoch and not work.redriven(offset, -inf, inf):
                both = f"{held.operation.lease} and {other.operation.lease} by {work.name}"
                findings.add("zombie-ack", f"{offset} was acknowledged under {both}")


def _was_live(held: Held, operation: Operation, work: Work) -> bool:
    """Return whether all that a lease held surely was in its hands when it was refused."""
    return (
        held.epoch == work.moves.high(operation.end)
        and work.clock.latest(operation.end) < held.until
        and work.restarts.survived(held.operation, operation.end)
        and not any(nack.start < operation.end for nack in held.nacks)
        and (operation.kind != "extend" or not held.acks)
    )


def _verb(operation: Operation) -> str:
    return operation.kind.removesuffix("_lease")
