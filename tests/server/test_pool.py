"""The pool of database connections: bounded, patient for a bounded time, and never lending a dead one."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection

from server.engines.postgres import pool as pool_module
from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.engine import PostgresEngine
from server.engines.postgres.pool import Pool
from server.http.errors import Problem
from tests.server.answers import ok, refused
from tests.server_process import ServerProcess, serving
from tests.waiting import until

IDLE_ENDED = """select pg_terminate_backend(pid, 10000) from pg_stat_activity
                where application_name = 'queue-server' and state = 'idle'"""


@pytest.fixture
def pool(dsn: str) -> Iterator[Pool]:
    """A pool of two connections that waits a moment for one."""
    with closing(Pool(dsn, 2, 0.2)) as made:
        yield made


def pid(lent: connection) -> int:
    """Return the process id of the backend, as the backend says."""
    with lent.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        (found,) = cursor.fetchone() or (0,)
        return int(found)


def terminate(connect: Callable[[], connection], backend: int) -> None:
    """End a backend, and wait until it is gone."""
    with connect() as session, session.cursor() as cursor:
        cursor.execute("select pg_terminate_backend(%s, 10000)", (backend,))
        assert cursor.fetchone() == (True,)


def test_a_connection_is_used_again(pool: Pool) -> None:
    with pool.connection() as lent:
        first = pid(lent)
    with pool.connection() as lent:
        assert pid(lent) == first
        with pool.connection() as other:
            assert pid(other) != first


def test_an_empty_pool_is_a_bounded_wait_and_then_surely_nothing(pool: Pool) -> None:
    with pool.connection(), pool.connection():
        with pytest.raises(Problem) as refusal, pool.connection():
            raise AssertionError("lent a third one")
        assert (refusal.value.status, refusal.value.outcome) == (503, "none")
    with pool.connection() as lent:
        assert pid(lent)


def test_who_waits_is_next(dsn: str) -> None:
    waits = threading.Event()

    def use(pool: Pool) -> int:
        waits.set()
        with pool.connection() as lent:
            return pid(lent)

    with closing(Pool(dsn, 1, 20)) as pool, ThreadPoolExecutor(1) as threads:
        with pool.connection() as lent:
            first = pid(lent)
            waiter = threads.submit(use, pool)
            assert waits.wait(10) and not waiter.done()
        assert waiter.result(10) == first


def test_a_stale_connection_is_not_lent(pool: Pool, connect: Callable[[], connection]) -> None:
    for _ in range(3):
        with pool.connection() as lent, pool.connection() as other:
            stale = {pid(lent), pid(other)}
        for backend in stale:
            terminate(connect, backend)
        with pool.connection() as lent, pool.connection() as other:
            assert not stale & {pid(lent), pid(other)}


def test_without_a_look_a_stale_connection_would_be_lent(
    pool: Pool, connect: Callable[[], connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""
    monkeypatch.setattr(pool_module, "_is_quiet", lambda idle: True)
    with pool.connection() as lent:
        backend = pid(lent)
    terminate(connect, backend)
    with pytest.raises(psycopg2.OperationalError), pool.connection() as lent:
        pid(lent)


def test_a_connection_in_a_transaction_is_not_lent_again(pool: Pool) -> None:
    with pool.connection() as lent, lent.cursor() as cursor:
        first = pid(lent)
        cursor.execute("begin")
    with pool.connection() as lent:
        assert pid(lent) != first


def test_a_failure_gives_the_place_back(pool: Pool) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), pool.connection():
            raise ZeroDivisionError
    with pool.connection(), pool.connection():
        pass


def test_no_database_is_surely_nothing() -> None:
    nowhere = Pool("host=127.0.0.1 port=1 user=x", 1, 0.2)
    for _ in range(3):  # and the place is given back
        with pytest.raises(Problem) as refusal, nowhere.connection():
            raise AssertionError("lent a connection to nowhere")
        assert (refusal.value.status, refusal.value.outcome) == (503, "none")
        assert refusal.value.detail == "the database does not answer"


def test_close_ends_the_idle_ones(pool: Pool, connect: Callable[[], connection]) -> None:
    with pool.connection() as lent:
        backend = pid(lent)
    pool.close()

    def gone() -> bool:
        with connect() as session, session.cursor() as cursor:
            cursor.execute("select from pg_stat_activity where pid = %s", (backend,))
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


def test_a_statement_is_prepared_once(pool: Pool) -> None:
    prepared = "select count(*) from pg_prepared_statements where statement like '%%+ $2%%'"
    with pool.connection() as lent, lent.cursor() as cursor:
        assert [lent.run("select %s::int + %s", [n, 1]) for n in range(3)] == [
            [(1,)],
            [(2,)],
            [(3,)],
        ]
        cursor.execute(prepared)
        assert cursor.fetchone() == (1,)
        assert lent.run("select 1", []) == [(1,)]


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ("create or replace", "bigint"),
        ("drop function queue.heads; create", "bigint"),
        ("drop function queue.heads; create", "numeric"),
    ],
)
def test_a_function_that_is_made_anew_is_used_at_once(
    dsn: str, connect: Callable[[], connection], made: str, kind: str
) -> None:
    """A better strategy can replace a body without touching the server."""
    with closing(PostgresEngine(dsn, pool_size=1)) as engine:
        engine.create_topic("t", None)
        for _ in range(10):  # a plan that holds for all values is made after a few times
            assert engine.heads(["t"]) == {"t": 0}
        with connect() as session, session.cursor() as cursor:
            cursor.execute(f"""{made} function queue.heads(p_topics text[])
                returns table (topic text, head {kind})
                language sql as $$ select 'new', 7::{kind} $$""")
        assert engine.heads(["t"]) == {"new": 7}
