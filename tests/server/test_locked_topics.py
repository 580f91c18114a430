"""A topic that somebody holds in psql takes a part of the database connections, never all of them."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
import requests
from psycopg2.extensions import connection

from tests.server.answers import ok, refused
from tests.server.working import ask
from tests.server_process import ServerProcess
from tests.waiting import until

WAITING = """select count(*) from pg_stat_activity
             where datname = current_database() and application_name = 'queue-server'
               and wait_event_type = 'Lock'"""
CROWD = 40
HOLD = """select queue.ack_lease('lk', 's', lease), queue.redrive('lk', 's'), queue.publish('lk', '0'),
                 queue.seek('lk', 's', 0), queue.create_topic('new') from leased"""
Connect = Callable[[], connection]
Stuck = list[Future[requests.Response]]

# what waits for HOLD's session; {n} is another name for each call
VERBS: dict[str, tuple[str, str, Any]] = {
    "create_topic": ("POST", "/topics", {"topic": "new"}),
    "delete_topic": ("DELETE", "/topics/lk", None),
    "publish": ("POST", "/topics/lk/messages", {"payloads": [1]}),
    "reset": ("POST", "/topics/lk/reset", {"offset": 0}),
    "subscribe": ("POST", "/topics/lk/subscribers", {"subscriber": "new-{n}"}),
    "unsubscribe": ("DELETE", "/topics/lk/subscribers/s", None),
    "seek": ("POST", "/topics/lk/subscribers/s/seek", {"offset": 0}),
    "ack": ("POST", "/topics/lk/subscribers/s/ack", {"offset": 1, "epoch": "its"}),
    "lease": ("POST", "/topics/lk/subscribers/s/leases", {}),
    "ack_lease": ("POST", "/topics/lk/subscribers/s/leases/LEASE/ack", {}),
    "nack": ("POST", "/topics/lk/subscribers/s/leases/LEASE/nack", {}),
    "extend": ("POST", "/topics/lk/subscribers/s/leases/LEASE/extend", {"lease_seconds": 1}),
    "redrive": ("POST", "/topics/lk/subscribers/s/dead/redrive", {}),
    "remove_dead": ("DELETE", "/topics/lk/subscribers/s/dead", {}),
    "configure": ("PATCH", "/topics/lk/subscribers/s", {"max_attempts": 1}),
}

FUSED = ("publish", "ack", "lease", "ack_lease")  # many of them wait as one


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    """Threads for the calls that wait."""
    with ThreadPoolExecutor(2 * CROWD) as threads:
        yield threads


def made(server: ServerProcess) -> str:
    """Make the topics ``lk``, with a message that ``s`` has leased, and ``other``; return the lease."""
    for name in ("lk", "other"):
        ok(server.call("POST", "/topics", {"topic": name}), 201)
    ok(server.call("POST", "/topics/lk/subscribers", {"subscriber": "s"}), 201)
    ok(server.call("POST", "/topics/lk/messages", {"payloads": ["first"]}), 201)
    leased = ok(server.call("POST", "/topics/lk/subscribers/s/leases", {"lease_seconds": 600}))
    ask(server, f"create table leased as select '{leased['lease']}' as lease; select 1")
    return str(leased["lease"])


@contextmanager
def held(connect: Connect, *statements: str) -> Iterator[None]:
    """Hold whatever locks the statements take, and roll back in the end."""
    with closing(connect()) as session, session.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        yield


def waiting(connect: Connect, least: int) -> None:
    """Wait until so many of the server's sessions wait for a lock."""
    with closing(connect()) as session, session.cursor() as cursor:
        session.autocommit = True

        def enough() -> bool:
            cursor.execute(WAITING)
            return bool((cursor.fetchone() or (0,))[0] >= least)

        until(enough)


def call(server: ServerProcess, verb: str, n: int, lease: str = "") -> requests.Response:
    """Carry a verb out on the locked topic."""
    method, path, body = VERBS[verb]
    path = path.replace("LEASE", lease)
    if verb == "ack":
        body = body | {"epoch": ok(server.call("GET", "/topics/lk/subscribers/s"))["epoch"]}
    if verb == "subscribe":
        body = {"subscriber": f"new-{n}"}
    return server.call(method, path, body)


