"""Many workers at once, who lose leases, give back, extend and come too late; what the database says of it (P11)."""

import threading
from collections.abc import Callable
from random import Random

import psycopg2
import pytest

from tests.sql.session import Session, plant
from tests.sql.working import NOTHING, Crew, published
from tests.waiting import until

MESSAGES, WORKERS = 300, 4
# leases of one message, one after the other: the next one begins before this one ends, and it was not given back
OVERLAPPING = """
with lease as (
    select h.act, o, h.held_at, greatest(h.due_at, (select max(e.expires_at) from queue.extension e
                                                    where e.lease = h.act - h.part)) as until
    from queue.hold h, unnest(h.offsets) u, generate_series(lower(u), upper(u) - 1) o where h.kind = 'l'),
paired as (select l.*, lead(held_at) over (partition by o order by act) as next from lease l)
select count(*) from paired p where next < until
   and not exists (select from queue.settled s where s.act = p.act and s.outcome = 'b'
                                                 and p.o between s.first and s.last)
"""
DONE = "select o, count(*) from queue.settled s, generate_series(first, last) o where outcome = 'd' group by o"
# of one key: done under an earlier lease than the message before it; or leased while the one before it was not over
OUT_OF_ORDER = """
with done as (select m.key, m."offset", h.act - h.part as lease from queue.settled s
              join queue.hold h using (subscriber_id, act)
              join queue.message m on m."offset" between s.first and s.last
              where s.outcome in ('d', 'x') and m.key is not null),
paired as (select *, lag(lease) over (partition by key order by "offset") as before from done)
select count(*) from paired where before > lease
"""


def work(crew: Crew, number: int, stop: threading.Event, errors: list[BaseException]) -> None:
    choose = Random(number)
    while not stop.is_set():
        try:
            lease = crew.lease(choose.choice((1, 1, 3, 10)), choose.choice((0.05, 0.2, 1)))
            chance = choose.random()
            if lease is NOTHING or chance < 0.1:
                continue  # it dies, or has nothing to do
            if chance < 0.2:
                crew.is_past(lease.expires_at)  # it dawdles
            elif chance < 0.3:
                crew.extend(lease, 0.3)
            elif chance < 0.45:
                crew.nack(lease, lease.offsets[0], delay=choose.choice((None, 0)))
            elif chance < 0.55:
                crew.nack(lease, untried=True)
                continue
            crew.ack(lease)
        except psycopg2.Error as error:
            if error.pgcode != "QL010":
                errors.append(error)
                return


def crowd(session: Callable[[], Session], ordered: bool) -> Crew:
    crew = Crew(session())
    crew.configure(
        max_attempts=1000, backoff_seconds=0.01, backoff_cap_seconds=0.05, ordered=ordered
    )
    stop, errors = threading.Event(), list[BaseException]()
    workers = [
        threading.Thread(target=work, args=(crew.at(session()), n, stop, errors))
        for n in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    try:
        until(lambda: errors or crew.position == MESSAGES, 120)
    finally:
        stop.set()
        for worker in workers:
            worker.join(60)
    assert errors == []
    return crew


def nobody_had_what_another_had(crew: Crew) -> None:
    done = crew.session.rows(DONE)
    assert len(done) == MESSAGES and {count for _, count in done} == {1}
    assert crew.session.value(OVERLAPPING) == 0
    assert (
        crew.session.value("select count(*) from queue.hold where attempt > 1 and kind = 'l'") > 5
    )


@pytest.fixture
def kitchen(orders: Session) -> Session:
    choose = Random(1)
    published(orders, MESSAGES, keys="".join(choose.choice("abcdefgh-") for _ in range(MESSAGES)))
    orders.run("select queue.subscribe('orders', 'kitchen', 'earliest')")
    return orders


@pytest.mark.parametrize("ordered", [False, True], ids=["any order", "ordered"])
def test_p11_nobody_has_what_another_has(
    kitchen: Session, session: Callable[[], Session], ordered: bool
) -> None:
    crew = crowd(session, ordered)
    nobody_had_what_another_had(crew)
    if ordered:
        assert kitchen.value(OUT_OF_ORDER) == 0
        assert kitchen.value("select count(*) from queue.turn where parked") > 5


def test_control_an_ack_that_ignores_expiry_is_noticed(
    kitchen: Session, session: Callable[[], Session]
) -> None:
    plant(kitchen, "queue.held", ('if expires_at <= "time" and', "if false and"))
    with pytest.raises(AssertionError):
        nobody_had_what_another_had(crowd(session, False))


def nothing_is_read_through(crew: Crew) -> None:
    """Plans that were made for an empty ledger do as well for a large one: no table is read but by an index."""
    scans = "select sum(pg_stat_get_xact_numscans(c.oid)) from pg_class c where relnamespace = 'queue'::regnamespace " \
            "and relname in ('hold', 'settled', 'extension', 'dead', 'turn', 'message', 'position')"  # fmt: skip
    crew.session.run("begin")
    before = crew.session.value(scans)
    lease = crew.lease(5)
    crew.extend(lease, 60)
    crew.nack(lease, lease.offsets[0], delay=0)
    crew.ack(lease)
    crew.ack(crew.lease(3))
    crew.call("next_due")
    assert crew.session.value(scans) == before
    crew.session.run("rollback")


@pytest.mark.parametrize("ordered", [False, True], ids=["any order", "ordered"])
def test_nothing_is_read_through(kitchen: Session, ordered: bool) -> None:
    crew = Crew(kitchen)
    crew.configure(ordered=ordered)
    nothing_is_read_through(crew)
    for _ in range(10):
        crew.ack(crew.lease(5))
    nothing_is_read_through(crew)


def test_control_a_table_that_is_read_through_is_noticed(kitchen: Session) -> None:
    for function in ("queue.held", "queue.lease_many"):
        plant(
            kitchen,
            function,
            (
                " SET enable_seqscan TO 'off'\n",
                " SET enable_indexscan TO 'off' SET enable_bitmapscan TO 'off'\n",
            ),
        )
    with pytest.raises(AssertionError):
        nothing_is_read_through(Crew(kitchen))
