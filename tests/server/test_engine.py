"""The engine by itself: whom it hears, in which order it acknowledges, and what a stopped backend does."""

import asyncio
import json
import select
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2.errors
import pytest
from psycopg2.extensions import connection, make_dsn, parse_dsn

from server.engines import Ack, Acked, Batch, Fetch
from server.engines.errors import Busy, EngineError, Unavailable
from server.engines.postgres import session as session_module
from server.engines.postgres.connecting import connect as connect_session
from server.engines.postgres.engine import PostgresEngine
from server.engines.postgres.failures import Lost, NotWritable, problem
from tests.loop import Loop
from tests.proxy import cutting
from tests.stopped import stopped
from tests.waiting import until

Connect = Callable[[], connection]
Ask = Callable[[str], list[tuple[Any, ...]]]
ONE = [Batch("[1]", 1)]
LISTENS = (
    "select pid from pg_stat_activity where query ilike 'listen %' and datname = current_database()"
)


@pytest.fixture
def engine(loop: Loop, dsn: str) -> Iterator[PostgresEngine]:
    """An engine with the topic ``t``."""
    made = PostgresEngine(dsn, pool_size=2)
    loop.run(made.create_topic("t", None))
    yield made
    loop.run(made.close())


@pytest.fixture
def ask(connect: Connect) -> Ask:
    """Ask the test's database."""
    session = connect()
    session.autocommit = True

    def rows(statement: str) -> list[tuple[Any, ...]]:
        with session.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    return rows


@asynccontextmanager
async def listening(engine: PostgresEngine) -> AsyncIterator[AsyncIterator[set[str]]]:
    """Listen: it has begun, and ends with the block."""
    heard = engine.listen()
    assert await anext(heard) == set()
    try:
        yield heard
    finally:
        await heard.aclose()  # type: ignore[attr-defined]


async def next_topics(heard: AsyncIterator[set[str]]) -> set[str]:
    """Return the next topics that are heard."""
    async for topics in heard:
        if topics:
            return topics
    raise AssertionError("it has ended")


def test_others_are_heard_and_oneself_is_not(loop: Loop, dsn: str, engine: PostgresEngine) -> None:
    other = PostgresEngine(dsn, pool_size=1)

    async def talk() -> None:
        async with listening(engine) as heard:
            for n in range(3):
                await engine.announce([f"own-{n}"])
                await other.announce([f"other-{n}", "é"])
                assert await next_topics(heard) == {f"other-{n}", "é"}
        async with listening(other) as heard:
            await engine.announce(["own"])
            assert await next_topics(heard) == {"own"}, "the control"
        await other.close()

    loop.run(talk())


def test_nothing_is_heard_now_and_then(loop: Loop, engine: PostgresEngine) -> None:
    async def wait() -> list[set[str]]:
        async with listening(engine) as heard:
            return [await asyncio.wait_for(anext(heard), 10) for _ in range(3)]

    assert loop.run(wait()) == [set()] * 3


def test_who_is_cut_off_hears_of_it_as_an_error_of_the_engines(
    loop: Loop, engine: PostgresEngine, ask: Ask
) -> None:
    async def listen() -> None:
        async for _ in engine.listen():
            pass

    for _ in range(3):
        listener = loop.submit(listen())
        ((backend,),) = until(lambda: ask(LISTENS))
        assert ask(f"select pg_terminate_backend({backend}, 10000)") == [(True,)]
        with pytest.raises(Unavailable, match="connection"):
            listener.result(10)


def test_without_a_database_listening_fails_at_once(loop: Loop) -> None:
    nowhere = PostgresEngine("host=127.0.0.1 port=1 user=x")

    async def listen() -> None:
        async for _ in nowhere.listen():
            pass

    with pytest.raises(Unavailable, match="refused"):
        loop.run(listen())
    with pytest.raises(Unavailable):
        loop.run(nowhere.announce(["t"]))


@pytest.mark.parametrize("how", ["cancelled", "left"])
def test_who_listens_no_more_leaves_no_session(
    loop: Loop, engine: PostgresEngine, ask: Ask, how: str
) -> None:
    async def listen() -> None:
        async with listening(engine) as heard:
            async for _ in heard:
                if how == "left":
                    return

    listener = loop.submit(listen())
    if how == "cancelled":
        until(lambda: ask(LISTENS))
        listener.cancel()
    until(lambda: listener.done() and not ask(LISTENS))


