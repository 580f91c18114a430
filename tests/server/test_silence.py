"""The database lets nobody in, or its name cannot be looked up: nobody else has to wait for those who need that."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
from psycopg2.extensions import make_dsn

from server.engines.postgres.embedded import EmbeddedPostgres
from tests.proxy import cutting
from tests.server.answers import ok, refused
from tests.server_process import ServerProcess, serving
from tests.standby import socket_of
from tests.stopped import stopped
from tests.waiting import until

CROWD = 6
SILENT = "connect_timeout=4"
WAITING = """select count(*) from pg_stat_activity
             where application_name = 'queue-server' and wait_event_type = 'Lock'"""


@contextmanager
def there(file: Path) -> Iterator[None]:
    """Have a file for a while."""
    file.touch()
    try:
        yield
    finally:
        file.unlink()


def test_a_stopped_postmaster(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with serving(
        ServerProcess(tmp_path / "log", database_url=f"{postgres.dsn} {SILENT}")
    ) as server:
        topics_made(server)
        with held(postgres) as release, stopped(postgres.pid):
            some_are_served(server, release)
        all_are_served(server)


def test_a_dead_resolver(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    with cutting(socket_of(postgres), 0) as proxy:
        way = make_dsn(postgres.dsn, host="db.example", port=proxy.port, sslmode="disable")
        settings = {"database_url": f"{way} {SILENT}", "dead_resolver": str(dead)}
        log = tmp_path / "log"
        with serving(ServerProcess(log, program="tests.dead_resolver", **settings)) as server:
            topics_made(server)
            with held(postgres) as release, there(dead):
                some_are_served(server, release)
            all_are_served(server)


def topics_made(server: ServerProcess) -> None:
    """Make as many topics as there are in the crowd."""
    for n in range(CROWD):
        ok(server.call("POST", "/topics", {"topic": f"t{n}"}), 201)


@contextmanager
def held(postgres: EmbeddedPostgres) -> Iterator[psycopg2.extensions.connection]:
    """Hold all messages, so that every call takes a session of its own."""
    with closing(psycopg2.connect(postgres.dsn)) as session:
        session.cursor().execute("lock table queue.message in access exclusive mode")
        yield session


def some_are_served(server: ServerProcess, holder: psycopg2.extensions.connection) -> None:
    """Expect that those who find a session wait and are served, and the others refused, and that nobody else waits."""

    def waiting() -> int:
        with holder.cursor() as cursor:
            cursor.execute(WAITING)
            return int((cursor.fetchone() or (0,))[0])

    with ThreadPoolExecutor(CROWD) as threads:
        crowd = [threads.submit(server.call, "GET", f"/topics/t{n}/messages") for n in range(CROWD)]
        until(waiting)
        meanwhile = 0
        for _ in range(10):
            ok(server.call("GET", "/openapi.json"))
            refused(server.call("GET", "/nowhere"), "not_found")
            meanwhile += not any(call.done() for call in crowd)
        assert meanwhile, "others are answered while all of these wait"
        holder.rollback()
        answers = [call.result(40) for call in crowd]
    served = [answer for answer in answers if answer.status_code == 200]
    for answer in answers:
        if answer not in served:
            refused(answer, "unavailable", outcome="none")
    assert 0 < len(served) < CROWD


def all_are_served(server: ServerProcess) -> None:
    """Expect the server to be as it was."""
    until(server.healthy)
    for n in range(CROWD):
        ok(server.call("POST", f"/topics/t{n}/messages", {"payloads": [1]}), 201)
