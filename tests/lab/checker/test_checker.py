"""The checker: silent about what is right, and one name for each thing that is wrong."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from qlib.lab import checker
from qlib.lab.checker import ANOMALIES, check
from qlib.lab.history import History
from tests.lab.checker import model_queue
from tests.lab.checker.model_queue import random_history
from tests.lab.checker.planted import ALSO, Told
from tests.lab.checker.planted_leases import PLANTED
from tests.lab.checker.verdicts import names


def test_the_table_in_the_docstring_is_the_list_of_names() -> None:
    rows = re.findall(r"^\| ([a-z-]+) \| ([a-z ]+) \|", checker.__doc__ or "", re.MULTILINE)
    assert dict(rows[1:]) == dict(ANOMALIES)  # the first row is the heading
    assert PLANTED.keys() == ANOMALIES.keys()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_by_its_name_alone(name: str) -> None:
    right, wrong = Told(), Told()
    PLANTED[name](right, False)
    PLANTED[name](wrong, True)
    assert not check(right.history).anomalies
    verdict = check(wrong.history)
    assert names(verdict) == {name} | ALSO.get(name, set())
    assert not verdict


def test_random_right_histories_raise_no_alarm() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(1500):
        faults = bool(seed % 2)
        history = random_history(seed, turns=1500 if seed % 10 == 0 else 300, faults=faults)
        kinds.update(f"{o.kind} {o.outcome}" for o in history.operations)
        verdict = check(history, faults=faults)
        assert verdict, f"seed {seed}\n{verdict}"
    for kind in ("publish", "fetch", "ack", "reset", "seek", "browse"):
        assert kinds[f"{kind} ok"] > 100 and kinds[f"{kind} unknown"] > 20, kinds
    assert kinds["ack fail"] > 100 and kinds["seek fail"] and kinds["reset fail"], kinds
    assert kinds["fetch fail"] > 20, kinds


BUGS: dict[str, dict[str, Callable[..., Any]]] = {
    "lost-ack": {"ack": lambda t, s, o, e: t.standing.update({s: (o, e)}) or {"position": o}},
    "reset-undone": {"move": lambda t, o, *s: t.standing.update({n: (o, 0) for n in s}) or {}},
    "stale-empty": {"fetch": lambda t, s, a, n, e: {"position": 0, "epoch": 0}},
    "unseen": {"first": lambda t, position: position + 1},
    "dedupe-miss": {"known": lambda t, number: None},
    "ack-beyond-head": {"head": lambda t: 10**9},
}


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_of_the_queue_is_found_in_random_histories(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method, body in BUGS[name].items():
        monkeypatch.setattr(model_queue.Topic, method, body)
    found: Counter[str] = Counter()
    for seed in range(10):
        found.update(names(check(random_history(seed, turns=1500), faults=True)))
    assert found[name] >= 5, found


def test_a_check_of_nothing_says_so() -> None:
    verdict = check(History())
    assert not verdict and not verdict.anomalies
    assert "nothing was checked" in repr(verdict)


def test_the_verdict_reads_the_same_every_time() -> None:
    history = Told()
    history.publish("a", "b", "c", at=(1, 2, 3))
    history.fetch(0, "ac")
    history.final("abd")
    verdict = check(history.history)
    assert (
        repr(verdict)
        == repr(check(history.history))
        == (
            "published 3, lost 0, duplicated 0, out of order 1, skipped 0, wrong 1\n"
            "checked 3 operations and 5 messages seen\n"
            "int-poll-skip × 1: a fetch by kitchen of orders brought 3 after 1, without 2\n"
            "corrupt × 1: the final read of orders shows d at 3, which nobody sent, where the publish "
            "of c was stored"
        )
    )


def test_html_is_escaped() -> None:
    history = Told()
    history.publish("a", at=1)
    history.final("<", topic="parcels")
    assert "&lt;" in check(history.history)._repr_html_()
    assert "shows <" not in check(history.history)._repr_html_()
