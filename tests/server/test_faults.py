"""Processes are killed, stopped and cut off in the middle; what was promised still holds."""

import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection, make_dsn

from server.engines.postgres.embedded import EmbeddedPostgres
from tests.conftest import execute, numbers
from tests.server.answers import ok, refused
from tests.server.history import History, faults, publish_until, until_progress
from tests.server_process import ServerProcess, end, serving
from tests.stopped import stopped
from tests.waiting import until

BACK = 5.0  # seconds, from the database's return to the server's
WAITING = """select pid from pg_stat_activity
             where datname = current_database() and application_name = 'queue-server'
               and wait_event_type = 'Lock'"""
BATCH = {"payloads": ["v"], "producer": "p", "sequence": 1}
Ask = Callable[[str], Any]


@pytest.fixture
def ask(connect: Callable[[], connection]) -> Ask:
    """Ask the test's database for one value."""

    def one(statement: str) -> Any:
        with connect() as session, session.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone()
        return row[0] if row else None

    return one


@pytest.fixture
def main(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server with the topics ``t`` and ``other``."""
    server = start_server()
    for name in ("t", "other"):
        ok(server.call("POST", "/topics", {"topic": name}), 201)
    return server


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for the calls that wait."""
    with ThreadPoolExecutor(24) as threads:
        yield threads


@contextmanager
def held(connect: Callable[[], connection], statement: str) -> Iterator[connection]:
    """Hold whatever locks a statement takes, and roll back in the end."""
    session = connect()
    with session.cursor() as cursor:
        cursor.execute(statement)
    yield session
    session.rollback()


def test_a_backend_that_is_ended_in_a_publish_leaves_the_outcome_open(
    main: ServerProcess, connect: Callable[[], connection], ask: Ask, pool: ThreadPoolExecutor
) -> None:
    for n in range(10):
        with held(connect, "select queue.publish('t', '0')"):
            publish = pool.submit(main.call, "POST", "/topics/t/messages", BATCH)
            backend = until(lambda: ask(WAITING))
            assert ask(f"select pg_terminate_backend({backend})")
            refused(publish.result(20), "unavailable", outcome="unknown")
        assert ok(main.call("GET", "/topics/t"))["head"] == 0, n
    assert ok(main.call("POST", "/topics/t/messages", BATCH), 201)["duplicate"] is False


@pytest.mark.parametrize("end_it", ["pg_terminate_backend", "pg_cancel_backend"])
def test_a_read_that_is_cut_has_surely_done_nothing(
    main: ServerProcess,
    connect: Callable[[], connection],
    ask: Ask,
    pool: ThreadPoolExecutor,
    end_it: str,
) -> None:
    with held(connect, "lock table queue.message in access exclusive mode"):
        look = pool.submit(main.call, "GET", "/topics/t/messages")
        backend = until(lambda: ask(WAITING))
        assert ask(f"select {end_it}({backend})")
        refused(look.result(20), "unavailable", outcome="none")
    ok(main.call("GET", "/topics/t/messages"))


def test_a_cancelled_publish_has_surely_not_happened(
    main: ServerProcess, connect: Callable[[], connection], ask: Ask, pool: ThreadPoolExecutor
) -> None:
    with held(connect, "select queue.publish('t', '0')"):
        publish = pool.submit(main.call, "POST", "/topics/t/messages", BATCH)
        backend = until(lambda: ask(WAITING))
        assert ask(f"select pg_cancel_backend({backend})")
        refused(publish.result(20), "unavailable", outcome="none")


def test_a_stopped_backend_with_a_topic_harms_no_other_topic(
    main: ServerProcess, connect: Callable[[], connection], ask: Ask
) -> None:
    with (
        ThreadPoolExecutor(32) as crowd,
        held(connect, "select queue.publish('t', '0')") as session,
        stopped(session.info.backend_pid),
    ):
        stuck = [crowd.submit(main.call, "POST", "/topics/t/messages", BATCH) for _ in range(32)]
        until(lambda: ask(WAITING))
        for _ in range(20):
            ok(main.call("POST", "/topics/other/messages", {"payloads": [1]}), 201)
            ok(main.call("GET", "/topics/t/messages"))
        # a topic never takes more than one of the connections
        assert ask(WAITING.replace("pid", "count(*)", 1)) == 1
        assert not any(one.done() for one in stuck)
        for one in stuck:
            refused(one.result(20), "unavailable", outcome="none")
    assert ok(main.call("POST", "/topics/t/messages", BATCH), 201)["first_offset"] == 1


@pytest.fixture
def on_postgres(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server on ``postgres``, with the topic ``t``."""
    with serving(ServerProcess(tmp_path / "log", database_url=postgres.dsn)) as server:
        ok(server.call("POST", "/topics", {"topic": "t"}), 201)
        yield server


def accepts(dsn: str) -> bool:
    """Whether PostgreSQL takes a connection."""
    try:
        psycopg2.connect(dsn, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


def publishes(server: ServerProcess) -> bool:
    """Whether a publish works; one that does not has to say 503."""
    answer = server.call("POST", "/topics/t/messages", {"payloads": ["again"]})
    assert answer.status_code in (201, 503), answer.text
    return answer.status_code == 201


def test_a_killed_backend_takes_all_with_it_and_all_comes_back(
    on_postgres: ServerProcess, postgres: EmbeddedPostgres, pool: ThreadPoolExecutor
) -> None:
    """PostgreSQL restarts itself then: every session is cut, and what was committed is there."""
    server = on_postgres
    ok(server.call("POST", "/topics/t/messages", {"payloads": ["kept"]}), 201)
    with closing(psycopg2.connect(postgres.dsn)) as holder, holder.cursor() as cursor:
        cursor.execute("select queue.publish('t', '0')")
        publish = pool.submit(server.call, "POST", "/topics/t/messages", BATCH)
        with closing(psycopg2.connect(postgres.dsn)) as session, session.cursor() as look:
            session.autocommit = True

            def waiting() -> Any:
                look.execute(WAITING)
                return look.fetchone()

            (backend,) = until(waiting)
        os.kill(backend, signal.SIGKILL)
        refused(publish.result(20), "unavailable", outcome="unknown")
    until(lambda: accepts(postgres.dsn), 30)
    until(lambda: publishes(server), BACK)
    ok(server.call("POST", "/topics/t/messages", BATCH), 201)
    messages = ok(server.call("GET", "/topics/t/messages"))["messages"]
    assert [message["payload"] for message in messages] == ["kept", "again", "v"]


def test_a_restart_while_nobody_calls_is_not_noticed(
    on_postgres: ServerProcess, postgres: EmbeddedPostgres, pool: ThreadPoolExecutor
) -> None:
    calls = [pool.submit(publishes, on_postgres) for _ in range(8)]  # several idle connections
    assert all(call.result(20) for call in calls)
    for _ in range(2):
        postgres.stop()
        postgres.start()
        for _ in range(5):
            ok(on_postgres.call("POST", "/topics/t/messages", {"payloads": [1]}), 201)


def test_while_the_database_is_away_nothing_happens_for_sure(
    on_postgres: ServerProcess, postgres: EmbeddedPostgres
) -> None:
    ok(on_postgres.call("POST", "/topics/t/subscribers", {"subscriber": "s"}), 201)
    postgres.stop()
    for method, path, body in [
        ("GET", "/health", None),
        ("GET", "/topics", None),
        ("POST", "/topics/t/messages", BATCH),
        ("GET", "/topics/t/subscribers/s/messages?wait=1", None),
        ("POST", "/topics/t/subscribers/s/ack", {"offset": 0, "epoch": 0}),
    ]:
        refused(on_postgres.call(method, path, body), "unavailable", outcome="none")
    assert "queue_engine_up 0.0" in on_postgres.call("GET", "/metrics").text
    postgres.start()
    until(lambda: publishes(on_postgres), BACK)


def test_a_killed_server_leaves_nothing_and_its_port_is_free(main: ServerProcess) -> None:
    assert len(main.family()) >= 2
    main.kill()
    assert main.family() == []
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", main.port))
    main.start()
    main.ready()
    assert ok(main.call("GET", "/topics/t"))["head"] == 0


def test_a_killed_worker_is_replaced(main: ServerProcess) -> None:
    first = main.worker()
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in main.family() and main.healthy(), 30)
    assert main.worker() != first
    ok(main.call("POST", "/topics/t/messages", BATCH), 201)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_finished(
    main: ServerProcess,
    connect: Callable[[], connection],
    ask: Ask,
    pool: ThreadPoolExecutor,
    number: signal.Signals,
) -> None:
    with held(connect, "select queue.publish('t', '0')") as session:
        publish = pool.submit(main.call, "POST", "/topics/t/messages", BATCH)
        until(lambda: ask(WAITING))
        if number is signal.SIGINT:
            os.killpg(main.pid, number)  # Ctrl-C reaches all processes of a terminal
        else:
            main.signal(number)
        until(lambda: not listening(main.port))
        assert not publish.done()
        session.rollback()
        assert ok(publish.result(20), 201)["first_offset"] == 1
    assert main.wait() == 0, main.log
    assert ask('select max("offset") from queue.messages') == 1


def listening(port: int) -> bool:
    """Whether a new connection is taken."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionError:
        return False
    return True


def at_work_in(directory: Path) -> list[str]:
    """Return the processes that work in a directory or below it."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found += [link.parent.name] * os.readlink(link).startswith(str(directory))
        except OSError:
            continue
    return found


def test_servers_that_start_at_once_on_an_empty_database(
    cluster: EmbeddedPostgres, tmp_path: Path
) -> None:
    name = f"empty_{next(numbers)}"
    execute(cluster, f"CREATE DATABASE {name}")
    dsn = make_dsn(cluster.dsn, dbname=name)
    with ExitStack() as started:
        servers = [ServerProcess(tmp_path / f"log-{n}", database_url=dsn) for n in range(4)]
        for server in servers:
            started.callback(end, server)
            server.start()
        for server in servers:
            server.ready()
        assert sum("applied init/" in server.log for server in servers) == 1
        ok(servers[0].call("POST", "/topics", {"topic": "t"}), 201)
        offsets = [
            ok(server.call("POST", "/topics/t/messages", {"payloads": [1]}), 201)["first_offset"]
            for server in servers
        ]
        assert offsets == [1, 2, 3, 4]
        assert [server.stop() for server in servers] == [0] * 4
    execute(cluster, f"DROP DATABASE {name}")


def test_two_servers_share_one_directory(directory: Path, tmp_path: Path) -> None:
    flags = ("--data", str(directory / "data"))
    first, second = (ServerProcess(tmp_path / f"log-{n}", *flags) for n in range(2))
    try:
        first.start()
        second.start()
        first.ready()
        second.ready()
        assert ok(first.call("GET", "/health"))["status"] == "ok"
        ok(first.call("POST", "/topics", {"topic": "t"}), 201)
        ok(second.call("POST", "/topics/t/messages", BATCH), 201)
        assert ok(first.call("GET", "/topics/t"))["head"] == 1
        assert first.stop() == 0, first.log
        assert at_work_in(directory)
        ok(second.call("POST", "/topics/t/messages", {"payloads": [2]}), 201)
        assert second.stop() == 0, second.log
    finally:
        end(first)
        end(second)
    until(lambda: not at_work_in(directory))


def test_numbered_publishes_survive_every_kill(
    on_postgres: ServerProcess, postgres: EmbeddedPostgres
) -> None:
    """P1, P2 and P10: what was acknowledged is there, once, where it was said to be."""
    server = on_postgres
    postgres.supervise()
    histories = [History() for _ in range(4)]
    stopped = threading.Event()
    with ThreadPoolExecutor(len(histories)) as threads:
        publishers = [
            threads.submit(publish_until, stopped, server, f"p{n}", history)
            for n, history in enumerate(histories)
        ]
        try:
            for round_ in range(6):
                until(until_progress(histories, random.randrange(5, 30)), 60)
                if round_ % 2:
                    assert postgres.pid
                    os.kill(postgres.pid, signal.SIGKILL)
                else:
                    server.kill()
                    server.start()
            until(until_progress(histories, 5), 60)
        finally:
            stopped.set()
        for publisher in publishers:
            publisher.result(60)
    until(server.healthy, 30)
    acknowledged = [pair for history in histories for pair in history.acknowledged]
    read = ok(server.call("GET", "/topics/t/messages?limit=10000"))
    stored = [(message["offset"], message["payload"]) for message in read["messages"]]
    assert read["head"] == len(stored) == len(acknowledged) > 6 * 4 * 5
    assert faults(acknowledged, stored) == []
    assert sum(history.unknown + history.refused for history in histories) > 0


@pytest.mark.parametrize(
    ("read", "found"),
    [
        ([(1, "a"), (2, "b")], []),
        ([(1, "a")], ["lost b", "misplaced b"]),
        ([(1, "b"), (2, "a")], ["misplaced a", "misplaced b"]),
        ([(1, "a"), (3, "b")], ["gap", "misplaced b"]),
        ([(1, "a"), (2, "b"), (3, "b")], ["duplicate"]),
        ([(1, "a"), (2, "b"), (3, "c")], ["phantom"]),
    ],
)
def test_the_check_finds_what_is_wrong(read: list[tuple[int, str]], found: list[str]) -> None:
    """The control of the test above."""
    assert faults([("a", 1), ("b", 2)], read) == found
