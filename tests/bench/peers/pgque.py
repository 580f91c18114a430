"""PgQue, from the SQL file that $PGQUE_SQL names.

Readers get what lies between two ticks, all of it, so ticks decide how many messages that are. Its scheduler ticks
ten times a second; here one tick is made when all is published, and nobody waits for it: the best case. Payloads are
sent as text, which PgQue stores as it is; as jsonb they would be parsed first.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extensions import cursor

from tests.bench.peers.sql import SqlPeer, array_literal, from_file

_ALL = 2**31 - 1  # an acknowledgement is for all between two ticks, also for what was not received


class PgQue(SqlPeer):
    """The queue `orders`."""

    def publish(self, payloads: Sequence[str]) -> None:
        """Send one text, or an array of them."""
        if len(payloads) == 1:
            self._sql.execute("select pgque.send('orders', %s::text)", (payloads[0],))
        else:
            literal = array_literal(payloads)
            self._sql.execute("select pgque.send_batch('orders', %s::text[])", (literal,))

    def drain(self, count: int) -> int:
        """Tick, which needs two transactions, then read as the others do."""
        self._sql.execute("select pgque.force_next_tick('orders')")
        self._sql.execute("select pgque.ticker('orders')")
        return super().drain(count)

    def _install(self) -> None:
        from_file(self._sql, "PGQUE_SQL")

    def _create(self, subscribers: int) -> None:
        self._sql.execute("select pgque.drop_queue(queue_name, true) from pgque.queue")
        self._sql.execute("select pgque.create_queue('orders')")
        for number in range(subscribers):
            self._sql.execute("select pgque.subscribe('orders', %s)", (f"reader-{number}",))

    def _receive(self, session: cursor, number: int, limit: int) -> int:
        receive = "select msg_id, payload, batch_id from pgque.receive('orders', %s, %s)"
        session.execute(receive, (f"reader-{number}", _ALL))
        messages = session.fetchall()
        if messages:
            session.execute("select pgque.ack(%s)", (messages[0][2],))
        return len(messages)
