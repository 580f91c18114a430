"""The server's sessions have what the queue relies on, whatever a role, a database or the environment sets."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from psycopg2.extensions import connection

from server.engines.errors import EngineError
from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.engine import PostgresEngine
from server.engines.postgres.install import install
from tests.conftest import execute, numbers
from tests.loop import Loop
from tests.server.answers import ok, refused
from tests.server_process import STARTED, ServerProcess, end
from tests.waiting import until

Connect = Callable[[], connection]
Start = Callable[..., ServerProcess]

# Each of them breaks something when a session is left with it.
STRANGE = {
    "default_transaction_isolation": "serializable",
    "statement_timeout": "1s",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1s",
    "idle_session_timeout": "1s",
    "transaction_timeout": "1s",
    "search_path": "strange, pg_catalog",
    "row_security": "off",
    "exit_on_error": "on",
    "standard_conforming_strings": "off",
    "client_encoding": "LATIN1",
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "backslash_quote": "off",
}
RELIED_ON = {
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "10s",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "default_transaction_isolation": "read committed",
    "search_path": "pg_catalog, pg_temp",
    "row_security": "on",
    "exit_on_error": "off",
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
}
# Answers what its session is set to, where the answer would have been a topic.
SPY = """create or replace function queue.get_topic(p_topic text) returns queue.topics language plpgsql as $$ begin
    raise exception using errcode = 'QL009', message =
        (select json_object_agg(s.name, current_setting(s.name)) from pg_catalog.pg_settings s);
    end $$"""
# Stands before Postgres' own where the search path is not set.
IMPOSTOR = """create schema strange;
    create function strange.to_char(timestamp, text) returns text language sql as $$ select 'wrong' $$"""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for the calls that wait."""
    with ThreadPoolExecutor(16) as threads:
        yield threads


@pytest.fixture
def strange(dsn: str, connect: Connect) -> str:
    """The test's database, with all that is strange set for its sessions; the first of those is yet to come."""
    with closing(connect()) as session, session.cursor() as cursor:
        session.autocommit = True
        cursor.execute(IMPOSTOR)
        cursor.execute("select name from pg_settings")
        known = {name for (name,) in cursor}
        for name in STRANGE.keys() & known:
            value = STRANGE[name] if name == "search_path" else f"'{STRANGE[name]}'"
            cursor.execute(f"alter database {session.info.dbname} set {name} = {value}")
    return dsn


def settings(server: ServerProcess, connect: Connect) -> dict[str, str]:
    """Return what a session of the server is set to. The server is of little use then."""
    with closing(connect()) as session, session.cursor() as cursor:
        cursor.execute(SPY)
        session.commit()
    answer = refused(server.call("GET", "/topics/spy"), "invalid_request")
    return dict(json.loads(answer["detail"]))


def test_what_the_queue_relies_on_is_set(
    strange: str, start_server: Start, connect: Connect
) -> None:
    found = settings(start_server(), connect)
    expected = {name: value for name, value in RELIED_ON.items() if name in found}
    assert {name: found[name] for name in expected} == expected


def test_without_us_a_session_would_have_what_is_strange(strange: str) -> None:
    """The control of the tests beside it; the driver itself sets the style of dates."""
    with closing(psycopg2.connect(strange)) as session, session.cursor() as cursor:
        cursor.execute("select name, current_setting(name) from pg_settings")
        found = dict(cursor.fetchall())
    expected = {name: STRANGE[name] for name in STRANGE.keys() & found.keys() - {"DateStyle"}}
    assert {name: found[name] for name in expected} == expected


def test_two_servers_refuse_no_publish(
    strange: str, start_server: Start, pool: ThreadPoolExecutor
) -> None:
    servers = [start_server(), start_server()]
    ok(servers[0].call("POST", "/topics", {"topic": "t"}), 201)

    def publish(n: int) -> tuple[int, str]:
        answer = servers[n % 2].call("POST", "/topics/t/messages", {"payloads": [f"é\\'{n}"]})
        return ok(answer, 201)["first_offset"], f"é\\'{n}"

    published = dict(pool.map(publish, range(400)))
    assert sorted(published) == list(range(1, 401))
    answer = ok(servers[0].call("GET", "/topics/t/messages?limit=400"))
    assert {m["offset"]: m["payload"] for m in answer["messages"]} == published
    refused(servers[0].call("GET", "/topics/nowhere"), "topic_not_found")
    assert ok(servers[0].call("GET", "/topics/t"))["created_at"].endswith("Z")


def test_above_read_committed_a_publish_beside_another_fails(
    dsn: str, connect: Connect, pool: ThreadPoolExecutor
) -> None:
    """The control of the test above."""
    with closing(connect()) as first, closing(connect()) as second:
        for session in (first, second):
            session.set_session(isolation_level="SERIALIZABLE")
        one, other = first.cursor(), second.cursor()
        one.execute("select queue.create_topic('t')")
        first.commit()
        one.execute("select queue.publish('t', '1')")
        waits = pool.submit(other.execute, "select queue.publish('t', '2')")
        with closing(connect()) as watch, watch.cursor() as look:
            watch.autocommit = True

            def waiting() -> Any:
                look.execute("select 1 from pg_locks where not granted and locktype = 'advisory'")
                return look.fetchone()

            until(waiting)
        first.commit()
        with pytest.raises(psycopg2.errors.SerializationFailure):
            waits.result(10)


