"""Workers of one queue over SQL sessions: ours and pgmq's."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter

from psycopg2.extensions import cursor

from tests.bench.fanout import WAL
from tests.bench.messages import array, batches, payloads
from tests.bench.peers.sql import array_literal, from_file
from tests.bench.rounds import RATE, Figures
from tests.bench.stand import Stand

_BATCH = 10_000
_SECONDS = 30  # of a lease
_CALLERS = 16  # of one fused statement


class Crew(ABC):
    """Workers that each have a session, which they keep as they would."""

    def __init__(self, name: str, stand: Stand, dsn: str) -> None:
        self.name = name
        self._stand, self._dsn = stand, dsn
        self._sql = stand.cursor(dsn)
        self._sessions: list[cursor] = []

    def prepare(self, workers: int, messages: int) -> None:
        """Make a queue with so many messages, and sessions that have done the same before."""
        while len(self._sessions) < workers:
            session = self._stand.cursor(self._dsn)
            session.execute(self._prepared())
            self._sessions.append(session)
        self._begin()
        self.publish(messages)

    def publish(self, messages: int) -> None:
        """Publish so many messages."""
        for part in batches(payloads(messages), _BATCH):
            self._publish(part)

    def run(self, statement: str, **values: object) -> None:
        """Run a statement in the session that publishes."""
        self._sql.execute(statement, values)

    def wal(self) -> int:
        """Return how many bytes of WAL the cluster has written so far."""
        self._sql.execute("select pg_current_wal_insert_lsn() - '0/0'")
        return int(self._sql.fetchall()[0][0])

    def wait_for_no_disk(self) -> None:
        """Let no session wait for its commits to be on disk."""
        for session in self._sessions:
            session.execute("set synchronous_commit = off")

    def hold_a_snapshot(self) -> None:
        """Let another session begin a transaction that sees what is there now, and stay in it."""
        session = self._stand.cursor(self._dsn)
        session.execute("begin isolation level repeatable read; select from pg_class")

    def cycle(self, worker: int, size: int) -> int:
        """Let a worker lease and acknowledge; return how many messages it got."""
        return self._cycle(self._sessions[worker], size)

    @abstractmethod
    def left(self) -> int:
        """Return how many messages are not done."""

    @abstractmethod
    def _prepared(self) -> str:
        """Return the statements that a session prepares."""

    @abstractmethod
    def _begin(self) -> None:
        """Make an empty queue."""

    @abstractmethod
    def _publish(self, texts: Sequence[str]) -> None:
        """Publish a batch."""

    @abstractmethod
    def _cycle(self, session: cursor, size: int) -> int:
        """Lease and acknowledge."""


class Ours(Crew):
    """A topic of its own in each round."""

    topic = ""

    def left(self) -> int:
        self._sql.execute("select lag from queue.subscribers where topic = %s", (self.topic,))
        return int(self._sql.fetchall()[0][0])

    def _prepared(self) -> str:
        return f"""
            prepare lease as select lease, "offset", payload::text
                from queue.lease($1, 'workers', 'one', $2, {_SECONDS}, false);
            prepare ack as select acked from queue.ack_lease($1, 'workers', $2)"""

    def _begin(self) -> None:
        self.topic = f"workers-{next(self._stand.numbers)}"
        self._sql.execute("select queue.create_topic(%s)", (self.topic,))
        self._sql.execute("select queue.subscribe(%s, 'workers', 'earliest')", (self.topic,))

    def _publish(self, texts: Sequence[str]) -> None:
        self._sql.execute("select queue.publish_batch(%s, %s)", (self.topic, array(texts)))

    def _cycle(self, session: cursor, size: int) -> int:
        session.execute("execute lease(%s, %s)", (self.topic, size))
        messages = session.fetchall()
        if messages:
            session.execute("execute ack(%s, %s)", (self.topic, messages[0][0]))
            session.fetchall()
        return len(messages)


class Fused(Ours):
    """One session that leases for 16 workers in one statement, and acknowledges for them in one."""

    def _prepared(self) -> str:
        seconds, many = f"{_SECONDS}::float8", f"array[{_CALLERS}]"
        return f"""
            prepare lease(text, int) as select lease, "offset", payload::text
                from queue.lease_many($1, 'workers', array_fill('one'::text, {many}), array_fill($2, {many}),
                                      array_fill({seconds}, {many}), false);
            prepare ack(text, text[]) as select acked from queue.ack_leases($1, 'workers', $2)"""

    def _cycle(self, session: cursor, size: int) -> int:
        session.execute("execute lease(%s, %s)", (self.topic, size))
        messages = session.fetchall()
        if messages:
            leases = [lease for lease, _ in groupby(messages, itemgetter(0))]
            session.execute("execute ack(%s, %s)", (self.topic, leases))
            session.fetchall()
        return len(messages)


class Pgmq(Crew):
    """A queue of its own in each round, in a database of its own."""

    def __init__(self, name: str, stand: Stand) -> None:
        super().__init__(name, stand, stand.dsn(f"workers-{name}"))
        from_file(self._sql, "PGMQ_SQL")

    def left(self) -> int:
        self._sql.execute("select count(*) from pgmq.q_workers")
        return int(self._sql.fetchall()[0][0])

    def _prepared(self) -> str:
        return f"""
            prepare lease as select msg_id, message::text from pgmq.read('workers', {_SECONDS}, $1);
            prepare ack as select count(*) from pgmq.delete('workers', $1::bigint[])"""

    def _begin(self) -> None:
        self._sql.execute("select pgmq.drop_queue(queue_name) from pgmq.list_queues()")
        self._sql.execute("select pgmq.create('workers')")

    def _publish(self, texts: Sequence[str]) -> None:
        send = "select count(*) from pgmq.send_batch('workers', %s::jsonb[])"
        self._sql.execute(send, (array_literal(texts),))

    def _cycle(self, session: cursor, size: int) -> int:
        session.execute("execute lease(%s)", (size,))
        messages = session.fetchall()
        if messages:
            session.execute("execute ack(%s)", ([message for message, _ in messages],))
            session.fetchall()
        return len(messages)


def measured(
    crew: Crew, threads: ThreadPoolExecutor, workers: int, size: int, messages: int
) -> Figures:
    """Let so many workers do all messages; return their rate, and the WAL of a message."""
    done, lock = [0], threading.Lock()

    def work(worker: int) -> None:
        while done[0] < messages:
            got = crew.cycle(worker, size)
            with lock:
                done[0] += got

    before, begin = crew.wal(), time.perf_counter()
    list(threads.map(work, range(workers)))
    seconds = time.perf_counter() - begin
    wal = (crew.wal() - before) / messages
    assert done[0] == messages and not crew.left(), f"{crew.name} did {done[0]:,}, not {messages:,}"
    return {RATE: messages / seconds, WAL: wal}
