"""Long polls: what wakes them, what they cost, and how they end."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

from server.engines import Batch, Engine
from server.engines.errors import Unavailable
from server.engines.postgres.engine import PostgresEngine
from server.queue.wakeups import Wakeups, Watch
from tests.loop import looping
from tests.server.answers import ok, refused
from tests.server.raw import request
from tests.server_process import ServerProcess
from tests.waiting import until

POLL = "/topics/t/subscribers/s/messages?wait=60"
SOON = 20  # seconds: far less than the polls would wait by themselves


@pytest.fixture
def main(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server with the topic ``t`` and its subscriber ``s``, which has read the one message."""
    server = start_server()
    ok(server.call("POST", "/topics", {"topic": "t"}), 201)
    ok(server.call("POST", "/topics/t/messages", {"payloads": [0]}), 201)
    ok(server.call("POST", "/topics/t/subscribers", {"subscriber": "s"}), 201)
    return server


@pytest.fixture
def poll() -> Iterator[Callable[[ServerProcess], Future[Any]]]:
    """Begin a long poll on a server, and return when it waits."""
    with ThreadPoolExecutor(8) as pool:

        def begin(server: ServerProcess) -> Future[Any]:
            before = waiting(server)
            answer = pool.submit(server.call, "GET", POLL, timeout=90)
            until(lambda: waiting(server) > before)
            return answer

        yield begin


def waiting(server: ServerProcess) -> int:
    """Return how many polls wait at a server."""
    (line,) = [
        line
        for line in server.call("GET", "/metrics").text.splitlines()
        if line.startswith("queue_waiting_polls ")
    ]
    return int(float(line.split()[1]))


def offsets(answer: Future[Any], seconds: float = SOON) -> list[int]:
    """Return the offsets that a poll brought."""
    return [message["offset"] for message in ok(answer.result(seconds))["messages"]]


def sql(connect: Callable[[], connection], statement: str) -> Any:
    """Run a statement straight in the database; return its one value."""
    with connect() as session, session.cursor() as cursor:
        cursor.execute(statement)
        (value,) = cursor.fetchone() or (None,)
        return value


def test_a_publish_wakes_through_the_same_server(
    main: ServerProcess, poll: Callable[[ServerProcess], Future[Any]]
) -> None:
    polls = [poll(main) for _ in range(3)]
    ok(main.call("POST", "/topics/t/messages", {"payloads": [1]}), 201)
    assert [offsets(one) for one in polls] == [[2]] * 3


def test_a_publish_wakes_through_another_server(
    main: ServerProcess,
    start_server: Callable[..., ServerProcess],
    poll: Callable[[ServerProcess], Future[Any]],
) -> None:
    other = start_server()
    polled = poll(main)
    ok(other.call("POST", "/topics/t/messages", {"payloads": [1]}), 201)
    assert offsets(polled) == [2]


def test_a_publish_wakes_straight_in_sql(
    main: ServerProcess,
    connect: Callable[[], connection],
    poll: Callable[[ServerProcess], Future[Any]],
) -> None:
    polled = poll(main)
    assert sql(connect, "select queue.publish('t', '1')") == 2
    assert offsets(polled) == [2]


@pytest.mark.parametrize("path", ["/topics/t/reset", "/topics/t/subscribers/s/seek"])
def test_a_replay_wakes_through_another_server(
    main: ServerProcess,
    start_server: Callable[..., ServerProcess],
    poll: Callable[[ServerProcess], Future[Any]],
    path: str,
) -> None:
    other = start_server()
    before = ok(main.call("GET", "/topics/t/subscribers/s"))["epoch"]
    polled = poll(main)
    ok(other.call("POST", path, {"offset": 0}))
    found = ok(polled.result(SOON))
    assert (found["epoch"], found["position"], len(found["messages"])) == (before + 1, 0, 1)


@pytest.mark.parametrize(
    ("path", "code"),
    [("/topics/t", "topic_not_found"), ("/topics/t/subscribers/s", "subscriber_not_found")],
)
def test_a_deletion_ends_the_wait(
    main: ServerProcess, poll: Callable[[ServerProcess], Future[Any]], path: str, code: str
) -> None:
    polled = poll(main)
    ok(main.call("DELETE", path), 204)
    refused(polled.result(SOON), code)


def test_other_topics_do_not_end_the_wait(
    main: ServerProcess, poll: Callable[[ServerProcess], Future[Any]]
) -> None:
    ok(main.call("POST", "/topics", {"topic": "other"}), 201)
    polled = poll(main)
    ok(main.call("POST", "/topics/other/messages", {"payloads": [1]}), 201)
    assert waiting(main) == 1 and not polled.done()
    ok(main.call("POST", "/topics/t/messages", {"payloads": [1]}), 201)
    assert offsets(polled) == [2]