def others_are_served(server: ServerProcess, stuck: Stuck) -> None:
    """Expect the other topic to be served at once: long before those that are stuck are given up."""
    for _ in range(20):
        ok(server.call("POST", "/topics/other/messages", {"payloads": [1]}), 201)
        ok(server.call("GET", "/topics/other/messages?limit=1"))
        ok(server.call("GET", "/topics"))
    assert not any(one.done() for one in stuck)


@pytest.mark.parametrize("verb", VERBS)
def test_others_are_served_and_those_who_wait_are_answered(
    verb: str,
    start_server: Callable[..., ServerProcess],
    connect: Connect,
    crowd: ThreadPoolExecutor,
) -> None:
    server = start_server()
    lease = made(server)
    with held(connect, HOLD):
        stuck = [crowd.submit(call, server, verb, n, lease) for n in range(CROWD)]
        waiting(connect, 1 if verb in FUSED else 3)  # fused: one connection for all
        others_are_served(server, stuck)
        for one in stuck:
            refused(one.result(40), "unavailable", outcome="none")
    assert ok(server.call("GET", "/topics/lk"))["head"] == 1
    ok(server.call("POST", "/topics/lk/messages", {"payloads": ["second"]}), 201)


def test_a_locked_topic_is_still_read_and_acknowledged(
    start_server: Callable[..., ServerProcess], connect: Connect, crowd: ThreadPoolExecutor
) -> None:
    server = start_server()
    made(server)
    ok(server.call("POST", "/topics/lk/subscribers", {"subscriber": "r"}), 201)
    with held(connect, HOLD):
        stuck = [crowd.submit(call, server, "subscribe", n) for n in range(CROWD)]
        waiting(connect, 3)
        assert ok(server.call("GET", "/topics/lk/messages"))["head"] == 1
        assert ok(server.call("GET", "/topics/lk/subscribers/s/messages"))["head"] == 1
        reader = ok(server.call("POST", "/topics/lk/subscribers/r/seek", {"offset": 0}))
        ack = {"offset": 1, "epoch": reader["epoch"]}
        assert ok(server.call("POST", "/topics/lk/subscribers/r/ack", ack))["position"] == 1
        assert not any(one.done() for one in stuck)


def test_a_subscriber_that_exists_is_found_without_a_lock(
    start_server: Callable[..., ServerProcess], connect: Connect
) -> None:
    server = start_server()
    made(server)
    with held(connect, HOLD):
        found = ok(server.call("POST", "/topics/lk/subscribers", {"subscriber": "s"}), 200)
        assert found["subscriber"] == "s"
        again = {"subscriber": "s", "start": 10**6}  # neither moved nor checked: it is there
        assert ok(server.call("POST", "/topics/lk/subscribers", again), 200) == found


def test_several_locked_topics_leave_one_for_others(
    start_server: Callable[..., ServerProcess], connect: Connect, crowd: ThreadPoolExecutor
) -> None:
    server = start_server()
    made(server)
    locked = [f"lk-{n}" for n in range(8)]
    for name in locked:
        ok(server.call("POST", "/topics", {"topic": name}), 201)
    with held(connect, *(f"select queue.publish('{name}', '0')" for name in locked)):
        stuck = [
            crowd.submit(server.call, "POST", f"/topics/{name}/subscribers", {})
            for name in locked
            for _ in range(8)
        ]
        waiting(connect, len(locked))
        others_are_served(server, stuck)
        for one in stuck:
            refused(one.result(40), "unavailable", outcome="none")


def test_with_one_connection_in_all_the_locked_topic_takes_it(
    start_server: Callable[..., ServerProcess], connect: Connect, crowd: ThreadPoolExecutor
) -> None:
    """The control: without a share that is kept for them, others wait until one of the stuck is given up."""
    server = start_server("--connections", "1")
    made(server)
    with held(connect, HOLD):
        stuck = [crowd.submit(call, server, "subscribe", n) for n in range(CROWD)]
        waiting(connect, 1)
        answered: list[Future[requests.Response]] = []
        other = crowd.submit(server.call, "GET", "/topics")
        for one in (*stuck, other):
            one.add_done_callback(answered.append)
        for one in stuck:
            refused(one.result(40), "unavailable", outcome="none")
        until(other.done)
    assert answered[0] is not other
