"""The checker on leases: silent about what is right, whatever is in doubt; and one bug after the other."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from qlib.lab.checker import check
from tests.lab.checker.model_work import random_work
from tests.lab.checker.verdicts import names
from tests.sql.lease_model import Held, Message, Model, Refused


def test_random_right_work_raises_no_alarm() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(400):
        faults, ordered = bool(seed % 2), bool(seed // 2 % 2)
        history = random_work(seed, faults=faults, ordered=ordered)
        kinds.update(f"{o.kind} {o.outcome}" for o in history.operations)
        verdict = check(history, faults=faults)
        assert verdict, f"seed {seed}\n{verdict}"
    for kind in ("lease", "ack_lease", "nack", "extend", "redrive", "seek"):
        assert kinds[f"{kind} ok"] > 100 and kinds[f"{kind} unknown"] > 10, kinds
    assert min(kinds[f"{kind} fail"] for kind in ("ack_lease", "nack", "extend")) > 100, kinds
    assert kinds["restart ok"] > 200 and kinds["ack ok"] > 50, kinds


def late_is_fine(model: Model, held: Held, asked: set[int] | None) -> set[int]:
    if held.epoch != model.epoch:
        raise Refused("QL010")
    return set(held.rest if asked is None else asked & held.rest)


def drop(model: Model, message: Message) -> None:
    message.over, message.lease = True, None


def never_again(model: Model) -> list[Message]:
    model.expire()
    return [m for m in model.messages.values() if not m.over and not m.attempts]


def count_twice(model: Model) -> None:
    expire(model)
    for message in model.messages.values():
        if message.lease is None and message.attempts == 1:
            message.attempts = 2


def leave_none(model: Model) -> None:
    """Messages are out, and to be had all the same."""
    for message in model.messages.values():
        message.lease = None


expire = Model.expire
BUGS: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "an ack that ignores expiry": ("zombie-ack", {"held": late_is_fine}),
    "messages that are still to be had": ("double-lease", {"expire": leave_none}),
    "a last attempt that drops": ("lost-work", {"bury": drop}),
    "a message that is never tried again": ("lease-stuck", {"waits": never_again}),
    "a number that leaps": ("attempts", {"expire": count_twice}),
    "a follower that is let through": ("key-order", {"free": lambda *_: True}),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_of_leases_is_found_in_random_work(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, planted = BUGS[bug]
    for method, body in planted.items():
        monkeypatch.setattr(Model, method, body)
    found: Counter[str] = Counter()
    for seed in range(30):
        faults = bool(seed % 2)
        history = random_work(seed, faults=faults, ordered=name == "key-order")
        found.update(names(check(history, faults=faults)))
    assert found[name] >= 5, found
