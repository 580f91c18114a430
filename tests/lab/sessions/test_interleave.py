"""Every order is tried, and the broken promise found: exactly in the strategies that break it."""

import itertools
import math
import os
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from qlib.lab import sql
from qlib.lab.sessions.interleave import Interleaving, Outcome, Statement, interleave, orders
from qlib.lab.sessions.session import Session
from qlib.lab.sessions.steps import SessionError
from qlib.lab.sessions.strategy import strategy

pytestmark = pytest.mark.usefixtures("nothing_leaks")

RIGHT = ("advisory_lock", "counter_row", "record_batch")


def read(session: Session) -> list[object]:
    """Fetch, acknowledge and commit; return what was read."""
    messages = session.run("select * from queue.fetch('orders', 'kitchen')")
    assert isinstance(messages, list)
    if messages:
        last = messages[-1]
        session.run("select queue.ack('orders', 'kitchen', %s, %s)", last.offset, last.epoch)
    session.commit()
    return [message.payload for message in messages]


PUBLISHERS: dict[str, list[Statement]] = {
    "A": ["select queue.publish('orders', '1')", "commit"],
    "B": ["select queue.publish('orders', '2')", "commit"],
}
ONE_READER: dict[str, list[Statement]] = {**PUBLISHERS, "reader": [read]}


def nothing_lost(outcome: Outcome) -> bool:
    """Whether the reader got, or gets next, what was published and stored."""
    rest = outcome.sql("select payload from queue.fetch('orders', 'kitchen')")
    stored = outcome.sql("select payload from queue.messages")
    seen = [message.payload for message in rest or []]
    for result in outcome.results["reader"]:
        seen += result
    return sorted(seen) == sorted(message.payload for message in stored or [])


def nobody_refused(outcome: Outcome) -> bool:
    """Whether each statement of the publishers was accepted."""
    results = outcome.results["A"] + outcome.results["B"]
    return not any(isinstance(result, SessionError) for result in results)


def under(
    name: str, sessions: dict[str, list[Statement]], judge: Callable[[Outcome], object]
) -> Interleaving:
    with strategy(name):
        return interleave(sessions, judge)


@pytest.mark.parametrize("counts", [(1,), (2, 2), (2, 2, 1), (2, 2, 3), (3, 0, 2)])
def test_every_order_comes_once(counts: tuple[int, ...]) -> None:
    left = {str(name): count for name, count in enumerate(counts)}
    every = list(orders(left))
    multinomial = math.factorial(sum(counts)) // math.prod(map(math.factorial, counts))
    assert len(every) == len(set(every)) == multinomial
    assert all(sorted(order) == sorted(every[0]) for order in every)


def test_the_orders_are_all_there_are() -> None:
    assert set(orders({"A": 2, "B": 1, "C": 1})) == set(itertools.permutations("AABC"))


def test_a_sequence_loses_a_message() -> None:
    found = under("sequence", ONE_READER, nothing_lost)
    # the reader comes when one has committed and the other one, with the lower offset, has not
    assert (found.orders, found.broken, found.waited) == (30, 2, 0)
    assert found.shortest == "A publish → 1, B publish → 2, B commit, reader read → [2], A commit"
    assert found.table[~found.table["kept"]]["order"].iloc[0] == found.shortest
    assert repr(found).splitlines() == [
        "2 of 30 orders broke the promise; a statement had to wait in 0, failed in 0. The shortest:",
        *("  " + step for step in found.shortest.split(", ")),
    ]
    assert "<li>reader read → [2]</li>" in found._repr_html_()


@pytest.mark.parametrize("name", [*RIGHT, "max_plus_one"])
def test_with_a_lock_nothing_is_lost(name: str) -> None:
    found = under(name, ONE_READER, nothing_lost)
    assert (found.orders, found.broken, found.shortest) == (30, 0, "")
    # A and B meet in 4 of the 6 orders of their own statements
    assert (found.waited, found.failed) == (20, 20 if name == "max_plus_one" else 0)
    assert "B publish" in found.table["order"].iloc[0]


def test_without_a_lock_somebody_is_refused() -> None:
    found = under("max_plus_one", PUBLISHERS, nobody_refused)
    assert (found.orders, found.broken, found.waited, found.failed) == (6, 4, 4, 4)
    assert list(found.table["failed"]) == list(~found.table["kept"])
    assert found.shortest == (
        "A publish → 1, B publish ✗ 23505 (after a wait for A), A commit, B commit ✗ 25P02"
    )


@pytest.mark.parametrize("name", RIGHT)
def test_with_a_lock_nobody_is_refused(name: str) -> None:
    found = under(name, PUBLISHERS, nobody_refused)
    assert (found.orders, found.broken, found.waited) == (6, 0, 4)


