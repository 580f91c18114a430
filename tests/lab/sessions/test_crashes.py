"""Each point at which a worker can die is tried, and what came of it is counted."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from qlib.lab import sql
from qlib.lab.sessions.crashes import crash_points
from qlib.lab.sessions.session import Session
from qlib.lab.sessions.steps import SessionError
from qlib.lab.sessions.strategy import strategy

pytestmark = pytest.mark.usefixtures("nothing_leaks")

SETUP = """
create table if not exists charges (guest bigint primary key, times int not null);
create table if not exists inbox (topic text, "offset" bigint, primary key (topic, "offset"));
select queue.create_topic('orders'), queue.create_topic('bills');
select queue.subscribe('orders', 'billing', 'earliest'), queue.publish('orders', '1')
"""
COUNT = "select coalesce(sum(times), 0) as charged from charges"
BILLS = "select count(*) as bills from queue.messages where topic = 'bills'"
FETCH = "select * from queue.fetch('orders', 'billing')"
ACK = "select queue.ack('orders', 'billing', %s, %s)"
CHARGE = (
    "insert into charges as c values (%s, 1) on conflict (guest) do update set times = c.times + 1"
)


def effect_first(queue: Any, bank: Any) -> None:
    for order in queue.run(FETCH):
        bank.run(CHARGE, order.offset)
        bank.commit()
        queue.run(ACK, order.offset, order.epoch)
        queue.commit()


def ack_first(queue: Any, bank: Any) -> None:
    for order in queue.run(FETCH):
        queue.run(ACK, order.offset, order.epoch)
        queue.commit()
        bank.run(CHARGE, order.offset)
        bank.commit()


def one_transaction(queue: Any) -> None:
    for order in queue.run("select * from queue.lease('orders', 'billing')"):
        queue.run(CHARGE, order.offset)
        queue.run("select queue.ack_lease('orders', 'billing', %s)", order.lease)
        queue.commit()


def inbox(queue: Any, bank: Any) -> None:
    note = "insert into inbox values ('orders', %s) on conflict do nothing returning true"
    for order in queue.run(FETCH):
        if bank.run(note, order.offset):
            bank.run(CHARGE, order.offset)
        bank.commit()
        queue.run(ACK, order.offset, order.epoch)
        queue.commit()


def outbox(queue: Any) -> None:
    for order in queue.run(FETCH):
        queue.run(ACK, order.offset, order.epoch)
        queue.run("select queue.publish('bills', '1')")
        queue.commit()


def rows(found: pd.DataFrame) -> list[tuple[str, int]]:
    return list(found.itertuples(index=False, name=None))


def test_effect_first_comes_twice_where_it_was_committed_and_the_ack_was_not() -> None:
    found = crash_points(effect_first, COUNT, SETUP)
    assert list(found.columns) == ["killed after", "charged"]
    assert rows(found) == [
        *[("nothing", 1), ("queue fetch", 1), ("bank insert", 1)],
        *[("bank commit", 2), ("queue ack", 2), ("queue commit", 1)],
    ]


def test_ack_first_loses_it() -> None:
    found = crash_points(ack_first, COUNT, SETUP)
    assert rows(found) == [
        *[("nothing", 1), ("queue fetch", 1), ("queue ack", 1)],
        *[("queue commit", 0), ("bank insert", 0), ("bank commit", 1)],
    ]


@pytest.mark.parametrize(
    ("worker", "count", "points"),
    [(one_transaction, COUNT, 5), (inbox, COUNT, 7), (outbox, BILLS, 5)],
)
def test_three_ways_of_exactly_once(worker: Callable[..., None], count: str, points: int) -> None:
    found = crash_points(worker, count, SETUP)
    assert list(found.iloc[:, 1]) == [1] * points


def test_each_try_starts_anew_and_keeps_nothing() -> None:
    sql("select queue.create_topic('mine')")
    ids = "select count(*) from queue.topic"
    assert rows(crash_points(outbox, ids, SETUP))[-1] == ("queue commit", 2)
    assert list(sql("select topic from queue.topics")["topic"]) == ["mine"]
    assert sql("select to_regclass('charges') as it")["it"][0] is None


def test_it_happens_under_the_strategy_around_it() -> None:
    with strategy("sequence"):
        found = crash_points(outbox, "select last_value from queue.next_offset", SETUP)
        # a bill that is rolled back leaves its number taken
        assert list(found["last_value"]) == [2, 2, 2, 3, 2]
        assert not sql("select to_regclass('charges')").isna().any(axis=None)


def test_no_worker_survives_its_end() -> None:
    def stubborn(queue: Session) -> None:
        try:
            queue.run("select queue.publish('bills', '1')")
        except Exception:
            queue.run("select queue.publish('bills', '1')")
        finally:
            queue.commit()

    assert list(crash_points(stubborn, BILLS, SETUP)["bills"]) == [1, 1, 2]


def test_all_connections_end_at_once() -> None:
    def two(a: Session, b: Session) -> None:
        a.run("select queue.lock_topic('orders')")
        b.run("select queue.lock_topic('bills')")
        a.run("select queue.publish('orders', '2')")
        a.commit()

    # what the first life has locked is free in the second one, or it would have to wait
    found = crash_points(two, "select head from queue.topics where topic = 'orders'", SETUP)
    assert list(found["head"]) == [2, 2, 2, 2, 3]


def test_a_worker_that_does_nothing_has_one_point() -> None:
    assert rows(crash_points(lambda: None, COUNT, SETUP)) == [("nothing", 0)]


def test_a_worker_that_does_not_end_is_given_up() -> None:
    def endless(queue: Session) -> None:
        while True:
            queue.run("select 1")

    with pytest.raises(RuntimeError, match="^endless does not end"):
        crash_points(endless, COUNT, SETUP)


def test_a_worker_that_waits_for_itself_is_told() -> None:
    def tangled(queue: Session, bank: Session) -> None:
        queue.run("select queue.publish('orders', '2')")
        bank.run("select queue.publish('orders', '3')")

    with pytest.raises(RuntimeError, match="^bank waits for queue, and nobody else is there"):
        crash_points(tangled, COUNT, SETUP)


def test_what_a_worker_raises_comes_through() -> None:
    with pytest.raises(SessionError, match="QL001"):
        crash_points(lambda queue: queue.run("select queue.publish('no', '1')"), COUNT, SETUP)
    with pytest.raises(SessionError, match="42P01"):
        crash_points(outbox, "select 1 from nowhere", SETUP)
