"""One publisher, one topic: messages a second against the size of the batch, one commit a batch.

The batches of a round are made before it, as rows for COPY and bodies for HTTP; the queues, ours in
SQL among them, make of JSON texts what they take. Only qlib begins with Python objects; what that
costs beside a COPY that begins with the same objects shows in the case of 100,000. COPY (INSERT for
single messages) goes into a table with the columns and primary key of queue.message. The peers do
the same work, each with its own idea of what it means that a publish has returned. Left out: sizes
of payload beside 100 B and 1 KB, keys and headers.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from qlib import QPublisher
from tests.bench import peers
from tests.bench.messages import HTTP, QLIB, Plain, batches, payloads, request_body
from tests.bench.peers import Peer
from tests.bench.rounds import Contender, Result, interleave
from tests.bench.stand import Stand
from tests.bench.wire import Wire

PART = "publish"
COUNTS = {1: 500, 10: 2_000, 100: 10_000, 1_000: 30_000, 10_000: 40_000}
_KILOBYTE = 1_000
_MANY = 100_000
MANY = f"{_MANY:,} Python objects"


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure all cases."""
    results: list[Result] = []
    with ExitStack() as opened:
        ours, *others = [opened.enter_context(peer) for peer in peers.available(stand)]
        for size, count in COUNTS.items():
            results += measure(stand, rounds, case(size), payloads(count), size, ours, others)
        for size in (1, 1_000):
            texts = payloads(COUNTS[size] // 3, _KILOBYTE)
            results += measure(stand, rounds, case(size, _KILOBYTE), texts, size, ours)
    return results + from_objects(stand, rounds)


def case(size: int, bytes_each: int = 100) -> str:
    """Return the name of the case of batches of a size."""
    return f"{size:,} × {bytes_each:,} B"


def measure(
    stand: Stand,
    rounds: int,
    name: str,
    texts: Sequence[str],
    size: int,
    ours: Peer,
    others: Sequence[Peer] = (),
) -> list[Result]:
    """Measure one case, straight in SQL, through the server and with other queues."""
    parts = list(batches(texts, size))
    with ExitStack() as opened:
        contenders = [
            (inserting if size == 1 else copying)(Plain(stand), parts),
            by_peer(ours, parts),
            over_http(opened.enter_context(Wire(stand.url)), stand.topic(), parts),
            by_qlib(opened.enter_context(QPublisher(stand.url)), stand.topic(), parts),
            *(by_peer(peer, parts) for peer in others),
        ]
        return interleave(PART, name, contenders, rounds)


def inserting(plain: Plain, parts: Sequence[Sequence[str]]) -> Contender:
    """INSERT one row a commit into the plain table."""
    return Contender("INSERT", each(parts, lambda part: plain.insert(part[0])))


def copying(plain: Plain, parts: Sequence[Sequence[str]]) -> Contender:
    """COPY one batch a commit into the plain table."""
    rows: list[io.StringIO] = []

    def prepare() -> None:
        rows[:] = map(plain.rows, parts)

    def copy() -> int:
        for part in rows:
            plain.copy(part)
        return sum(map(len, parts))

    return Contender("COPY", copy, prepare)


def over_http(wire: Wire, topic: str, parts: Sequence[Sequence[str]]) -> Contender:
    """POST the batches one after the other over one connection."""
    path, bodies = f"/topics/{topic}/messages", [request_body(part).encode() for part in parts]

    def work() -> int:
        for body in bodies:
            wire.post(path, body)
        return sum(map(len, parts))

    return Contender(HTTP, work)


def by_qlib(publisher: QPublisher, topic: str, parts: Sequence[Sequence[str]]) -> Contender:
    """Publish with the client, from Python objects."""
    objects = [[json.loads(text) for text in part] for part in parts]

    def one(part: list[Any]) -> None:
        publisher.publish(topic, part[0])

    def many(part: list[Any]) -> None:
        publisher.publish_many(topic, part)

    return Contender(QLIB, each(objects, one if len(parts[0]) == 1 else many))


def by_peer(peer: Peer, parts: Sequence[Sequence[str]]) -> Contender:
    """Publish to a queue in a database or a server of its own, an empty one with one reader."""
    return Contender(label(peer), each(parts, peer.publish), lambda: peer.prepare(1))


def label(peer: Peer) -> str:
    """Return a peer's name, with what survives a power cut unless that is all that was acknowledged."""
    means = peer.ack_means.split(",")[0]
    return peer.name if means == "fsync" else f"{peer.name} ({means})"


def each(parts: Sequence[Sequence[Any]], act: Callable[[Any], object]) -> Callable[[], int]:
    """Return work that does something with each batch."""

    def work() -> int:
        for part in parts:
            act(part)
        return sum(map(len, parts))

    return work


def from_objects(stand: Stand, rounds: int) -> list[Result]:
    """Measure qlib against COPY of the same Python objects, with rows made before and in the round."""
    objects = [json.loads(text) for text in payloads(_MANY)]
    parts = list(batches(objects, 1_000))
    plain = Plain(stand)

    def copy(part: Sequence[Any]) -> None:
        plain.copy(plain.rows([json.dumps(value) for value in part]))

    with QPublisher(stand.url) as publisher:
        topic = stand.topic()
        contenders = [
            copying(Plain(stand), list(batches(payloads(_MANY), 1_000))),
            Contender("json.dumps, COPY", each(parts, copy)),
            Contender(QLIB, each([objects], lambda part: publisher.publish_many(topic, part))),
        ]
        return interleave(PART, MANY, contenders, rounds)