def test_a_database_that_was_read_only_is_listened_to_no_more(
    loop: Loop, engine: PostgresEngine, ask: Ask
) -> None:
    """It may be another one by now that is written to."""

    async def listen() -> None:
        async with listening(engine) as heard:
            await engine._pool.close()  # as a session does that takes no writes
            async for _ in heard:
                pass

    with pytest.raises(Unavailable, match="it may have moved"):
        loop.run(listen())


def subscribed(loop: Loop, engine: PostgresEngine, *names: str) -> dict[str, int]:
    """Make subscribers, from the first message on; return their epochs."""
    made = [loop.run(engine.subscribe("t", name, "earliest"))[0] for name in names]
    return {name: json.loads(one)["epoch"] for name, one in zip(names, made, strict=True)}


def test_several_acks_are_answered_in_their_order_and_all_or_none_are_done(
    loop: Loop, engine: PostgresEngine
) -> None:
    loop.run(engine.publish("t", [Batch("[1, 2, 3]", 3)]))
    epochs = subscribed(loop, engine, "a", "b", "c")
    acks = [Ack("c", 3, epochs["c"]), Ack("a", 1, epochs["a"]), Ack("c", 2, epochs["c"])]
    answers = loop.run(engine.ack("t", acks))
    first = Acked(3, epochs["c"], 3, 0)
    assert answers == [first, Acked(1, epochs["a"], 3, 2), first]
    with pytest.raises(EngineError) as refusal:
        loop.run(engine.ack("t", [Ack("b", 1, epochs["b"]), Ack("a", 2, epochs["a"] + 1)]))
    assert refusal.value.code == "stale_epoch" and refusal.value.members
    positions = [json.loads(loop.run(engine.subscriber("t", name)))["position"] for name in "abc"]
    assert positions == [1, 0, 3]


def test_any_number_of_fetches_and_acks_is_one_statement(
    loop: Loop, engine: PostgresEngine
) -> None:
    """Each text is prepared once for every session, and kept there."""
    loop.run(engine.publish("t", [Batch("[1, 2, 3]", 3)]))
    epochs = subscribed(loop, engine, *"abcde")
    for width in range(2, 6):
        names = "abcde"[:width]
        acks = [Ack(name, width - 2, epochs[name]) for name in names]
        assert len(loop.run(engine.ack("t", acks))) == width
        fetches = [Fetch(name, 1, *more) for name, more in zip(names, MORE, strict=False)]
        found = [json.loads(f"[{one.messages}]") for one in loop.run(engine.fetch("t", fetches))]
        after = [more[0] if more else width - 2 for more in MORE[:width]]
        assert [[one["offset"] for one in each] for each in found] == [
            [n + 1] if n < 3 else [] for n in after
        ]
    prepared = "select count(*) from pg_prepared_statements where statement ~ 'unnest[(]'"
    assert loop.run(engine._pool.run(prepared, [])) == [(2,)]


MORE: list[tuple[int | None, ...]] = [(), (2,), (), (0, None), (3, None)]
WAITS = "select pid from pg_locks where not granted"


def test_several_acks_wait_for_one_without_holding_those_that_come_after_it(
    loop: Loop, engine: PostgresEngine, connect: Connect, ask: Ask
) -> None:
    """Whoever holds the first may go on to the next: else both would be stuck."""
    loop.run(engine.publish("t", ONE))
    epochs = subscribed(loop, engine, "a", "b")
    with closing(connect()) as other, other.cursor() as cursor:
        cursor.execute("select queue.ack('t', 'a', 1, %s)", (epochs["a"],))
        acks = loop.submit(engine.ack("t", [Ack(name, 1, epochs[name]) for name in ("b", "a")]))
        until(lambda: acks.done() or ask(WAITS))
        cursor.execute("set local lock_timeout = '100ms'")
        cursor.execute("select queue.ack('t', 'b', 1, %s)", (epochs["b"],))
        other.commit()
    assert isinstance(acks.exception(20), Busy | None)


