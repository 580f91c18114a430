"""The database dies with leases that are not on the disk: what was acknowledged stays, once.

A lease does not wait for the disk, an ack does. Here the process that writes the log of PostgreSQL
behind the backs of its sessions is stopped, so that only what is waited for gets to the disk, and
then killed -9: PostgreSQL ends every session, forgets what was in memory, and recovers.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection

from qlib import QPublisher, QSubscriber, QueueError
from qlib.lab.checker import check
from qlib.lab.history import History, record
from qlib.lab.history.watched import WatchedSubscriber
from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.install import install
from tests.server_process import ServerProcess, serving
from tests.waiting import until

PATIENCE = 60.0
CHILD = "select pid from pg_stat_activity where backend_type = %s and pid <> pg_backend_pid()"


@pytest.fixture
def postgres(directory: Path, pg_bin: Path | None) -> Iterator[EmbeddedPostgres]:
    """A cluster of the test's own, durable as PostgreSQL is by itself."""
    with EmbeddedPostgres(directory, bin_dir=pg_bin) as cluster:
        assert install(cluster.dsn)
        yield cluster


class Database:
    """One session with the database, renewed after a crash."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.session = self.opened()

    def opened(self) -> connection:
        session = psycopg2.connect(self.dsn, connect_timeout=5)
        session.autocommit = True
        return session

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self.session.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def child(self, kind: str) -> int:
        """The process id of one of the postmaster's children."""
        ((pid, *_), *_) = until(lambda: self.rows(CHILD, kind), PATIENCE)
        return int(pid)

    def crash(self, pid: int) -> None:
        """Kill a child; return when this session was cut, and there is a new one."""
        os.kill(pid, signal.SIGKILL)
        until(lambda: not self.answers(), PATIENCE)
        until(self.accepts, PATIENCE)

    def answers(self) -> bool:
        with suppress(psycopg2.Error):
            return bool(self.rows("select 1"))
        return False

    def accepts(self) -> bool:
        with suppress(psycopg2.OperationalError):
            self.session.close()
            self.session = self.opened()
            return True
        return False

    def lease(self, durable: bool) -> tuple[str, list[int], list[int]]:
        """Return a lease's id, its offsets and their attempts."""
        found = self.rows(
            "select lease, \"offset\", attempt from queue.lease('t', 's', null, 2, 300, %s)",
            durable,
        )
        ids, offsets, attempts = zip(*found, strict=True) if found else ((), (), ())
        assert len(set(ids)) <= 1
        return (ids[0] if ids else ""), list(offsets), list(attempts)

    def ack(self, lease: str, *offsets: int) -> int | str | None:
        """Return how many were done, or the SQLSTATE of the refusal."""
        try:
            ((acked,),) = self.rows(
                "select acked from queue.ack_lease('t', 's', %s, %s)", lease, list(offsets) or None
            )
        except psycopg2.Error as refused:
            return refused.pgcode
        return int(acked)


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """A topic with six messages, and a subscriber."""
    found = Database(postgres.dsn)
    with closing(found.session):
        found.rows("select queue.create_topic('t')")
        found.rows("select queue.publish_batch('t', '[1, 2, 3, 4, 5, 6]')")
        found.rows("select queue.subscribe('t', 's', 'earliest')")
        yield found
        found.session.close()


def test_C17_a_lease_that_was_not_on_disk_is_unknown_and_its_messages_come_again(
    database: Database,
) -> None:
    kept, offsets, _ = database.lease(durable=False)
    assert offsets == [1, 2]
    writer = database.child("walwriter")
    os.kill(writer, signal.SIGSTOP)
    assert database.ack(kept, 1) == 1  # this is waited for, and so is all before it
    lost, offsets, attempts = database.lease(durable=False)
    assert (offsets, attempts) == ([3, 4], [1, 1])
    database.crash(writer)
    assert database.ack(lost) == "QL010"
    again, offsets, attempts = database.lease(durable=False)
    assert (offsets, attempts) == ([3, 4], [1, 1])
    # the same act was given out again, and the old id does not fit
    assert again.split("-")[0] == lost.split("-")[0] and again != lost
    assert database.ack(lost) == "QL010"
    assert (database.ack(kept), database.ack(again)) == (1, 2)
    last, offsets, _ = database.lease(durable=False)
    assert (offsets, database.ack(last)) == ([5, 6], 2)
    assert database.lease(durable=False)[1] == []
    assert database.rows("select position, lag from queue.subscribers") == [(6, 0)]


