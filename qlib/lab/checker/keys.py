"""Whether the messages of one key were worked on one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from qlib.lab.checker.held import Held
from qlib.lab.checker.verdict import Findings
from qlib.lab.checker.work import Work


def check_keys(work: Work, findings: Findings) -> None:
    """Find key-order, as long as order by key surely was on."""
    begins = work.moves.begins({held.epoch for held in work.held if held.epoch is not None})
    for held in work.held:
        if held.epoch is not None and held.operation.start > work.ordered_from:
            for offset, earlier, time, done in _orders(held, work):
                if earlier <= begins[held.epoch] or work.may_be_over(earlier, held.epoch, time):
                    continue
                if not any(work.redriven(it, -inf, time) for it in (offset, earlier)):
                    what = f"{offset} of {work.name} was {done} while {earlier}, of the same key,"
                    findings.add("key-order", f"{what} was neither done nor dead")


def _orders(held: Held, work: Work) -> Iterator[tuple[int, int, float, str]]:
    """Yield each message with the one that had to be over by a time, and what was done with it."""
    for offset in held.attempts:
        earlier = work.log.before_in_key.get(offset)
        if earlier is None:
            continue
        if earlier not in held.attempts:
            yield offset, earlier, held.operation.end, "leased"
        elif offset in held.done:
            yield offset, earlier, held.done[offset], "done"