@pytest.mark.parametrize(("name", "broken"), [("sequence", 6), ("advisory_lock", 0)])
def test_two_publishers_and_a_subscriber_step_by_step(name: str, broken: int) -> None:
    sessions: dict[str, list[Statement]] = {**PUBLISHERS, "reader": [fetch, ack, "commit"]}
    found = under(name, sessions, fetched_or_to_come)
    # either may be the late one; its commit comes before the ack, after it, or last
    assert (found.orders, found.broken) == (210, broken)


FETCH = "select * from queue.fetch('orders', 'kitchen')"
fetched: list[Any] = []


def fetch(session: Session) -> list[object]:
    messages = session.run(FETCH)
    assert isinstance(messages, list)
    fetched[:] = messages
    return [message.payload for message in fetched]


def ack(session: Session) -> None:
    if fetched:
        offset, epoch = fetched[-1].offset, fetched[-1].epoch
        session.run("select queue.ack('orders', 'kitchen', %s, %s)", offset, epoch)


def fetched_or_to_come(outcome: Outcome) -> bool:
    seen = set(outcome.results["reader"][0])
    seen |= {message.payload for message in outcome.sql(FETCH) or []}
    return seen == {1, 2}


def test_a_deadlock_ends_and_one_goes_on() -> None:
    setup = "select queue.create_topic('orders'), queue.create_topic('returns')"
    there, back = ("select queue.publish('orders', '1')", "select queue.publish('returns', '1')")
    sessions: dict[str, list[Statement]] = {
        "A": [there, back, "commit"],
        "B": [back, there, "commit"],
    }
    found = interleave(sessions, one_of_two_circles, setup)
    deadlocks = found.table["order"].str.contains("40P01")
    # each has one topic before the other asks for it: 2 ways to begin, 6 to go on
    assert (found.orders, found.broken, deadlocks.sum()) == (20, 0, 12)
    closed = found.table["order"].str.startswith("A publish → 1, B publish → 1, A publish → 1 (")
    assert (deadlocks & closed).sum() == 3


def one_of_two_circles(outcome: Outcome) -> bool:
    states = [
        result.sqlstate
        for results in outcome.results.values()
        for result in results
        if isinstance(result, SessionError)
    ]
    stored = outcome.sql("select count(*) from queue.messages")
    failed = states.count("40P01")
    return failed <= 1 and stored == [(4 - 2 * failed,)]


def test_what_stays_open_is_rolled_back() -> None:
    sessions: dict[str, list[Statement]] = {"A": PUBLISHERS["A"][:1], "B": PUBLISHERS["B"]}
    only_b = interleave(sessions, lambda o: o.sql("select payload from queue.messages") == [(2,)])
    assert (only_b.orders, only_b.broken, only_b.waited) == (3, 0, 2)
    assert only_b.table["order"].iloc[0] == (
        "A publish → 1, B publish → 1 (after a wait for A), A rollback, B commit"
    )


def test_each_order_starts_anew_and_keeps_nothing() -> None:
    sql("select queue.create_topic('mine'); select queue.publish('mine', '1')")
    before = sql("select * from queue.messages")
    found = interleave(
        PUBLISHERS, lambda o: o.sql('select max("offset") from queue.messages') == [(2,)]
    )
    assert (found.orders, found.broken) == (6, 0)
    assert sql("select * from queue.messages").equals(before)


def test_a_judge_who_is_never_content_breaks_all() -> None:
    found = interleave(PUBLISHERS, lambda _: False)
    assert (found.orders, found.broken) == (6, 6)
    assert found.shortest == "A publish → 1, A commit, B publish → 2, B commit"


def test_what_others_raise_comes_through() -> None:
    def wrong(_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interleave(PUBLISHERS, wrong)
    with pytest.raises(ZeroDivisionError):
        interleave({"A": [wrong]}, bool)
    with pytest.raises(SessionError, match="QL001"):
        interleave(PUBLISHERS, bool, "select queue.publish('nowhere', '1')")


def test_who_waits_for_an_outsider_is_named() -> None:
    setup = "select queue.create_topic('orders')"
    with strategy("advisory_lock"), closing(psycopg2.connect(os.environ["QUEUE_DSN"])) as outsider:
        with outsider.cursor() as cursor:
            cursor.execute("select pg_advisory_lock(42, 1)")
        with pytest.raises(
            RuntimeError, match="^A and B wait for somebody who is not part of this"
        ):
            interleave({"A": PUBLISHERS["A"][:1], "B": PUBLISHERS["B"][:1]}, bool, setup)


def test_the_progress_bar_leaves_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    interleave(PUBLISHERS, bool)
    assert capfd.readouterr() == ("", "")
