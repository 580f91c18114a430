"""The checker, case by case: what is one fault, what is another, and what is none."""

from typing import Any

import pytest

from qlib.lab.checker import check
from qlib.lab.history import History, Operation
from tests.lab.checker.planted import Told
from tests.lab.checker.verdicts import names


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


def test_who_sent_only_right_requests_can_say_so() -> None:
    history = Told()
    history.publish("a", at=1)
    history.publish("b", outcome="fail", error="InvalidRequest")
    history.fetch(0, "a")
    history.reader("ack", offset=2, outcome="fail", error="OffsetOutOfRange")
    history.final("a")
    assert check(history.history)
    (anomaly,) = check(history.history, valid=True).anomalies
    assert (anomaly.name, anomaly.count) == ("spurious-fail", 2)


def test_only_what_was_sent_with_an_epoch_can_be_stale() -> None:
    def refused(kind: str, moved: bool = True, **sent: int | None) -> set[str]:
        history = Told()
        history.fetch(0)
        if moved:
            history.add("reset", offset=0, overlaps=1.5)
        history.reader(kind, outcome="fail", error="StaleEpoch", **sent)
        return names(check(history.history, valid=True))

    for kind in ("ack", "fetch"):
        assert refused(kind, offset=0) == set()
        assert refused(kind, moved=False, offset=0) == {"spurious-fail"}
    assert refused("fetch", epoch=None) == {"spurious-fail"}


def test_messages_at_each_others_offsets_are_lost_writes() -> None:
    def stored(found: str) -> set[str]:
        history = Told()
        for n, value in enumerate("abc", 1):
            history.publish(value, at=n)
        history.final(found)
        return names(check(history.history))

    assert stored("abc") == set()
    assert stored("ac") == {"lost-write"}  # without a hole
    assert stored("bac") == stored("xabc") - {"corrupt"} == {"lost-write"}


def test_what_was_seen_must_stay_whatever_its_publisher_was_told() -> None:
    def kept(found: str) -> set[str]:
        history = Told()
        history.publish("a", at=1)
        history.publish("b")
        history.fetch(0, "ab")
        history.final(found)
        return names(check(history.history))

    assert kept("ab") == set()
    assert kept("a") == {"lost-write"}


def test_a_final_read_that_repeats_an_offset() -> None:
    history = Told()
    history.publish("a", "b", at=(1, 2))
    seen = {"floor": 1, "head": 2, "offsets": (1, 2, 2), "values": ("a", "b", "b")}
    history.add("final_read", **seen)
    assert names(check(history.history)) == {"int-nonmonotonic-poll"}


def test_an_ack_answered_with_less_than_it_said_is_a_lost_ack() -> None:
    def answered(position: int) -> set[str]:
        history = Told()
        history.publish("a", "b", at=(1, 2))
        history.fetch(0, "ab")
        history.reader("ack", offset=2, position=position)
        history.fetch(2)
        return names(check(history.history))

    assert answered(2) == set()
    assert answered(0) == {"lost-ack"}


def test_an_offset_without_a_value_is_an_error() -> None:
    with pytest.raises(ValueError, match="argument 2 is"):
        check(History([Operation("browse", "orders", 1, 2, offsets=(1,))]))
