"""Servers and answers are lost in the middle of a lease; and two servers work on one database.

The numbers are those of the list of edge cases.
"""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
import requests
from psycopg2.extensions import connection

from tests.proxy import cutting
from tests.server.answers import ok, refused
from tests.server.working import BACK, Crew, attempts, offsets
from tests.server_process import ServerProcess
from tests.waiting import until

WAITING = """select pid from pg_stat_activity
             where datname = current_database() and application_name = 'queue-server'
               and wait_event_type = 'Lock'"""
OUT = "select count(*) from queue.leases where subscriber_id = {id}"
LEASES = "select count(*) from queue.hold where subscriber_id = {id} and kind = 'l'"
Start = Callable[..., ServerProcess]
Connect = Callable[[], connection]


def working(server: ServerProcess) -> Crew:
    """Workers with ten messages before them."""
    ok(server.call("POST", "/topics", {"topic": "t"}), 201)
    crew = Crew(server, "t")
    crew.publish(10)
    crew.subscribe()
    return crew


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for the calls that wait."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


@contextmanager
def held(connect: Connect) -> Iterator[connection]:
    """Keep every lease of the subscriber waiting."""
    with closing(connect()) as session, session.cursor() as cursor:
        cursor.execute("select queue.redrive('t', 'kitchen')")
        yield session


def they_come_back(crew: Crew) -> None:
    """Expect the first three messages after a while, as their second attempt, and then to be done."""
    leased: Any = None

    def came() -> bool:
        nonlocal leased
        leased = crew.lease(3)
        return bool(leased["lease"])

    until(came, BACK)
    assert (offsets(leased), attempts(leased)) == ([1, 2, 3], [2, 2, 2])
    assert crew.ack(leased) == (3, 10)


def test_16_a_server_that_is_killed_before_it_answers_is_like_a_worker_that_is(
    start_server: Start, connect: Connect, pool: ThreadPoolExecutor
) -> None:
    server, other = start_server(), start_server()
    crew = working(server)
    with held(connect) as session:
        body = {"limit": 3, "lease_seconds": 3}
        call = pool.submit(crew.call, "POST", "/leases", body)
        until(lambda: crew.ask(WAITING), BACK)
        server.kill()
        assert isinstance(call.exception(BACK), requests.ConnectionError)
        session.rollback()
    crew = crew.at(other)
    until(lambda: crew.ask(LEASES) == 1, BACK)  # the database carries it out nevertheless
    leased = crew.lease(7)
    if offsets(leased)[0] == 1:  # the machine is so slow that it has expired already
        assert attempts(leased)[:3] == [2, 2, 2]
        assert crew.ack(leased)[0] == 7
        return
    assert offsets(leased) == [*range(4, 11)]
    assert crew.ack(leased) == (7, 0)
    they_come_back(crew)


def test_16_an_answer_that_is_lost_is_like_a_worker_that_is(start_server: Start) -> None:
    server = start_server()
    crew = working(server)
    with cutting(server.url, 1) as proxy:
        path = "/topics/t/subscribers/kitchen/leases"
        with pytest.raises(requests.ConnectionError):
            requests.post(proxy.url + path, json={"limit": 3, "lease_seconds": 600}, timeout=BACK)
        assert proxy.cut == 1
    assert offsets(crew.lease(7)) == [*range(4, 11)]
    (lost, _) = crew.leases()
    assert lost["offsets"] == [1, 2, 3]  # everybody can see them, and nobody can acknowledge them
    for guess in (lost["lease"], f"{lost['lease']}-0"):
        refused(crew.of({"lease": guess}, "ack", {}), "lease_expired")
    crew.expire({"lease": lost["lease"]})
    again = crew.lease(3)
    assert (offsets(again), attempts(again)) == ([1, 2, 3], [2, 2, 2])


@pytest.mark.parametrize(("ending", "outcome"), [("terminate", "unknown"), ("cancel", "none")])
def test_the_outcome_of_a_lease_is_said(
    start_server: Start, connect: Connect, pool: ThreadPoolExecutor, ending: str, outcome: str
) -> None:
    crew = working(start_server())
    with held(connect):
        call = pool.submit(crew.call, "POST", "/leases", {"limit": 3})
        backend = until(lambda: crew.ask(WAITING), BACK)
        assert crew.ask(f"select pg_{ending}_backend({backend})")
        detail = refused(call.result(BACK), "unavailable", outcome=outcome)["detail"]
        assert ("out until they expire" in detail) == (outcome == "unknown")
        assert crew.ask(WAITING) is None  # it is not tried again
    assert crew.ask(LEASES) == 0
    assert offsets(crew.lease(3)) == [1, 2, 3]


def test_04_two_servers_share_the_leases_of_a_database(start_server: Start) -> None:
    one = working(start_server())
    other = one.at(start_server())
    leased = one.lease(4, worker="here")
    assert offsets(other.lease(3, worker="there")) == [5, 6, 7]
    assert one.leases() == other.leases()
    assert [lease["worker"] for lease in one.leases()] == ["here", "there"]
    assert other.ack(leased, 1) == (1, 1)
    assert one.ack(leased, 1) == (0, 1)
    longer = ok(other.of(leased, "extend", {"lease_seconds": 3600}))["expires_at"]
    assert one.leases()[0]["expires_at"] == longer
    assert other.nack(leased, 2, delay_seconds=3600) == (1, 0)
    refused(one.of(leased, "ack", {"offsets": [2]}), "lease_expired")
    one.configure(max_attempts=1)
    assert other.nack(leased, 3) == (0, 1)
    assert offsets(one.dead()) == [3]
    assert one.redrive() == 1
    assert offsets(other.lease(1)) == [3]
    ok(other.call("POST", "/seek", {"offset": 0}))
    refused(one.of(leased, "ack", {"offsets": [4]}), "lease_expired")


def test_a_killed_worker_process_loses_no_lease(start_server: Start) -> None:
    """The ledger is in the database: the process that answers holds nothing."""
    server = start_server()
    crew = working(server)
    leased = crew.lease(3)
    first = server.worker()
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in server.family() and server.healthy(), BACK)
    assert crew.ack(leased) == (3, 3)