def test_a_poll_reads_ahead(main: ServerProcess) -> None:
    with ThreadPoolExecutor(1) as pool:
        polled = pool.submit(main.call, "GET", POLL + "&after=1", timeout=90)
        until(lambda: waiting(main) == 1)
        ok(main.call("POST", "/topics/t/messages", {"payloads": [1]}), 201)
        assert offsets(polled) == [2]


def test_a_wait_ends_by_itself(main: ServerProcess) -> None:
    found = ok(main.call("GET", "/topics/t/subscribers/s/messages?wait=0.1"))
    assert (found["messages"], found["head"], found["position"]) == ([], 1, 1)
    # with something there nobody waits
    assert ok(main.call("GET", POLL + "&after=0", timeout=SOON))["messages"]


@pytest.mark.parametrize("program", ["server", "tests.flask_alone"])
def test_a_client_that_leaves_frees_its_place_at_once(
    start_server: Callable[..., ServerProcess], connect: Callable[[], connection], program: str
) -> None:
    """Five places and five leavers; the sixth is served."""
    server = start_server(program=program, queue_long_polls="5")
    sql(connect, "select queue.create_topic('t')::text")
    sql(connect, "select queue.subscribe('t', 's')::text")
    ask = request("GET", POLL.encode(), head=b"", length=False)
    with ExitStack() as opened:
        polls = [opened.enter_context(closing(_begin(server, ask))) for _ in range(5)]
        until(lambda: waiting(server) == 5)
        refused(server.call("GET", POLL, timeout=5), "unavailable")
    assert all(one.fileno() < 0 for one in polls)
    until(lambda: waiting(server) == 0, 1)  # what they asked for would take a minute
    with ThreadPoolExecutor(1) as pool:
        sixth = pool.submit(server.call, "GET", POLL, timeout=90)
        until(lambda: waiting(server) == 1)
        ok(server.call("POST", "/topics/t/messages", {"payloads": [1]}), 201)
        assert offsets(sixth) == [1]
    left = [line for line in server.call("GET", "/metrics").text.splitlines() if '"left"' in line]
    assert left == ['queue_requests_total{operation="fetch",status="left"} 5.0']


def test_one_poll_too_many_is_refused_at_once(
    start_server: Callable[..., ServerProcess], connect: Callable[[], connection]
) -> None:
    server = start_server(queue_long_polls="2")
    sql(connect, "select queue.create_topic('t')::text")
    sql(connect, "select queue.subscribe('t', 's')::text")
    with ThreadPoolExecutor(2) as pool:
        polls = [pool.submit(server.call, "GET", POLL, timeout=90) for _ in range(2)]
        until(lambda: waiting(server) == 2)
        refused(server.call("GET", POLL, timeout=5), "unavailable")
        # who does not want to wait, or need not, is served
        assert ok(server.call("GET", "/topics/t/subscribers/s/messages"))["messages"] == []
        ok(server.call("POST", "/topics/t/messages", {"payloads": [1]}), 201)
        assert [offsets(one) for one in polls] == [[1]] * 2


def test_polls_end_early_and_well_when_the_server_stops(
    main: ServerProcess, poll: Callable[[ServerProcess], Future[Any]]
) -> None:
    polls = [poll(main) for _ in range(3)]
    assert main.stop() == 0, main.log
    assert [offsets(one) for one in polls] == [[]] * 3


def test_a_thousand_polls(
    start_server: Callable[..., ServerProcess], connect: Callable[[], connection], dsn: str
) -> None:
    """They hold no connection, no thread and little memory; others are served, and one publish wakes them all."""
    server = start_server(queue_long_polls="1000")
    sql(connect, "select queue.create_topic('t')::text")
    sql(connect, "select queue.subscribe('t', 's')::text")
    ask = request("GET", POLL.encode(), head=b"", length=False)
    before = memory(server)
    with ExitStack() as opened:
        polls = [opened.enter_context(closing(_begin(server, ask))) for _ in range(1000)]
        until(lambda: waiting(server) == 1000, 30)
        assert memory(server) - before < 40 * 2**20
        assert len(list(Path(f"/proc/{server.worker()}/task").iterdir())) < 32
        backends = """select count(*) from pg_stat_activity
                      where datname = current_database() and application_name = 'queue-server'"""
        # 16 in the pool, one to listen, one to announce; all of them idle
        assert sql(connect, backends) <= 18
        until(lambda: sql(connect, backends + " and state <> 'idle'") == 0)
        ok(server.call("GET", "/health", timeout=5))
        refused(server.call("GET", POLL, timeout=5), "unavailable")
        ok(server.call("POST", "/topics/t/messages", {"payloads": ["woken"]}, timeout=5), 201)
        woken = [_rest(one) for one in polls]
    assert sum(b" 200 OK" in one and b'"woken"' in one for one in woken) == 1000
    until(lambda: waiting(server) == 0)