def test_C17_control_a_lease_that_was_waited_for_outlives_the_crash(database: Database) -> None:
    writer = database.child("walwriter")
    os.kill(writer, signal.SIGSTOP)
    lease, offsets, _ = database.lease(durable=True)
    database.crash(writer)
    assert offsets == [1, 2] and database.ack(lease) == 2
    assert database.lease(durable=True)[1] == [3, 4]


def test_C17_control_an_ack_that_was_not_waited_for_is_lost(database: Database) -> None:
    """What the two tests above would say if an ack did not wait for the disk."""
    lease, offsets, _ = database.lease(durable=True)
    writer = database.child("walwriter")
    os.kill(writer, signal.SIGSTOP)
    database.rows("set synchronous_commit = off")
    assert offsets == [1, 2] and database.ack(lease) == 2
    database.crash(writer)
    assert database.rows("select position from queue.subscribers") == [(0,)]
    assert database.ack(lease) == 2  # a second time


class Crew:
    """Workers through a server, who go on through crashes, and what they were told."""

    def __init__(self, url: str, history: History) -> None:
        self.url, self.history = url, history
        self.stop = threading.Event()
        self.acked: list[int] = []
        self.refused = 0
        self.failed: list[BaseException] = []

    def work(self) -> None:
        try:
            with QSubscriber("t", "s", "earliest", url=self.url) as client:
                worker = self.history.watch(client)
                while not self.stop.is_set() or client.lag:
                    with suppress(QueueError):
                        self.turn(worker)
        except BaseException as error:
            self.failed.append(error)

    def turn(self, worker: WatchedSubscriber) -> None:
        lease = worker.lease(3, seconds=5, wait=0.05)
        if lease:
            try:
                acked = lease.ack()
            except QueueError:
                self.refused += 1
                raise
            if acked.acked == len(lease):
                self.acked += [message.offset for message in lease]


@pytest.mark.parametrize("kind", ["walwriter", "client backend", "checkpointer"])
def test_C17_crashes_among_workers_lose_and_double_nothing_that_was_acked(
    kind: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    crashes, history = 3, record()
    with (
        serving(ServerProcess(tmp_path / "log", database_url=postgres.dsn)) as server,
        QPublisher(server.url) as publisher,
    ):
        with history.restart():
            pub = history.watch(publisher)
        pub.create_topic("t")
        pub.publish_many("t", [f"{n}" for n in range(20)])
        with QSubscriber("t", "s", "earliest", url=server.url) as client:
            history.watch(client).lease(3, seconds=5)  # by one who never comes back
        crew = Crew(server.url, history)
        workers = [threading.Thread(target=crew.work) for _ in range(3)]
        for worker in workers:
            worker.start()
        database = Database(postgres.dsn)
        for n in range(crashes):
            before = len(crew.acked)
            pub.publish_many("t", [f"{n} {k}" for k in range(300)])
            until(lambda before=before: len(crew.acked) > before + 20 or crew.failed, PATIENCE)
            with history.restart():
                database.crash(database.child(kind))
        database.session.close()
        crew.stop.set()
        for worker in workers:
            worker.join(PATIENCE)
        assert not any(worker.is_alive() for worker in workers) and not crew.failed
        with QSubscriber("t", "s", url=server.url) as client:
            history.watch(client)
            history.final_read()
        assert len(crew.acked) == len(set(crew.acked)) > 200
        head = publisher.topic("t").head
    asked = [o for o in history.operations if o.kind == "ack_lease"]
    done = {o for ack in asked if ack.outcome != "fail" for o in leased(history)[ack.lease]}
    assert done == set(range(1, head + 1)) and head >= 920
    assert sum(o.kind == "restart" for o in history.operations) == crashes + 1
    verdict = check(history, faults=True)
    assert verdict and verdict.observations > 2 * head, verdict


def leased(history: History) -> dict[str | None, tuple[int, ...]]:
    """Return what each lease held."""
    return {o.lease: o.offsets for o in history.operations if o.kind == "lease" and o.lease}
