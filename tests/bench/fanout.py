"""Fan-out: messages delivered a second, from publish to the last ack, when 1, 4 or 16 subscribers read all.

A round makes an empty queue with K readers, untimed; then it publishes in batches of 1,000, lets all readers
receive and acknowledge everything at the same time, and counts every delivery. WAL is what the cluster wrote
meanwhile, for each message published. Peers take part as they come. Left out: the lab's strategies, which
differ in how they publish.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from qlib import QPublisher, QSubscriber
from tests.bench import peers
from tests.bench.messages import QLIB, batches, payloads
from tests.bench.peers import Peer
from tests.bench.publish import label
from tests.bench.rounds import RATE, Contender, Figures, Result, interleave
from tests.bench.stand import Stand

PART = "fanout"
SUBSCRIBERS = (1, 4, 16)
WAL = "WAL B/message"
_MESSAGES = 20_000


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure all cases."""
    results: list[Result] = []
    with ExitStack() as opened:
        chosen = [peer for peer in peers.available(stand) if not peer.name.startswith("lab:")]
        present = [opened.enter_context(peer) for peer in (*chosen, Client(stand))]
        for subscribers in SUBSCRIBERS:
            contenders = [contender(peer, subscribers) for peer in present]
            results += interleave(PART, case(subscribers), contenders, rounds)
    return results


def case(subscribers: int) -> str:
    """Return the name of the case of so many subscribers."""
    return f"K = {subscribers}"


def contender(peer: Peer, subscribers: int, messages: int = _MESSAGES) -> Contender:
    """Let a peer deliver to so many subscribers."""
    parts = list(batches(payloads(messages), 1_000))

    def work() -> Figures:
        before, begin = peer.wal(), time.perf_counter()
        for part in parts:
            peer.publish(part)
        figures = {RATE: peer.drain(messages) / (time.perf_counter() - begin)}
        after = peer.wal()
        if before is not None and after is not None:
            figures[WAL] = (after - before) / messages
        return figures

    return Contender(label(peer), work, lambda: peer.prepare(subscribers))


class Client(Peer):
    """This queue by its Python client, hence over HTTP, in the peers' way."""

    ack_means = "fsync"

    def __init__(self, stand: Stand) -> None:
        super().__init__(QLIB, stand)
        self._at = stand

    def prepare(self, subscribers: int) -> None:
        """Make a topic and its subscribers; the clients of the round before are closed."""
        self._clients.close()
        self._topic = self._at.topic()
        self._readers = [
            partial(_receive, self._clients.enter_context(self._reader(f"reader-{number}")))
            for number in range(subscribers)
        ]

    def publish(self, payloads: Sequence[str]) -> None:
        """Publish with `publish` or `publish_many`, from Python objects made of the texts."""
        if len(payloads) == 1:
            self._publisher.publish(self._topic, json.loads(payloads[0]))
        else:
            self._publisher.publish_many(self._topic, map(json.loads, payloads))

    def _reader(self, name: str) -> QSubscriber:
        return QSubscriber(self._topic, name, url=self._at.url)

    def _start(self, opened: ExitStack) -> None:
        self._publisher = opened.enter_context(QPublisher(self._at.url))
        self._clients = opened.enter_context(ExitStack())


def _receive(client: QSubscriber, limit: int) -> int:
    batch = client.fetch(limit)
    if batch:
        client.ack(batch[-1])
    return len(batch)
