"""This queue's SQL functions; and the lab's strategies, which are other functions behind the same names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from psycopg2.extensions import cursor

from server.engines.postgres.install import install
from tests.bench.peers.peer import Stand
from tests.bench.peers.sql import SqlPeer


class Ours(SqlPeer):
    """A new topic in each round; the earlier ones stay in the log, as they would."""

    def __init__(self, name: str, stand: Stand, strategy: Path | None = None) -> None:
        super().__init__(name, stand)
        self._strategy = strategy
        self._numbers = count(1)

    def publish(self, payloads: Sequence[str]) -> None:
        """Publish one JSON text, or an array of them."""
        if len(payloads) == 1:
            self._sql.execute("select queue.publish(%s, %s)", (self._topic, payloads[0]))
        else:
            array = f"[{','.join(payloads)}]"
            self._sql.execute("select * from queue.publish_batch(%s, %s)", (self._topic, array))

    def _install(self) -> None:
        install(self._dsn)
        if self._strategy:
            self._sql.execute("set local role queue_owner;\n" + self._strategy.read_text())

    def _create(self, subscribers: int) -> None:
        self._topic = f"round-{next(self._numbers)}"
        self._sql.execute("select queue.create_topic(%s)", (self._topic,))
        for number in range(subscribers):
            self._sql.execute("select queue.subscribe(%s, %s)", (self._topic, f"reader-{number}"))

    def _receive(self, session: cursor, number: int, limit: int) -> int:
        reader = (self._topic, f"reader-{number}")
        fetch = 'select "offset", payload::text, epoch from queue.fetch(%s, %s, %s)'
        session.execute(fetch, (*reader, limit))
        messages = session.fetchall()
        if messages:
            last, _, epoch = messages[-1]
            session.execute("select * from queue.ack(%s, %s, %s, %s)", (*reader, last, epoch))
        return len(messages)
