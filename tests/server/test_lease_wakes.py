"""What wakes a worker that waits: what is done here, on another server, or straight in SQL; and what is due."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from random import Random
from typing import Any, NamedTuple

import psycopg2
import pytest
from psycopg2.extensions import connection

from server.engines import Batch, Lease, LeaseAck, Leased
from server.engines.errors import EngineError
from server.http import schemas, work
from server.http.routes import dead, leases, messages, subscribers, topics
from server.queue import crew
from tests.loop import Loop
from tests.server.places import ENOUGH, Blind, Counting, Deaf, Lonely, Place, places, until

Run = Callable[..., Any]


class Act(NamedTuple):
    """Something that gives a waiting worker something to do.

    `before` is done in SQL, then `lease` (if not empty) is what somebody else holds; `route` and `sql` are the act; and
    what the worker gets then: offset and attempt, or what it is refused with.
    """

    before: Sequence[str]
    lease: str
    route: Callable[[Place, str], Any]
    sql: str
    gets: tuple[int, int] | str


PUBLISHED = "select queue.publish_batch('t', '[1,2]', '{k,k}')"
HELD = "select lease from queue.lease('t', 's', 'other', 2, 600)"
ONE = "select lease from queue.lease('t', 's', 'other', 1, 600)"
NACK = "select queue.nack('t', 's', '{}', null, 0)"


def nack(**given: Any) -> Callable[[Place, str], Any]:
    return lambda place, lease: leases.nack(place.context, work.Nack(**given), "t", "s", lease)


ACTS = {
    "publish": Act(
        [],
        "",
        lambda place, _: messages.publish(place.context, Batch("[1]", 1), "t"),
        "select queue.publish('t', '1')",
        (1, 1),
    ),
    "nack": Act([PUBLISHED], HELD, nack(delay_seconds=0), NACK, (1, 2)),
    "untried": Act(
        [PUBLISHED],
        HELD,
        nack(untried=True),
        "select queue.nack('t', 's', '{}', p_untried => true)",
        (1, 1),
    ),
    "delayed": Act(
        [PUBLISHED],
        HELD,
        nack(delay_seconds=0.3),
        "select queue.nack('t', 's', '{}', null, 0.3)",
        (1, 2),
    ),
    "redrive": Act(
        ["select queue.configure('t', 's', 1)", PUBLISHED],
        "select queue.nack('t', 's', (select max(lease) from queue.lease('t', 's', null, 2, 600)))::text",
        lambda place, _: dead.redrive(place.context, work.DeadLetters(), "t", "s"),
        "select queue.redrive('t', 's')",
        (1, 1),
    ),
    "ack, with order": Act(
        ["select queue.configure('t', 's', p_ordered => true)", PUBLISHED],
        ONE,
        lambda place, lease: leases.ack_lease(place.context, work.LeaseAck(), "t", "s", lease),
        "select queue.ack_lease('t', 's', '{}')",
        (2, 1),
    ),
    "seek": Act(
        [PUBLISHED],
        HELD,
        lambda place, _: subscribers.seek(place.context, schemas.Move(offset=1), "t", "s"),
        "select queue.seek('t', 's', 1)",
        (2, 1),
    ),
    "reset": Act(
        [PUBLISHED],
        HELD,
        lambda place, _: topics.reset_topic(place.context, schemas.Move(offset=0), "t"),
        "select queue.reset('t', 0)",
        (1, 1),
    ),
    "unsubscribe": Act(
        [],
        "",
        lambda place, _: subscribers.unsubscribe(place.context, "t", "s"),
        "select queue.unsubscribe('t', 's')",
        "subscriber_not_found",
    ),
    "delete": Act(
        [],
        "",
        lambda place, _: topics.delete_topic(place.context, "t"),
        "select queue.delete_topic('t')",
        "topic_not_found",
    ),
}


@pytest.fixture
def sql(connect: Callable[[], connection]) -> Iterator[Run]:
    """Run a statement straight in the database, which has `t` and `s`, and commit; return its one value."""
    with closing(connect()) as session:
        session.autocommit = True

        def run(statement: str) -> Any:
            with session.cursor() as cursor:
                cursor.execute(statement)
                (value,) = (cursor.description and cursor.fetchone()) or (None,)
                return value

        run("select queue.create_topic('t')::text")
        run("select queue.subscribe('t', 's')::text")
        yield run


def prepared(sql: Run, act: Act) -> str:
    """Do what comes before an act; return the lease that somebody else has."""
    for statement in act.before:
        sql(statement)
    return str(sql(act.lease)) if act.lease else ""


async def got(waits: "asyncio.Future[Any]") -> tuple[int, int] | str | None:
    """Return what a worker got, None when it was nothing."""
    try:
        async with asyncio.timeout(ENOUGH):
            found = (await waits)["messages"]
    except EngineError as error:
        return error.code
    return (found[0]["offset"], found[0]["attempt"]) if found else None


@pytest.mark.parametrize("name", ACTS)
def test_an_act_wakes_through_the_same_server(loop: Loop, dsn: str, sql: Run, name: str) -> None:
    """At once: it hears and sees nothing of what others do."""
    act = ACTS[name]
    lease = prepared(sql, act)

    async def check() -> None:
        async with places(Lonely(dsn)) as (here,):
            (waits,) = await here.waits()
            await act.route(here, lease)
            assert await got(waits) == act.gets

    loop.run(check())


@pytest.mark.parametrize("name", ACTS)
def test_an_act_wakes_through_another_server(loop: Loop, dsn: str, sql: Run, name: str) -> None:
    """By an announcement: it does not see what others do."""
    act = ACTS[name]
    lease = prepared(sql, act)

    async def check() -> None:
        async with places(Blind(dsn), Lonely(dsn)) as (here, there):
            (waits,) = await here.waits()
            listens = "select count(*) from pg_stat_activity where datname = current_database() and query ~ '^listen'"
            await until(lambda: sql(listens) == 1)
            await act.route(there, lease)
            assert await got(waits) == act.gets

    loop.run(check())


@pytest.mark.parametrize("name", ACTS)
def test_an_act_wakes_straight_in_sql(loop: Loop, dsn: str, sql: Run, name: str) -> None:
    """By a look at what is waited for: nobody tells."""
    act = ACTS[name]
    lease = prepared(sql, act)

    async def check() -> None:
        async with places(Deaf(dsn)) as (here,):
            (waits,) = await here.waits()
            sql(act.sql.format(lease))
            assert await got(waits) == act.gets

    loop.run(check())


@pytest.mark.parametrize("name", ACTS)
def test_who_neither_hears_nor_sees_sleeps_on(loop: Loop, dsn: str, sql: Run, name: str) -> None:
    """The control of the tests above."""
    act = ACTS[name]
    lease = prepared(sql, act)

    async def check() -> None:
        async with places(Lonely(dsn), Lonely(dsn)) as (here, there):
            (waits,) = await here.waits()
            await act.route(there, lease)
            await asyncio.wait({waits}, timeout=0.5)
            assert not waits.done() and here.engine.looks == [1]

    loop.run(check())


def test_an_ack_without_order_wakes_nobody(loop: Loop, dsn: str, sql: Run) -> None:
    sql(PUBLISHED)
    lease = sql(ONE)
    sql(ONE)

    async def check() -> None:
        async with places(Counting(dsn)) as (here,):
            (waits,) = await here.waits()
            looks = len(here.engine.looks)
            await leases.ack_lease(here.context, work.LeaseAck(), "t", "s", lease)
            assert here.quiet() and here.wakeups._untold == set()
            await here.engine.acts([("t", "s")])  # what it would find by looking is the same
            assert len(here.engine.looks) == looks
            sql("select queue.publish('t', '3')")
            assert await got(waits) == (3, 1)

    loop.run(check())


class Timeless(Lonely):
    """A planted bug: it is forgotten that something is due."""

    async def lease(self, topic: str, leases: Sequence[Lease]) -> list[Leased]:
        """Say that nothing is."""
        return [one._replace(due_seconds=None) for one in await super().lease(topic, leases)]


DUE = {
    "an expiry": "select max(lease) from queue.lease('t', 's', 'other', 2, {})",
    "a delay": "select queue.nack('t', 's', (select max(lease) from queue.lease('t', 's', null, 2)), null, {})::text",
}


async def waits_for(here: Place, sql: Run, statement: str) -> tuple["asyncio.Task[Any]", Any]:
    """Have somebody wait for what is due in a moment: it waits before that moment, however slow the machine is."""
    sql(PUBLISHED)
    for seconds in (0.5, 5, 40):
        lease = sql(statement.format(seconds))
        waits = asyncio.ensure_future(here.lease())
        await until(lambda waits=waits: waits.done() or here.wakeups.waiting)  # type: ignore[misc]
        if not waits.done():
            return waits, lease
        sql("select queue.seek('t', 's', 0)::text")
    raise AssertionError("too slow")


@pytest.mark.parametrize("statement", DUE.values(), ids=DUE)
def test_what_is_due_wakes_by_itself(loop: Loop, dsn: str, sql: Run, statement: str) -> None:
    async def check() -> None:
        async with places(Lonely(dsn)) as (here,):
            waits, _ = await waits_for(here, sql, statement)
            looks = len(here.engine.looks)
            assert await got(waits) == (1, 2)
            assert len(here.engine.looks) - looks <= 3  # one, but a timer may be early

    loop.run(check())


@pytest.mark.parametrize("statement", DUE.values(), ids=DUE)
def test_who_forgets_what_is_due_sleeps_on(loop: Loop, dsn: str, sql: Run, statement: str) -> None:
    """The control of the test above."""

    async def check() -> None:
        async with places(Timeless(dsn)) as (here,):
            waits, _ = await waits_for(here, sql, statement)
            await until(lambda: sql("select queue.next_due('t', 's') < clock_timestamp()"))
            await asyncio.wait({waits}, timeout=0.5)
            assert not waits.done()

    loop.run(check())


def test_an_extension_that_moves_the_expiry_is_waited_for(loop: Loop, dsn: str, sql: Run) -> None:
    """When it would have expired they look in vain, and again when it has."""
    sql("create table until (expires_at timestamptz)")

    async def extended(here: Place) -> "asyncio.Task[Any]":
        waits, lease = await waits_for(here, sql, DUE["an expiry"])
        with suppress(psycopg2.Error):  # it has expired: the machine is slow
            sql(f"insert into until select expires_at from queue.extend('t', 's', '{lease}', 2)")
            return waits
        await got(waits)
        sql("select queue.seek('t', 's', 0)::text")
        return await extended(here)

    async def check() -> None:
        async with places(Lonely(dsn)) as (here,):
            waits = await extended(here)
            looks = len(here.engine.looks)
            assert await got(waits) == (1, 2)
            assert 2 <= len(here.engine.looks) - looks <= 6
            held = "select bool_and(h.held_at >= u.expires_at) from until u, queue.hold h where h.attempt = 2"
            assert sql(held) is True

    loop.run(check())


def test_a_due_delay_that_another_server_has_given_wakes_here(
    loop: Loop, dsn: str, sql: Run
) -> None:
    """A look after the announcement says when; nobody tells when it is over."""
    act = ACTS["delayed"]
    lease = prepared(sql, act)

    async def check() -> None:
        async with places(Counting(dsn), Counting(dsn)) as (here, there):
            (waits,) = await here.waits()
            await act.route(there, lease)
            assert await got(waits) == (1, 2)

    loop.run(check())


def test_a_thousand_who_wait_cost_few_statements(loop: Loop, dsn: str, sql: Run) -> None:
    """Who has waited longest gets first, and nobody is forgotten."""

    async def check() -> None:
        async with places(Counting(dsn)) as (here,):
            waits = await here.waits(1000)
            looks = len(here.engine.looks)
            assert looks <= 16 + 4
            await messages.publish(here.context, Batch("[0]", 1), "t")
            assert await got(waits[0]) == (1, 1)
            await until(here.quiet)
            assert len(here.engine.looks) - looks <= 6
            assert sum(task.done() for task in waits) == 1
            looks = len(here.engine.looks)
            numbers = ",".join(map(str, range(999)))
            sql(f"select queue.publish_batch('t', '[{numbers}]')")
            assert [await got(task) for task in waits[1:]] == [(n, 1) for n in range(2, 1001)]
            assert len(here.engine.looks) - looks <= 16 + 6

    loop.run(check())


async def in_vain(here: Place) -> int:
    """Return how many looks of workers who wait were in vain, while some of them get something."""
    waits = await here.waits(16)
    looks = len(here.engine.looks)
    for n in range(10):
        await messages.publish(here.context, Batch("[0]", 1), "t")
        assert await got(waits[n]) == (n + 1, 1)
        rounds = here.engine.rounds
        await until(lambda rounds=rounds: here.engine.rounds >= rounds + 2)  # type: ignore[misc]
        await until(here.quiet)
    return len(here.engine.looks) - looks - 10


def test_what_they_did_themselves_is_no_news_to_them(loop: Loop, dsn: str, sql: Run) -> None:
    """Neither a publish through their server nor their own leases make them look twice."""

    async def check() -> None:
        async with places(Counting(dsn)) as (here,):
            assert await in_vain(here) < 6  # others may see it in the moment before it is noted

    loop.run(check())


@pytest.mark.parametrize("name", ["saw", "happened"])
def test_it_would_be_news_if_it_were_not_noted(loop: Loop, dsn: str, sql: Run, name: str) -> None:
    """The control of the test above."""

    async def check() -> None:
        async with places(Counting(dsn)) as (here,):
            happened = here.wakeups.happened
            if name == "saw":
                here.wakeups.saw = lambda *_: None  # type: ignore[method-assign]
            else:
                here.context.fusion._happened = lambda name, _: happened(name)
            assert await in_vain(here) >= 10

    loop.run(check())


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who would not wait stays while there is more to look through, however slow the machine is."""
    monkeypatch.setattr(crew, "_MORE", ENOUGH)


