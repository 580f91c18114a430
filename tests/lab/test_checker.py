"""The checker: silent about what is right, and one name for each thing that is wrong."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from qlib.lab import checker
from qlib.lab.checker import ANOMALIES, Verdict, check
from qlib.lab.history import History, Operation
from tests.lab import model_queue
from tests.lab.model_queue import random_history
from tests.lab.planted import ALSO, PLANTED, Told


def names(verdict: Verdict) -> set[str]:
    return {anomaly.name for anomaly in verdict.anomalies}


def told(write: Callable[[Told], object]) -> Verdict:
    history = Told()
    write(history)
    return check(history.history)


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


BUGS: dict[str, dict[str, Callable[..., Any]]] = {
    "lost-ack": {"ack": lambda t, s, o, e: t.standing.update({s: (o, e)}) or {"position": o}},
    "reset-undone": {"move": lambda t, o, *s: t.standing.update({n: (o, 0) for n in s}) or {}},
    "stale-empty": {"fetch": lambda t, s, a, n: {"position": 0, "epoch": 0}},
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


def test_lost_says_where_and_what_is_there_instead() -> None:
    def lose(found: str) -> str:
        history = Told()
        history.publish("a", "b", "c", at=(1, 2, 3))
        history.publish("d")
        history.final(found)
        (anomaly,) = check(history.history).anomalies
        return str(anomaly)

    assert lose("ab") == (
        "lost-write × 1: the publish of c returned offset 3, yet the final read of orders ends at "
        "2: its tail is lost"
    )
    assert "has nothing at 2, in its middle" in lose("a c")
    assert lose("abd").endswith("yet the final read of orders has d at 3")


def test_two_publishes_with_one_offset_lead_to_a_lost_write() -> None:
    for numbers, name in (((1, 2), "false-dedupe"), ((None, None), "inconsistent-offsets")):
        history = Told()
        for value, number in zip("ab", numbers, strict=True):
            producer = number and "p"
            history.publish(value, at=1, sequence=number, producer=producer)
        history.final("a")
        assert names(check(history.history)) == {name, "lost-write"}


def test_a_number_used_twice_for_other_messages() -> None:
    history = Told()
    history.publish("a", at=1, sequence=1, producer="p")
    history.publish("b", at=2, sequence=1, producer="p")
    history.final("ab")
    assert names(check(history.history)) == {"dedupe-miss"}


def test_a_batch_in_doubt_is_there_whole_or_not_at_all() -> None:
    def batch(found: str) -> set[str]:
        history = Told()
        history.publish("a", "b", "c")
        history.publish("d", overlaps=2)
        history.final(found)
        return names(check(history.history))

    assert batch("abcd") == batch("dabc") == batch("d") == set()
    assert batch("abd") == {"batch-order"}


def test_a_reset_that_was_forgotten_is_a_lost_ack() -> None:
    history = Told()
    history.publish("a", "b", at=(1, 2))
    history.fetch(0, "ab")
    history.add("reset", offset=2)
    history.fetch(0, "ab")
    assert names(check(history.history)) == {"lost-ack"}


def test_reading_ahead_is_free_of_the_position() -> None:
    def read(found: str, acked: int, **facts: Any) -> set[str]:
        history = Told()
        history.publish("a", "b", "c", at=(1, 2, 3))
        history.fetch(0, found, **facts)
        history.reader("ack", offset=acked, position=acked)
        history.fetch(*((3,) if acked == 3 else (acked, "abc"[acked:])))
        history.final("abc")
        return names(check(history.history))

    assert read("c", 3, offset=2) == set()  # who acknowledges more than it got does so at will
    assert read("c", 1, offset=2) == set()
    assert read("c", 3, offset=1) == {"poll-skip"}
    assert read("bc", 3) == {"poll-skip", "unseen"}
    assert read("ac", 3) == {"int-poll-skip", "unseen"}
    assert read("abc", 3) == set()


def test_only_real_time_order_counts() -> None:
    history = Told()
    history.publish("a", at=2)
    history.publish("b", at=1, overlaps=1.5)
    seen = {"offsets": (1,), "values": ("b",)}
    history.reader("fetch", position=0, limit=10, **seen, overlaps=3.5)
    history.final("ba")
    assert check(history.history)
    history.reader("fetch", position=0, limit=10, **seen)
    assert names(check(history.history)) == {"stale-read"}


def test_what_was_deleted_is_left_out() -> None:
    history = Told()
    history.publish("a", at=1)
    history.publish("a", at=1, topic="parcels")
    history.add("delete_topic")
    verdict = check(history.history)
    assert verdict and (verdict.operations, verdict.published) == (1, 1)
    history = Told()
    history.fetch(0)
    history.reader("unsubscribe")
    history.fetch(5)
    assert check(history.history)


def test_a_refusal_to_serve_needs_a_fault() -> None:
    history = Told()
    history.publish("a", outcome="fail", error="Unavailable")
    assert names(check(history.history)) == {"spurious-fail"}
    assert check(history.history, faults=True)


def test_an_offset_without_a_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="argument 2 is"):
        check(History([Operation("browse", "orders", 1, 2, offsets=(1,))]))
