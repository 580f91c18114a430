"""The checker on leases, case by case: what is one fault, what is another, and what is none."""

from typing import Any

from qlib.lab.checker import check
from tests.lab.checker.planted import Told
from tests.lab.checker.planted_leases import Crew
from tests.lab.checker.verdicts import names


def found(told: Told, **options: Any) -> set[str]:
    return names(check(told.history, **options))


def leased_again(lost: bool = False, **between: Any) -> Told:
    """One has a message for long, and another one gets it."""
    told = Told()
    crew = Crew(told, "ab", max_attempts=5)
    crew.lease("1", "a")
    if between:
        told.add(**between)
    crew.lease("2", "a", 1 if lost else 2)
    return told


def test_who_leases_is_told_by_the_databases_clock_alone() -> None:
    assert found(leased_again()) == {"double-lease"}
    told = Told()
    crew = Crew(told, "a")
    # it lasts for 3 s of the database's clock, and by ours the answer takes 50 s
    start = next(told.clock)
    crew.lease("1", "a", seconds=3, start=start, end=start + 50)
    told.clock = iter(range(10, 99))  # type: ignore[assignment]
    crew.lease("2", "a", 2, seconds=3, start=start + 5, end=start + 6, expires=1000 + start + 8.5)
    assert found(told) == set()


def test_a_crash_of_the_database_excuses_what_it_may_have_undone() -> None:
    crash = {"kind": "restart", "topic": ""}
    assert found(leased_again(lost=True, **crash), faults=True) == set()
    # without the disk having been waited for, it is a crash that nobody told of, or none
    assert found(leased_again(), faults=True) == set()
    told = Told()
    told.add("restart", topic="")
    crew = Crew(told, "ab")
    crew.lease("1", "a")
    crew.lease("2", "a", 2)
    assert found(told, faults=True) == {"double-lease"}
    told = Told()
    crew = Crew(told, "ab")
    crew.lease("1", "a")
    crew.lease("2", "b")
    crew.ack("2")  # this waits for the disk, and so does all before it
    told.add("restart", topic="")
    crew.lease("3", "a", 2)
    assert found(told, faults=True) == {"double-lease"}


def test_a_nack_in_doubt_excuses_what_follows_it() -> None:
    def after(**nack: Any) -> set[str]:
        told = Told()
        crew = Crew(told, "a")
        crew.lease("1", "a")
        crew.nack("1", **nack)
        crew.lease("2", "a", 2)
        return found(told)

    assert after() == after(outcome="unknown", count=None) == set()
    assert after(outcome="fail", error="LeaseExpired") == {"double-lease", "spurious-fail"}


def test_an_extension_counts_when_it_was_answered() -> None:
    def after(**extension: Any) -> set[str]:
        told = Told()
        crew = Crew(told, "a")
        crew.lease("1", "a", seconds=3)
        crew.extend("1", 200, **extension)
        crew.passes(20)
        crew.lease("2", "a", 2)
        return found(told)

    assert after() == {"double-lease"}
    assert after(outcome="unknown", expires=None) == set()


def test_what_is_done_is_not_leased_again_until_a_seek() -> None:
    def then(**between: Any) -> set[str]:
        told = Told()
        crew = Crew(told, "a")
        crew.lease("1", "a")
        crew.ack("1", position=1)
        if between:
            told.reader(**between)
        crew.lease("2", "a", 1 if between else 2)
        return found(told)

    assert then() == {"double-lease"}
    assert then(kind="seek", offset=0) == set()
    # the seek may come to pass yet, or have been
    assert then(kind="seek", offset=0, outcome="unknown") == set()


def test_an_ack_after_a_seek_undoes_it() -> None:
    told = Told()
    crew = Crew(told, "a")
    crew.lease("1", "a")
    told.reader("seek", offset=0)
    crew.ack("1", position=0, epoch=1)
    assert found(told) == {"reset-undone"}


def test_an_ack_counts_as_late_only_when_that_is_sure() -> None:
    def late(passed: int, again: bool = False, **ack: Any) -> set[str]:
        told = Told()
        crew = Crew(told, "ab")
        crew.lease("1", "ab", seconds=3)
        if again:
            crew.ack("1", 1, position=1)
        crew.passes(passed)
        if not passed:
            crew.extend("1", 1, outcome="unknown", expires=None)  # so that no clock tells
            crew.passes(9)
            crew.lease("2", "b", 2)
        crew.ack("1", 1, 2, **{"position": 2, "count": 2, **ack})
        return found(told)

    assert late(10) == {"zombie-ack"}
    assert late(1) == set()  # the clocks are known to a second
    assert late(10, again=True, count=0) == set()  # the same ack again
    # one of the two was another's by then: two cannot have been done by this ack, but one can
    assert late(0) == {"zombie-ack"}
    assert late(0, count=1) == set()
    assert late(10, outcome="unknown", count=None) == set()