@pytest.mark.parametrize("wait", [0, 60])
def test_a_long_run_of_a_busy_key_is_passed_in_one_call(
    loop: Loop, dsn: str, sql: Run, patient: None, wait: float
) -> None:
    """WORK.md C29: a look at a time passes 20 of them, and the last one finds what is free."""
    sql("select queue.configure('t', 's', p_ordered => true)")
    keys = "(select array_agg('k'::text) from generate_series(1, 100))"
    sql(
        f"select queue.publish_batch('t', (select json_agg(n) from generate_series(1, 100) n), {keys})"
    )
    sql("select queue.publish('t', '1', 'free')")
    sql(ONE)

    async def check() -> None:
        async with places(Lonely(dsn)) as (here,):
            assert await got(asyncio.ensure_future(here.lease(wait))) == (101, 1)
            assert len(here.engine.looks) == 5

    loop.run(check())


def test_who_gets_nothing_since_others_got_so_much_looks_again(
    loop: Loop, dsn: str, sql: Run, patient: None
) -> None:
    """Nothing is an answer only when there is nothing."""
    heavy = "(select json_agg(repeat('x', 600000)) from generate_series(1, 12))"
    sql(f"select queue.publish_batch('t', {heavy})")
    sql(NACK.format(sql("select max(lease) from queue.lease('t', 's', 'other', 100, 600)")))
    sql("select queue.publish_batch('t', (select json_agg(n) from generate_series(1, 200) n))")

    async def check() -> None:
        async with places(Lonely(dsn)) as (here,):
            found = await asyncio.gather(*(here.lease(0, limit=9) for _ in range(20)))
            assert all(one["lease"] for one in found)
            assert 1 < len(here.engine.looks) <= 20

    loop.run(check())


