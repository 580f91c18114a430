"""The pool of database connections: bounded, patient for a bounded time, and never lending a dead one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection

from server.engines.errors import Unavailable
from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.engine import PostgresEngine
from server.engines.postgres.failures import Lost
from server.engines.postgres.pool import Pool
from server.engines.postgres.session import Session
from tests.loop import Loop
from tests.server.answers import ok, refused
from tests.server_process import ServerProcess, serving
from tests.waiting import until

IDLE_ENDED = """select pg_terminate_backend(pid, 10000) from pg_stat_activity
                where application_name = 'queue-server' and state = 'idle'"""


@pytest.fixture
def pool(loop: Loop, dsn: str) -> Iterator[Pool]:
    """A pool of two connections that waits a moment for one."""
    made = Pool(dsn, 2, 0.2)
    yield made
    loop.run(made.close())


@asynccontextmanager
async def lent(pool: Pool, user: str | None = None) -> AsyncIterator[Session]:
    """Borrow a session."""
    session = await pool.take(user)
    try:
        yield session
    finally:
        pool.give_back(session, user)


async def pid(session: Session) -> int:
    """Return the process id of the backend, as the backend says."""
    ((found,),) = await session.run("select pg_backend_pid()", [])
    return int(found)


async def pids(pool: Pool, count: int = 2) -> list[int]:
    """Borrow so many sessions at once; return their process ids."""
    async with lent(pool) as first:
        return [await pid(first), *(await pids(pool, count - 1) if count > 1 else [])]


def terminate(connect: Callable[[], connection], *backends: int) -> None:
    """End backends, and wait until they are gone."""
    with connect() as session, session.cursor() as cursor:
        for backend in backends:
            cursor.execute("select pg_terminate_backend(%s, 10000)", (backend,))
            assert cursor.fetchone() == (True,)


def test_a_connection_is_used_again(loop: Loop, pool: Pool) -> None:
    first, other = loop.run(pids(pool))
    assert first != other
    assert loop.run(pids(pool)) == [first, other], "the last one used is the first one taken"


def test_an_empty_pool_is_a_bounded_wait_and_then_surely_nothing(loop: Loop, pool: Pool) -> None:
    with pytest.raises(Unavailable, match="all database connections are busy") as refusal:
        loop.run(pids(pool, 3))
    assert refusal.value.outcome == "none"
    assert loop.run(pids(pool)), "their places are free again"


def test_one_user_has_half_of_them_and_who_has_none_yet_has_the_rest(loop: Loop, dsn: str) -> None:
    async def crowd() -> None:
        pool = Pool(dsn, 4, 0.1)
        held = [await pool.take("stuck") for _ in range(2)]
        with pytest.raises(Unavailable, match="too many wait for this topic"):
            await pool.take("stuck")
        held += [await pool.take(user) for user in ("a", "b")]
        with pytest.raises(Unavailable, match="all database connections are busy"):
            await pool.take("c")
        for session, user in zip(held, ("stuck", "stuck", "a", "b"), strict=True):
            pool.give_back(session, user)
        await pool.close()

    loop.run(crowd())


def test_who_waits_is_next_in_the_order_in_which_they_came(loop: Loop, dsn: str) -> None:
    served = []

    async def use(pool: Pool, number: int) -> int:
        async with lent(pool) as session:
            served.append(number)
            return await pid(session)

    async def line() -> None:
        pool = Pool(dsn, 1, 20)
        async with lent(pool) as session:
            first = await pid(session)
            waiters = [asyncio.create_task(use(pool, number)) for number in range(5)]
            await asyncio.sleep(0)
            assert served == []
        assert await asyncio.gather(*waiters) == [first] * 5
        assert served == list(range(5))
        await pool.close()

    loop.run(line())


def test_of_several_users_who_came_first_is_next(loop: Loop, dsn: str) -> None:
    served = []

    async def use(pool: Pool, user: str | None, number: int) -> None:
        async with lent(pool, user):
            served.append(number)

    async def line() -> None:
        pool = Pool(dsn, 1, 20)
        async with lent(pool, "a"):
            users = ["a", "b", None, "a", None, "b", "c", "a"]
            waiters = [asyncio.create_task(use(pool, user, n)) for n, user in enumerate(users)]
            await asyncio.sleep(0)
            assert len(pool._lines) == 4
        await asyncio.gather(*waiters)
        assert served == list(range(8)) and pool._lines == {}
        await pool.close()

    loop.run(line())


def test_a_session_that_comes_back_is_offered_once_to_each_user_and_not_to_all_who_wait(
    loop: Loop, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def line() -> None:
        pool = Pool(dsn, 4, 20)
        held = [await pool.take("stuck") for _ in range(2)]
        other = await pool.take("other")
        may_enter = pool._may_enter
        waiters = [asyncio.create_task(pool.take("stuck")) for _ in range(1000)]
        await asyncio.sleep(0)
        monkeypatch.setattr(pool, "_may_enter", lambda user: asked.append(user) or may_enter(user))
        pool.give_back(held[0], "stuck")
        assert asked == ["stuck"] and not any(one.done() for one in waiters)
        pool.give_back(other, "other")
        assert len(asked) <= 4
        for one in waiters:
            one.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        assert pool._lines == {}
        await pool.close()

    loop.run(line())


@pytest.mark.parametrize("moment", ["waiting", "served"])
def test_a_waiter_that_is_cancelled_leaves_the_line_and_no_place_is_lost(
    loop: Loop, dsn: str, moment: str
) -> None:
    async def line() -> None:
        pool = Pool(dsn, 1, 20)
        session = await pool.take()
        leaver, next_one = (asyncio.create_task(pool.take()) for _ in range(2))
        await asyncio.sleep(0)
        if moment == "waiting":
            leaver.cancel()
            pool.give_back(session)
        else:  # it has been served, and has not noticed yet
            pool.give_back(session)
            leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        assert await asyncio.wait_for(next_one, 10) is session
        pool.give_back(session)
        await pool.close()

    loop.run(line())


def test_who_is_cancelled_while_it_connects_loses_no_place(
    loop: Loop, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave() -> None:
        pool = Pool(dsn, 1, 0.1)
        leaver = asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        assert await pids(pool, 1)
        await pool.close()

    loop.run(leave())


HELD = "pg_advisory_xact_lock_shared(7)"


@pytest.mark.parametrize(
    ("statement", "published"),
    [
        (f"select queue.publish('t', '1') from {HELD}", 1),
        (f"select 1 / (n - 1) from {HELD}, generate_series(1, 1) n", 0),
    ],
    ids=["done", "failed"],
)
def test_a_statement_whose_caller_leaves_goes_on_and_has_its_place_until_then(
    loop: Loop, dsn: str, connect: Callable[[], connection], statement: str, published: int
) -> None:
    """It is carried out to its end, and its session is used again."""
    pool = Pool(dsn, 1, 0.2)
    with closing(connect()) as session, session.cursor() as cursor:
        session.autocommit = True
        cursor.execute("select queue.create_topic('t'), pg_advisory_lock(7)")
        (backend,) = loop.run(pids(pool, 1))
        call = loop.submit(pool.run(statement, []))
        until(lambda: look(session, "select 1 from pg_locks where not granted"))
        call.cancel()
        assert served(loop, pool) is None
        cursor.execute("select pg_advisory_unlock(7)")
        assert until(lambda: served(loop, pool)) == backend, "the place comes back by itself"
        cursor.execute("select count(*) from queue.messages")
        assert cursor.fetchone() == (published,)
    loop.run(pool.close())


def test_a_pool_that_is_closed_waits_for_nobody_who_has_left(
    loop: Loop, dsn: str, connect: Callable[[], connection]
) -> None:
    """The session is cut off, and neither a task nor a place is left."""
    pool = Pool(dsn, 1, 0.2)
    with closing(connect()) as session, session.cursor() as cursor:
        session.autocommit = True
        cursor.execute("select pg_advisory_lock(7)")
        (backend,) = loop.run(pids(pool, 1))
        call = loop.submit(pool.run(f"select from {HELD}", []))
        until(lambda: look(session, "select 1 from pg_locks where not granted"))
        call.cancel()
        assert served(loop, pool) is None
        loop.run(pool.close())
        until(lambda: not asyncio.all_tasks(loop.loop))
        assert served(loop, pool) not in (None, backend)
        loop.run(pool.close())


def served(loop: Loop, pool: Pool) -> int | None:
    """Return who serves, if there is a place."""
    try:
        return loop.run(pids(pool, 1))[0]
    except Unavailable as refusal:
        assert refusal.detail == "all database connections are busy"
        return None


def test_a_stale_connection_is_not_lent(
    loop: Loop, pool: Pool, connect: Callable[[], connection]
) -> None:
    for _ in range(3):
        stale = loop.run(pids(pool))
        terminate(connect, *stale)
        assert not set(stale) & set(loop.run(pids(pool)))


def test_what_came_a_moment_ago_is_seen_before_the_loop_has_looked(
    loop: Loop, pool: Pool, connect: Callable[[], connection]
) -> None:
    (backend,) = loop.run(pids(pool, 1))

    async def at_once() -> list[int]:
        terminate(connect, backend)  # the loop stands still meanwhile
        return await pids(pool, 1)

    assert loop.run(at_once()) != [backend]


def test_without_a_look_a_stale_connection_would_be_lent(
    loop: Loop, pool: Pool, connect: Callable[[], connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the tests above."""
    monkeypatch.setattr(Session, "quiet", True)
    (backend,) = loop.run(pids(pool, 1))

    async def at_once() -> list[int]:
        terminate(connect, backend)
        return await pids(pool, 1)

    with pytest.raises(Lost):
        loop.run(at_once())