def test_two_cannot_do_one_message() -> None:
    told = Told()
    crew = Crew(told, "a")
    crew.lease("1", "a", seconds=3)
    crew.passes(3)
    crew.lease("2", "a", 2)
    start = next(told.clock) - 3.5  # under way while the other one leased
    crew.ack("1", start=start, position=1)
    crew.ack("2", position=1)
    assert found(told) == {"zombie-ack"}


def test_a_refusal_of_a_live_lease_is_spurious() -> None:
    def refused(seconds: float) -> set[str]:
        told = Told()
        crew = Crew(told, "a")
        crew.lease("1", "a", seconds=seconds)
        crew.ack("1", outcome="fail", error="LeaseExpired", count=None, position=None)
        return found(told, valid=True)

    assert refused(100) == {"spurious-fail"}
    assert refused(2) == set()


def test_leases_without_an_answer_hide_attempts() -> None:
    def third(hidden: int) -> set[str]:
        told = Told()
        crew = Crew(told, "a", max_attempts=5)
        crew.lease("1", "a", seconds=1)
        for _ in range(hidden):
            told.reader("lease", outcome="unknown", seconds=1.0, epoch=None)
        crew.passes(5)
        crew.lease("2", "a", 4)
        return found(told)

    assert third(0) == third(1) == {"attempts"}
    assert third(2) == set()


def test_attempts_that_do_not_count_or_begin_anew() -> None:
    def second(attempt: int, **between: Any) -> set[str]:
        told = Told()
        crew = Crew(told, "a", max_attempts=3)
        crew.lease("1", "a", 1)
        if between:
            facts = {"lease": "1"} if between["kind"] == "nack" else {}
            told.reader(**{"count": 1, "offsets": (1,), "epoch": None, **facts, **between})
        crew.passes(200)
        crew.lease("2", "a", attempt)
        return found(told)

    assert second(2) == second(1, kind="nack", untried=True) == second(1, kind="redrive") == set()
    assert second(1) == second(1, kind="nack") == second(3) == {"attempts"}
    assert second(4) == {"attempts"}  # of three


def test_a_position_passes_what_may_be_done_and_what_is_dead() -> None:
    def passed(*acks: int, dead: str = "", back: int = 0, **ack: Any) -> set[str]:
        told = Told()
        crew = Crew(told, "ab", max_attempts=1)
        crew.lease("1", "ab")
        if back:
            crew.nack("1", back, count=0, buried=1)
        crew.ack("1", *acks, **{"position": 2, **ack})
        crew.end(2, dead)
        told.final("ab")
        return found(told)

    assert passed(1, 2) == passed() == passed(1, dead="b") == passed(dead="b", back=2) == set()
    assert passed(1, 2, outcome="unknown", count=None, position=None) == set()
    assert passed(1) == {"lost-work", "phantom-position"}
    assert passed(back=2) == {"lost-work", "phantom-position"}
    assert passed(back=1) == {"lost-work"}


def test_nothing_is_stuck_as_long_as_it_may_be_out() -> None:
    def left(seconds: float, wait: float = 5.0, doubt: bool = False, **nack: Any) -> set[str]:
        told = Told()
        crew = Crew(told, "a", max_attempts=5, backoff_cap=nack.pop("cap", 1.0))
        if doubt:
            told.reader("lease", outcome="unknown", seconds=200.0, epoch=None)
        crew.lease("1", "a", seconds=seconds)
        if nack:
            crew.nack("1", **nack)
        crew.passes(100)
        crew.nothing(wait=wait)
        crew.end(0)
        told.final("a")
        return found(told)

    assert left(1) == left(5, delay=20.0) == left(5, delay=None) == {"lease-stuck"}
    assert left(500) == left(5, delay=200.0) == left(5, delay=None, cap=300.0) == set()
    assert left(1, wait=0.0) == left(1, doubt=True) == set()


def test_a_key_is_in_order_as_long_as_order_is_on() -> None:
    def two(ordered: bool, key: str | None, **first: Any) -> set[str]:
        told = Told()
        crew = Crew(told, "ab", ordered=ordered, max_attempts=2)
        crew.lease("1", "a", **{"keys": ("k",), **first})
        crew.passes(150)
        crew.lease("2", "b", keys=(key,))
        return found(told)

    assert two(True, "k") == {"key-order"}
    assert two(True, None) == two(True, "l") == two(False, "k") == set()
    # at its last attempt it may have died, and freed its key
    assert two(True, "k", attempt=2) - {"attempts"} == set()


def test_within_one_lease_a_key_is_done_in_order() -> None:
    def done(*offsets: int) -> set[str]:
        told = Told()
        crew = Crew(told, "ab", ordered=True, max_attempts=5)
        crew.lease("1", "ab", keys=("k", "k"))
        crew.ack("1", *offsets)
        return found(told)

    assert done(1) == done(1, 2) == done() == set()
    assert done(2) == {"key-order"}