async def leavers(place: Place, order: Random) -> list[int]:
    """Have workers want leases, of whom half leave, if they can; return what the others have done."""
    done = []

    async def works(lease: "asyncio.Future[Any]") -> None:
        got = await lease
        if got["lease"]:
            ack = LeaseAck("s", got["lease"], None)
            assert (await place.context.fusion.ack_lease("t", ack)).acked == 1
        done.extend((message["offset"], message["attempt"]) for message in got["messages"])

    async def leaves(name: str) -> None:
        lease = asyncio.ensure_future(place.lease(order.choice([0, 60]), worker=name))
        for _ in range(order.randrange(8)):
            await asyncio.sleep(0)
        if order.random() < 0.5:
            while name not in place.engine.workers:  # until a look is made for it
                await asyncio.sleep(0)
        if not lease.cancel():  # it had its answer
            await works(lease)

    stays = [works(asyncio.ensure_future(place.lease())) for _ in range(10)]
    await asyncio.gather(*stays, *(leaves(f"{order.random()}") for _ in range(10)))
    assert {attempt for _, attempt in done} == {1}
    return [offset for offset, _ in done]


def test_who_leaves_at_any_moment_takes_nothing_along(loop: Loop, dsn: str, sql: Run) -> None:
    """What was leased for it is leased to another, for its first attempt."""
    numbers = ",".join(map(str, range(400)))
    sql(f"select queue.publish_batch('t', '[{numbers}]')")

    async def check() -> list[int]:
        async with places(Counting(dsn)) as (here,):
            done = [offset for n in range(20) for offset in await leavers(here, Random(n))]
            await here.context.leases.stop()
            while (got := await here.lease(0, limit=100))["lease"]:
                done += [one["offset"] for one in got["messages"] if one["attempt"] == 1]
            return done

    assert sorted(loop.run(check())) == list(range(1, 401))
    assert sql("select count(*) from queue.hold where kind = 'u'") > 0  # some had left too late