def test_a_connection_in_a_transaction_is_not_lent_again(loop: Loop, pool: Pool) -> None:
    async def begin() -> int:
        async with lent(pool) as session:
            await session.execute("begin")
            return await pid(session)

    first = loop.run(begin())
    assert loop.run(pids(pool, 1)) != [first]


def test_a_failure_gives_the_place_back(loop: Loop, pool: Pool) -> None:
    for _ in range(5):
        with pytest.raises(psycopg2.errors.DivisionByZero):
            loop.run(pool.run("select 1 / %s::int", [0]))
    assert loop.run(pids(pool))


def test_no_database_is_surely_nothing(loop: Loop) -> None:
    nowhere = Pool("host=127.0.0.1 port=1 user=x", 1, 0.2)
    for _ in range(3):  # and the place is given back
        with pytest.raises(Unavailable, match="^the database does not answer$") as refusal:
            loop.run(nowhere.take())
        assert refusal.value.outcome == "none"


def test_close_ends_the_idle_ones_and_the_others_when_they_come_back(
    loop: Loop, pool: Pool, connect: Callable[[], connection]
) -> None:
    async def end() -> list[int]:
        async with lent(pool) as session:
            backends = [await pid(session), *await pids(pool, 1)]
            await pool.close()
            return [*backends, await pid(session)]

    ended = loop.run(end())

    def gone() -> bool:
        with connect() as session, session.cursor() as cursor:
            cursor.execute("select from pg_stat_activity where pid = any (%s)", (ended,))
            return cursor.rowcount == 0

    until(gone)