def memory(server: ServerProcess) -> int:
    """Return what the worker holds, in bytes."""
    pages = Path(f"/proc/{server.worker()}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _begin(server: ServerProcess, data: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=SOON)
    sock.sendall(data)
    return sock


def _rest(sock: socket.socket) -> bytes:
    received = b""
    while chunk := sock.recv(65536):
        received += chunk
    return received


class Deaf(PostgresEngine):
    """A planted bug: nothing is announced, and nobody looks."""

    async def announce(self, topics: list[str]) -> None:
        """Tell nobody."""

    async def heads(self, topics: list[str]) -> dict[str, int]:
        """See nothing new."""
        return dict.fromkeys(topics, 0)


class Mute(PostgresEngine):
    """An engine whose announcements are lost, but which looks."""

    async def announce(self, topics: list[str]) -> None:
        """Tell nobody."""


@asynccontextmanager
async def awake(*engines: Engine) -> AsyncIterator[list[Wakeups]]:
    """Start wakeups on engines; in the end none of their tasks is left."""
    before = asyncio.all_tasks()
    made = [Wakeups(engine, 1) for engine in engines]
    for wakeups in made:
        wakeups.start()
    try:
        yield made
    finally:
        for wakeups in made:
            await wakeups.stop()
        assert {task for task in asyncio.all_tasks() if "wakeups" in task.get_name()} == set()
        for engine in engines:
            await engine.close()
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}


async def quiet(watch: Watch) -> None:
    """Wait until nothing happens: the first look says that there is a topic."""
    async with asyncio.timeout(SOON):
        while await watch.wait(0.5):
            pass


@pytest.mark.parametrize(("kind", "wakes"), [(PostgresEngine, True), (Mute, True), (Deaf, False)])
def test_announcements_and_looks_are_what_wakes(
    dsn: str, connect: Callable[[], connection], kind: type[PostgresEngine], wakes: bool
) -> None:
    """The control of the tests above: without both, a publish through another server is not noticed."""
    sql(connect, "select queue.create_topic('t')::text")

    async def check() -> None:
        here, there = PostgresEngine(dsn) if kind is not Deaf else Deaf(dsn), kind(dsn)
        async with awake(here, there) as (waiter, publisher):
            with waiter.watch("t") as watch:
                await quiet(watch)
                await there.publish("t", [Batch("[1]", 1)])
                publisher.happened("t")
                assert await watch.wait(SOON if wakes else 1) is wakes

    with looping() as loop:
        loop.run(check())


class Blind(PostgresEngine):
    """An engine that cannot look: all of its connections are busy."""

    async def heads(self, topics: list[str]) -> dict[str, int]:
        """Fail as a busy pool does."""
        raise Unavailable("all database connections are busy")


def test_who_cannot_look_listens_nevertheless(
    dsn: str, connect: Callable[[], connection], caplog: pytest.LogCaptureFixture
) -> None:
    sql(connect, "select queue.create_topic('t')::text")

    async def check() -> None:
        async with awake(Blind(dsn)) as (wakeups,):
            with wakeups.watch("t") as watch:
                async with asyncio.timeout(SOON):
                    while caplog.text.count("not looked") < 2:
                        await asyncio.sleep(0.01)
                assert not await watch.wait(0.5)  # nobody is woken because of it
                sql(connect, "select pg_notify('queue_topics', 't')")
                assert await watch.wait(SOON)

    with looping() as loop:
        loop.run(check())
    assert "not listening" not in caplog.text


def test_a_server_hears_again_after_its_listener_was_cut(
    main: ServerProcess,
    connect: Callable[[], connection],
    poll: Callable[[ServerProcess], Future[Any]],
) -> None:
    polled = poll(main)
    listener = "select pid from pg_stat_activity where query ilike 'listen%' and datname = current_database()"
    first = sql(connect, listener)
    sql(connect, f"select pg_terminate_backend({first})")
    until(lambda: sql(connect, listener) not in (None, first))
    ok(main.call("POST", "/topics/t/reset", {"offset": 0}))
    assert offsets(polled) == [1]


def test_a_notice_travels_without_a_look(
    main: ServerProcess, dsn: str, connect: Callable[[], connection]
) -> None:
    """A reset does not move the head: only the announcement tells of it."""
    ok(main.call("POST", "/topics", {"topic": "reset"}), 201)  # t's publish may still be announced
    with closing(psycopg2.connect(dsn)) as session, session.cursor() as cursor:
        session.autocommit = True
        cursor.execute("listen queue_topics")
        ok(main.call("POST", "/topics/reset/reset", {"offset": 0}))

        def heard() -> set[str]:
            session.poll()
            return {notice.payload for notice in session.notifies} - {"t"}

        assert until(heard) == {"reset"}
