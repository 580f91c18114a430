"""The process of a subscriber that waits for messages, which carry the time.monotonic() of their publish."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from qlib import QSubscriber
from tests.bench.messages import HTTP, QLIB
from tests.bench.wire import Wire

_WAIT = 10  # seconds of a long poll
_PATIENCE = 60.0  # seconds

Receive = Callable[[], list[float]]


@contextmanager
def listening(url: str, topic: str, way: str, count: int) -> Iterator[Callable[[], list[float]]]:
    """Start the process; inside the `with` it is subscribed. Yields what waits for the latencies of `count` messages.

    `way` is HTTP or qlib. Latencies are in seconds, up to the moment at which the fetch was answered.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_listen, args=(theirs, url, topic, way, count), daemon=True)
    process.start()
    theirs.close()

    def answer() -> list[float]:
        assert ours.poll(_PATIENCE), "the listener is late"
        latencies: list[float] = ours.recv()
        return latencies

    try:
        answer()
        yield answer
    finally:
        process.kill()
        process.join()
        ours.close()


def _listen(pipe: Connection, url: str, topic: str, way: str, count: int) -> None:
    receive = {HTTP: _over_http, QLIB: _by_qlib}[way](url, topic)
    pipe.send([])
    latencies: list[float] = []
    while len(latencies) < count:
        latencies += receive()
    pipe.send(latencies)


def _over_http(url: str, topic: str) -> Receive:
    wire = Wire(url)
    made = json.loads(wire.post(f"/topics/{topic}/subscribers", b"{}"))
    path = f"/topics/{topic}/subscribers/{made['subscriber']}"

    def receive() -> list[float]:
        answer = wire.get(f"{path}/messages?wait={_WAIT}")
        now, batch = time.monotonic(), json.loads(answer)
        if messages := batch["messages"]:
            done = {"offset": messages[-1]["offset"], "epoch": batch["epoch"]}
            wire.post(f"{path}/ack", json.dumps(done).encode())
        return [now - message["payload"] for message in messages]

    return receive


def _by_qlib(url: str, topic: str) -> Receive:
    subscriber = QSubscriber(topic, url=url)

    def receive() -> list[float]:
        batch = subscriber.fetch(wait=_WAIT)
        now = time.monotonic()
        if batch:
            subscriber.ack(batch[-1])
        return [now - message.payload for message in batch]

    return receive