def test_in_another_order_they_would_hold_them(
    loop: Loop, engine: PostgresEngine, connect: Connect
) -> None:
    """The control of the test above."""
    loop.run(engine.publish("t", ONE))
    epochs = subscribed(loop, engine, "a", "b")
    with closing(connect()) as one, closing(connect()) as other:
        for session, name in ((one, "a"), (other, "b")):
            session.cursor().execute("select queue.ack('t', %s, 1, %s)", (name, epochs[name]))
        cursor = one.cursor()
        cursor.execute("set local lock_timeout = '100ms'")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            cursor.execute("select queue.ack('t', 'b', 1, %s)", (epochs["b"],))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session gives a backend up soon."""
    monkeypatch.setattr(session_module, "_LIMIT", 3.0)


@contextmanager
def stuck(loop: Loop, ask: Ask, call: Coroutine[Any, Any, Any]) -> Iterator[Future[Any]]:
    """Begin a call that waits for a lock, and stop its backend."""
    called = loop.submit(call)
    ((backend,),) = until(lambda: ask(WAITS))
    with stopped(backend):
        yield called


STUCK: dict[str, tuple[str, Callable[[PostgresEngine], Coroutine[Any, Any, Any]], str]] = {
    "publish": (
        "select queue.publish('t', '0')",
        lambda engine: engine.publish("t", ONE),
        "unknown",
    ),
    "browse": (
        "lock table queue.message in access exclusive mode",
        lambda engine: engine.browse("t", 1, 1),
        "none",
    ),
}


CUT: dict[str, tuple[Callable[[PostgresEngine], Coroutine[Any, Any, Any]], str]] = {
    "publish": (lambda engine: engine.publish("t", ONE), "unknown"),
    "reset": (lambda engine: engine.reset("t", 0, None, False), "unknown"),
    "reset, dry": (lambda engine: engine.reset("t", 0, None, True), "none"),
    "seek": (lambda engine: engine.seek("t", "s", 0, None, False), "unknown"),
    "seek, dry": (lambda engine: engine.seek("t", "s", 0, None, True), "none"),
    "topic": (lambda engine: engine.topic("t"), "none"),
}


@pytest.mark.parametrize(("call", "outcome"), CUT.values(), ids=CUT)
def test_a_session_that_is_lost_before_the_statement_was_sent_has_surely_done_nothing(
    call: Any, outcome: str, loop: Loop, dsn: str, engine: PostgresEngine
) -> None:
    """While it is prepared, that is; once it is sent, nobody knows of a write."""
    subscribed(loop, engine, "s")
    parts = parse_dsn(dsn)
    with cutting(f"{parts['host']}/.s.PGSQL.{parts['port']}", 0) as proxy:
        way = {"host": "127.0.0.1", "sslmode": "disable", "gssencmode": "disable"}
        led = PostgresEngine(make_dsn(dsn, port=proxy.port, **way), pool_size=1)
        loop.run(led.heads(["t"]))
        for prepared in (False, True):
            proxy.left = 1
            with pytest.raises(Unavailable) as failure:
                loop.run(call(led))
            assert failure.value.outcome == (outcome if prepared else "none")
            loop.run(call(led))
        assert proxy.cut == 2
        loop.run(led.close())


@pytest.mark.parametrize(("writes", "told"), [(True, "unknown"), (False, "none")])
def test_of_an_answer_that_could_not_be_read_nobody_knows(writes: bool, told: str) -> None:
    """libpq has no memory for it, say: the session lives on, and there is no SQLSTATE."""
    error = problem(psycopg2.DatabaseError("out of memory for query result"), writes=writes)
    assert (error.outcome, isinstance(error, Unavailable)) == (told, writes)


def test_a_misled_session_asks_before_a_write_and_not_after_it(loop: Loop, dsn: str) -> None:
    """What was carried out just before the database became read only is not told as if it had not been."""
    turned = "select set_config('default_transaction_read_only', %s, false)"

    async def ask() -> None:
        session = await connect_session(dsn)
        session._misled = True  # its pooler says for ever what it heard once
        assert await session.run(turned, ["on"]) == [("on",)]
        assert session.writable
        with pytest.raises(NotWritable):
            await session.run("select queue.create_topic(%s)", ["t"])
        assert not session.writable
        session.close()

    loop.run(ask())


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("hold", "call", "outcome"), STUCK.values(), ids=STUCK)
def test_a_stopped_backend_is_given_up(
    hold: str, call: Any, outcome: str, loop: Loop, dsn: str, ask: Ask, connect: Connect
) -> None:
    """Of a write nobody knows then whether it was done, and its session is not used again."""
    engine = PostgresEngine(dsn, pool_size=1)
    loop.run(engine.create_topic("t", None))
    with closing(connect()) as other:
        other.cursor().execute(hold)
        with stuck(loop, ask, call(engine)) as called:
            with pytest.raises(Unavailable, match="the database was lost in mid-call") as failure:
                called.result(20)
            assert failure.value.outcome == outcome
            other.rollback()
            assert loop.run(engine.browse("t", 1, 1)).head == 0, "another session"
    loop.run(engine.close())


@pytest.mark.usefixtures("impatient")
def test_a_stopped_backend_whose_caller_has_left_has_its_place_until_it_is_given_up(
    loop: Loop, dsn: str, ask: Ask, connect: Connect
) -> None:
    engine = PostgresEngine(dsn, pool_size=1, patience=20)
    loop.run(engine.create_topic("t", None))
    with closing(connect()) as other:
        other.cursor().execute("select queue.publish('t', '0')")
        with stuck(loop, ask, engine.publish("t", ONE)) as called:
            called.cancel()
            assert loop.run(engine.heads(["t"])) == {"t": 0}
    loop.run(engine.close())


_SAID = b"SFATAL\0C57P01\0Mgone\0\0"
FAREWELL = b"E" + (len(_SAID) + 4).to_bytes(4, "big") + _SAID


@contextmanager
def leaving(loop: Loop, dsn: str, directory: Path) -> Iterator[threading.Event]:
    """A socket in front of the database. When the event is set, it says farewell and closes with what came unread.

    The loop stands still meanwhile: it hears of both at once.
    """
    leaves, ended, stands, left = (threading.Event() for _ in range(4))

    def stand() -> None:
        stands.set()
        left.wait(10)

    def forward(client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(f"{parse_dsn(dsn)['host']}/.s.PGSQL.5432")
            while not ended.is_set():
                readable, _, _ = select.select([client, upstream], [], [], 0.05)
                if client in readable and leaves.is_set():
                    loop.loop.call_soon_threadsafe(stand)
                    stands.wait(10)
                    client.sendall(FAREWELL)
                    client.close()
                    left.set()
                    return
                for one, other in ((client, upstream), (upstream, client)):
                    if one in readable:
                        if not (data := one.recv(65536)):
                            return
                        other.sendall(data)

    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor() as threads:
        listener.bind(f"{directory}/.s.PGSQL.5432")
        listener.listen()
        listener.settimeout(0.05)

        def accept() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    threads.submit(forward, listener.accept()[0])

        threads.submit(accept)
        try:
            yield leaves
        finally:
            ended.set()


def test_a_backend_that_leaves_a_statement_unread_is_seen_to_leave(
    loop: Loop, dsn: str, directory: Path
) -> None:
    """Then more is to be read than the loop tells of: uvloop does so once when a socket has an error."""
    with leaving(loop, dsn, directory) as leaves:
        engine = PostgresEngine(make_dsn(dsn, host=str(directory)), pool_size=1)
        loop.run(engine.create_topic("t", None))
        assert loop.run(engine.publish("t", ONE)) == [(1, 1, False)]
        leaves.set()
        with pytest.raises(Unavailable) as failure:
            loop.run(engine.publish("t", ONE), 20)  # less than a statement may take
        assert failure.value.outcome == "unknown"
        leaves.clear()
        assert loop.run(engine.publish("t", ONE)) == [(2, 2, False)]
        loop.run(engine.close())


def test_a_slow_statement_is_not_given_up_for_the_ones_before_it(
    loop: Loop, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One timer serves many statements: each has the whole time."""
    monkeypatch.setattr(session_module, "_LIMIT", 3.0)

    async def ask_often() -> None:
        session = await connect_session(dsn)
        end = asyncio.get_running_loop().time() + 2.5
        while asyncio.get_running_loop().time() < end:
            await session.run("select 1", [])
        await session.run("select pg_sleep(%s)", [1.5])
        with pytest.raises(Lost, match="no answer within 3 s"):
            await session.run("select pg_sleep(%s)", [10])
        assert session.closed

    loop.run(ask_often())
