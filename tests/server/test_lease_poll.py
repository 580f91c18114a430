"""Workers that wait, over HTTP: what wakes them, what they cost, and how they end."""

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection

from tests.server.answers import ok, refused
from tests.server.raw import request
from tests.server.test_long_poll import memory, waiting
from tests.server_process import ServerProcess
from tests.waiting import until

WORK = "/topics/t/subscribers/s"
LEASES = WORK + "/leases"
SOON = 40  # seconds: nothing here takes that long, and the workers would wait for longer
WAITS = {"wait": 60}

Sql = Callable[..., Any]


@pytest.fixture
def sql(connect: Callable[[], connection]) -> Iterator[Sql]:
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


@pytest.fixture
def worker() -> Iterator[Callable[[ServerProcess], "Future[Any]"]]:
    """Have a worker wait at a server, and return when it does."""
    with ThreadPoolExecutor(8) as pool:

        def begin(server: ServerProcess) -> "Future[Any]":
            before = waiting(server)
            answer = pool.submit(server.call, "POST", LEASES, WAITS, timeout=90)
            until(lambda: waiting(server) > before, SOON)
            return answer

        yield begin


def messages(answer: "Future[Any]") -> list[tuple[int, int]]:
    """Return offset and attempt of what a worker was leased."""
    found = ok(answer.result(SOON))
    assert (found["lease"] is None) == (found["expires_at"] is None) == (found["messages"] == [])
    return [(message["offset"], message["attempt"]) for message in found["messages"]]


def test_who_has_waited_longest_gets_first_and_what_is_nacked_goes_to_the_next(
    start_server: Callable[..., ServerProcess],
    sql: Sql,
    worker: Callable[[ServerProcess], "Future[Any]"],
) -> None:
    here, there = start_server(), start_server()
    first, second, third = worker(here), worker(here), worker(there)
    ok(there.call("POST", "/topics/t/messages", {"payloads": [1]}), 201)
    # one of the two servers was first, and on it the one who had waited for longer
    until(lambda: first.done() or third.done(), SOON)
    assert not second.done() and not (first.done() and third.done())
    has, waits = (first, third) if first.done() else (third, first)
    lease = ok(has.result())["lease"]
    ok(here.call("POST", f"{LEASES}/{lease}/nack", {"delay_seconds": 0}))
    until(lambda: waits.done() or second.done(), SOON)
    sql("select queue.publish('t', '2')")
    assert sorted(messages(waits) + messages(second)) == [(1, 2), (2, 1)]


def test_a_wait_ends_by_itself(start_server: Callable[..., ServerProcess], sql: Sql) -> None:
    server = start_server()
    found = ok(server.call("POST", LEASES, {"wait": 0.1}))
    assert found == {
        "topic": "t",
        "subscriber": "s",
        "lease": None,
        "expires_at": None,
        "messages": [],
    }
    sql("select queue.publish('t', '1')")
    assert ok(server.call("POST", LEASES, WAITS, timeout=SOON))["messages"]  # nobody waits
    refused(
        server.call("POST", "/topics/t/subscribers/nobody/leases", WAITS), "subscriber_not_found"
    )


def _begin(server: ServerProcess, wanted: dict[str, Any]) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=SOON)
    sock.sendall(request("POST", LEASES.encode(), json.dumps(wanted).encode()))
    return sock


@pytest.mark.parametrize("program", ["server", "tests.flask_alone"])
def test_a_client_that_leaves_frees_its_place_at_once_and_gets_nothing(
    start_server: Callable[..., ServerProcess], sql: Sql, program: str
) -> None:
    """WORK.md C16, where it can be helped."""
    server = start_server(program=program, queue_long_polls="5")
    with ExitStack() as opened:
        for _ in range(5):
            opened.enter_context(closing(_begin(server, WAITS)))
        until(lambda: waiting(server) == 5, SOON)
        refused(server.call("POST", LEASES, WAITS, timeout=SOON), "unavailable")
        assert ok(server.call("POST", LEASES, {}, timeout=SOON))["lease"] is None  # nor waits
    until(lambda: waiting(server) == 0, SOON)
    ok(server.call("POST", "/topics/t/messages", {"payloads": [1]}), 201)
    assert sql("select attempt from queue.lease('t', 's')") == 1


@pytest.mark.parametrize("program", ["server", "tests.flask_alone"])
def test_what_is_leased_for_a_client_that_has_left_goes_back_untried(
    start_server: Callable[..., ServerProcess], sql: Sql, program: str
) -> None:
    server = start_server(program=program)
    sql("select queue.publish('t', '1')")
    sql("create table go (); grant select on go to public")
    sql("""create function waits() returns trigger language plpgsql as $$ begin
               while not exists (select from public.go) loop perform pg_sleep(0.01); end loop;
               return new; end $$""")
    sql("create trigger waits before insert on queue.hold for each row execute function waits()")
    leasing = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
    with closing(_begin(server, {"lease_seconds": 43200})):
        until(lambda: sql(leasing) == 1, SOON)
    left = 'queue_requests_total{operation="lease",status="left"} 1.0'
    until(lambda: left in server.call("GET", "/metrics").text, SOON)
    sql("insert into go default values")
    until(lambda: sql("select max(act) from queue.hold where kind = 'u'"), SOON)
    assert sql("select attempt from queue.lease('t', 's')") == 1


def test_workers_end_early_and_well_when_the_server_stops(
    start_server: Callable[..., ServerProcess],
    sql: Sql,
    worker: Callable[[ServerProcess], "Future[Any]"],
) -> None:
    server = start_server()
    workers = [worker(server) for _ in range(3)]
    assert server.stop() == 0, server.log
    assert [messages(one) for one in workers] == [[]] * 3


def test_five_hundred_workers_wait(start_server: Callable[..., ServerProcess], sql: Sql) -> None:
    """They hold no connection, no thread and little memory; others are served, and each gets its message."""
    server = start_server()
    before = memory(server)
    with ExitStack() as opened:
        workers = [opened.enter_context(closing(_begin(server, WAITS))) for _ in range(500)]
        until(lambda: waiting(server) == 500, SOON)
        assert memory(server) - before < 40 * 2**20
        assert len(list(Path(f"/proc/{server.worker()}/task").iterdir())) < 32
        backends = """select count(*) from pg_stat_activity
                      where datname = current_database() and application_name = 'queue-server'"""
        assert sql(backends) <= 18
        until(lambda: sql(backends + " and state <> 'idle'") == 0, SOON)
        ok(server.call("GET", "/health", timeout=SOON))
        ok(server.call("POST", "/topics/t/messages", {"payloads": list(range(500))}), 201)
        answers = [json.loads(_rest(one).partition(b"\r\n\r\n")[2]) for one in workers]
    assert [message["offset"] for answer in answers for message in answer["messages"]] == list(
        range(1, 501)
    )
    until(lambda: waiting(server) == 0, SOON)


def _rest(sock: socket.socket) -> bytes:
    received = b""
    while chunk := sock.recv(65536):
        received += chunk
    return received