def look(session: connection, statement: str) -> bool:
    """Whether a statement finds anything."""
    with session.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone() is not None


def test_connections_that_others_take_are_503_until_they_leave(
    directory: Path, pg_bin: Path | None, tmp_path: Path
) -> None:
    few = {"max_connections": "12", "superuser_reserved_connections": "0", "fsync": "off"}
    with EmbeddedPostgres(directory / "data", bin_dir=pg_bin, settings=few) as postgres:
        server = ServerProcess(tmp_path / "log", database_url=postgres.dsn)
        with serving(server), ThreadPoolExecutor(1) as pool, ExitStack() as taken:
            ok(server.call("POST", "/topics", {"topic": "t"}), 201)
            holder = taken.enter_context(closing(psycopg2.connect(postgres.dsn)))
            holder.cursor().execute("select queue.publish('t', '1')")
            publish = pool.submit(server.call, "POST", "/topics/t/messages", {"payloads": [2]})
            waits = "select 1 from pg_locks where not granted"
            until(lambda: look(holder, waits))
            look(holder, IDLE_ENDED)
            with suppress(psycopg2.OperationalError):
                while True:  # the server's only connection is busy now; take all others
                    taken.enter_context(closing(psycopg2.connect(postgres.dsn)))
            refused(server.call("GET", "/topics"), "unavailable")
            assert server.call("GET", "/health").status_code == 503
            holder.commit()
            assert ok(publish.result(30), 201)["first_offset"] == 2
            taken.close()
            ok(server.call("GET", "/topics"))
            ok(server.call("GET", "/topics/t/messages"))


def test_a_statement_is_prepared_once(loop: Loop, pool: Pool) -> None:
    prepared = "select count(*) from pg_prepared_statements where statement like '%%+ $2%%'"

    async def ask() -> None:
        async with lent(pool) as session:
            sums = [await session.run("select %s::int + %s", [n, 1]) for n in range(3)]
            assert sums == [[(1,)], [(2,)], [(3,)]]
            assert await session.execute(prepared) == [(1,)]
            assert await session.run("select 1", []) == [(1,)]

    loop.run(ask())


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ("create or replace", "bigint"),
        ("drop function queue.heads; create", "bigint"),
        ("drop function queue.heads; create", "numeric"),
    ],
)
def test_a_function_that_is_made_anew_is_used_at_once(
    loop: Loop, dsn: str, connect: Callable[[], connection], made: str, kind: str
) -> None:
    """A better strategy can replace a body without touching the server."""
    engine = PostgresEngine(dsn, pool_size=1)
    loop.run(engine.create_topic("t", None))
    for _ in range(10):  # a plan that holds for all values is made after a few times
        assert loop.run(engine.heads(["t"])) == {"t": 0}
    with connect() as session, session.cursor() as cursor:
        cursor.execute(f"""{made} function queue.heads(p_topics text[])
            returns table (topic text, head {kind})
            language sql as $$ select 'new', 7::{kind} $$""")
    assert loop.run(engine.heads(["t"])) == {"new": 7}
    loop.run(engine.close())