def test_what_the_connection_string_says_is_kept(
    dsn: str, start_server: Start, connect: Connect
) -> None:
    more = "application_name=mine connect_timeout=7"
    options = "-csynchronous_commit=off -cwork_mem=12345kB -clock_timeout=1ms"
    server = start_server(database_url=f"{dsn} {more} options='{options}'")
    assert "synchronous_commit" in ok(server.call("GET", "/health"))["unsafe"]
    found = settings(server, connect)
    assert found["work_mem"] == "12345kB"
    assert found["application_name"] == "mine"
    assert found["lock_timeout"] == "5s", "but what the queue relies on goes before"
    assert applications(connect) == {"mine"}


def test_what_the_environment_says_is_kept(dsn: str, start_server: Start, connect: Connect) -> None:
    server = start_server(
        pgappname="mine", pgoptions="-cwork_mem=12345kB", pgclientencoding="LATIN1"
    )
    found = settings(server, connect)
    assert found["work_mem"] == "12345kB"
    assert found["client_encoding"] == "UTF8"
    assert applications(connect) == {"mine"}


def test_the_servers_name_is_what_nobody_else_has_given(
    dsn: str, start_server: Start, connect: Connect
) -> None:
    start_server()
    assert applications(connect) == {"queue-server"}


def test_an_installation_keeps_the_connection_string(
    dsn: str, connect: Connect, pool: ThreadPoolExecutor
) -> None:
    with closing(connect()) as session, session.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(42, -1)")
        installing = pool.submit(install, f"{dsn} application_name=mine")
        until(lambda: applications(connect) == {"mine"})
        session.rollback()
        cursor.execute("select pg_advisory_unlock(42, -1)")
        session.rollback()
        assert installing.result(30) is False


def applications(connect: Connect) -> set[str]:
    """Return the names under which others are connected to the test's database."""
    with closing(connect()) as session, session.cursor() as cursor:
        cursor.execute("""select application_name from pg_stat_activity
                          where datname = current_database() and application_name <> ''""")
        return {name for (name,) in cursor}


@pytest.mark.parametrize(
    "more", ["client_encoding=LATIN1", "options='-c client_encoding=LATIN1'", ""]
)
def test_text_is_whole_whatever_encoding_is_set(
    more: str, dsn: str, start_server: Start, connect: Connect
) -> None:
    with closing(connect()) as session, session.cursor() as cursor:
        cursor.execute(f"alter database {session.info.dbname} set client_encoding = 'LATIN1'")
        session.commit()
    server = start_server(database_url=f"{dsn} {more}", pgclientencoding="LATIN1")
    ok(server.call("POST", "/topics", {"topic": "t", "description": "€ 漢 é 🂡"}), 201)
    ok(server.call("POST", "/topics/t/messages", {"payloads": ["€ 漢 é 🂡"], "keys": ["é"]}), 201)
    assert ok(server.call("GET", "/topics/t"))["description"] == "€ 漢 é 🂡"
    (message,) = ok(server.call("GET", "/topics/t/messages"))["messages"]
    assert (message["payload"], message["key"]) == ("€ 漢 é 🂡", "é")
    with closing(connect()) as session, session.cursor() as cursor:
        cursor.execute("select octet_length(key) from queue.message")
        assert cursor.fetchone() == (2,)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_a_database_that_cannot_hold_the_text_is_refused_in_one_sentence(
    encoding: str, cluster: EmbeddedPostgres, dsn: str, tmp_path: Any
) -> None:
    name = f"test_{next(numbers)}"
    execute(cluster, f"create database {name} encoding '{encoding}' template template0 locale 'C'")
    try:
        server = ServerProcess(tmp_path / "log", database_url=f"{dsn} dbname={name}")
        server.start()
        try:
            until(lambda: not server.running, STARTED)
        finally:
            end(server)
    finally:
        execute(cluster, f"drop database {name} with (force)")
    (line,) = server.log.splitlines()
    assert f"cannot start: the database keeps its text as {encoding}" in line
    assert "create database" in line


def test_each_text_that_cannot_be_sent_is_told_apart(loop: Loop, dsn: str) -> None:
    engine = PostgresEngine(dsn, pool_size=1)
    with pytest.raises(EngineError, match="half a surrogate pair") as refusal:
        loop.run(engine.topic("\ud800"))
    assert refusal.value.code == "invalid_request"
    with pytest.raises(EngineError, match=r"\\u0000") as refusal:
        loop.run(engine.topic("\0"))
    assert refusal.value.code == "invalid_request"
    loop.run(engine.close())


def test_a_statement_that_was_deallocated_is_prepared_again(
    loop: Loop, dsn: str, connect: Connect
) -> None:
    engine = PostgresEngine(dsn, pool_size=1)
    loop.run(engine.create_topic("t", None))
    with closing(connect()) as session, session.cursor() as cursor:
        cursor.execute("""create or replace function queue.heads(p_topics text[])
            returns table (topic text, head bigint) language plpgsql as $$
            declare v_name text; begin
                for v_name in select p.name from pg_prepared_statements p
                              where p.statement not like '%heads%' loop
                    execute format('deallocate %I', v_name);
                    return query select v_name, 0::bigint;
                end loop;
            end $$""")
        session.commit()
    for _ in range(3):
        assert "'t'" in repr(json.loads(loop.run(engine.topic("t"))))
        assert len(loop.run(engine.heads(["t"]))) >= 1, "something was deallocated"
    loop.run(engine.close())