def test_a_publish_wakes_the_workers_of_all_subscribers(loop: Loop, dsn: str, sql: Run) -> None:
    """They take turns: the pool has not enough connections for all at once."""
    sql("select count(queue.subscribe('t', 's' || n)) from generate_series(1, 200) n")

    async def check() -> None:
        async with places(Counting(dsn)) as (here,):
            lease = here.context.leases.lease
            waits = [
                asyncio.ensure_future(lease("t", Lease(f"s{n}", None, 1, 30), 60))
                for n in range(1, 201)
            ]
            await until(lambda: here.wakeups.waiting == 200)
            await messages.publish(here.context, Batch("[0]", 1), "t")
            async with asyncio.timeout(ENOUGH):
                assert all(one.lease for one in await asyncio.gather(*waits))

    loop.run(check())


def test_two_servers_hand_nothing_out_twice_and_forget_nobody(
    loop: Loop, dsn: str, sql: Run
) -> None:
    async def check() -> None:
        async with places(Counting(dsn), Counting(dsn)) as (here, there):
            waits = [*await here.waits(100), *await there.waits(100)]
            for _ in range(10):
                sql("select queue.publish_batch('t', '[1,2,3,4,5,6,7,8,9,10]')")
                await messages.publish(there.context, Batch("[1,2,3,4,5,6,7,8,9,10]", 10), "t")
            offsets = sorted([(await got(task))[0] for task in waits])  # type: ignore[index, misc]
            assert offsets == list(range(1, 201))

    loop.run(check())


