"""pgmq, from the SQL file that $PGMQ_SQL names.

A message that was read is hidden from other readers, so each reader has a queue of its own, and a publish sends to
all of them in one statement and one commit. A reader reads, which commits the hiding, and then deletes; the other
way to acknowledge, to archive, costs more.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extensions import cursor

from tests.bench.peers.sql import SqlPeer, array_literal, from_file

_HIDDEN = 60  # seconds


class Pgmq(SqlPeer):
    """Queues `reader_0`, `reader_1` …"""

    _queues: Sequence[str] = ()

    def publish(self, payloads: Sequence[str]) -> None:
        """Send to all queues. The many numbers of a batch are counted in the database, not fetched."""
        if len(payloads) == 1:
            send = "select pgmq.send(q, %s::jsonb) from unnest(%s) q"
            self._sql.execute(send, (payloads[0], self._queues))
        else:
            send = "select count(*) from unnest(%s) q, pgmq.send_batch(q, %s::jsonb[])"
            self._sql.execute(send, (self._queues, array_literal(payloads)))

    def _install(self) -> None:
        from_file(self._sql, "PGMQ_SQL")

    def _create(self, subscribers: int) -> None:
        self._sql.execute("select pgmq.drop_queue(queue_name) from pgmq.list_queues()")
        self._queues = [f"reader_{number}" for number in range(subscribers)]
        self._sql.execute("select pgmq.create(q) from unnest(%s) q", (self._queues,))

    def _receive(self, session: cursor, number: int, limit: int) -> int:
        queue = self._queues[number]
        session.execute(
            "select msg_id, message::text from pgmq.read(%s, %s, %s)", (queue, _HIDDEN, limit)
        )
        messages = session.fetchall()
        ids = f"{{{','.join(str(message) for message, _ in messages)}}}"
        session.execute("select count(*) from pgmq.delete(%s, %s::bigint[])", (queue, ids))
        return len(messages)