def test_a_crash_of_the_database_wakes_who_waits(loop: Loop, dsn: str, sql: Run) -> None:
    """It may have lost leases, whose messages are due then."""

    async def check() -> None:
        async with places(Blind(dsn)) as (here,):
            (waits,) = await here.waits()
            listens = (
                "from pg_stat_activity where datname = current_database() and query ~ '^listen'"
            )
            await until(lambda: sql(f"select count(*) {listens}"))
            sql("select queue.publish('t', '1')")
            assert here.engine.looks == [1]
            sql(f"select pg_terminate_backend(pid) {listens}")
            assert await got(waits) == (1, 1)

    loop.run(check())


def test_leases_and_nacks_wait_for_no_disk_and_acks_do(loop: Loop, dsn: str, sql: Run) -> None:
    sql(
        "create table told (n int generated always as identity, what text); grant insert on told to public"
    )
    sql("""create function tell() returns trigger language plpgsql as $$ begin
               insert into public.told (what) values (tg_table_name || ' ' || current_setting('synchronous_commit'));
               return null; end $$""")
    for table in ("hold", "settled"):
        sql(
            f"create trigger tell after insert on queue.{table} for each statement execute function tell()"
        )
    sql(PUBLISHED)

    async def check() -> None:
        async with places(Counting(dsn)) as (here,):
            one, two = [await here.lease(wait=0) for _ in range(2)]
            await leases.ack_lease(here.context, work.LeaseAck(), "t", "s", one["lease"])
            await leases.nack(here.context, work.Nack(), "t", "s", two["lease"])

    loop.run(check())
    told = sql("select array_agg(what order by n) from told")
    assert told == ["hold off", "hold off", "settled on", "settled off", "hold off"]
