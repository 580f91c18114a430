"""The processes that push: publishers and subscribers, each with its own record of what it did.

See crew.py for workers.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray, RawValue
from pathlib import Path
from random import Random
from typing import Any

from qlib.errors import QueueError
from qlib.lab.history.watched import WatchedPublisher, WatchedSubscriber
from qlib.lab.stress.records import payload, recorder
from qlib.models import Batch
from qlib.publisher import QPublisher
from qlib.subscriber import QSubscriber

_LARGEST_BATCH = 500
_BATCHES = 0.5  # of the publishes; none while a subscriber is far behind
_FAR_BEHIND = 5_000
_LARGEST_FETCH = 1000
_WAITS = (0.0, 0.0, 0.05, 0.5)
_WHOLE = 0.7  # of the acks are for all that came
_NOT_READY = -1
_KEYS = 500
_TICK = 0.02


@dataclass(frozen=True)
class Plan:
    """What a run is to do, by the servers of `urls`; `directory` takes what the processes record."""

    urls: tuple[str, ...]
    seed: int
    topics: tuple[str, ...]
    publishers: int
    subscribers: int
    workers: int
    kill: bool
    directory: Path

    @property
    def url(self) -> str:
        """The first server."""
        return self.address(0)

    def address(self, number: int) -> str:
        """Return the server of a process of its kind."""
        return self.urls[number % len(self.urls)]


class Flag:
    """What one process says to all others. It has no lock that a killed one could leave behind."""

    def __init__(self) -> None:
        """Say nothing yet."""
        self._value = RawValue("b", 0)

    def set(self) -> None:
        """Say it."""
        self._value.value = 1

    def is_set(self) -> bool:
        """Whether it was said."""
        return bool(self._value.value)


class Signals:
    """What parent and workers tell each other."""

    def __init__(self, workers: int) -> None:
        """Say nothing yet: every worker is not ready."""
        self.go, self.stop, self.drain, self.abort = (Flag() for _ in range(4))
        # Each worker writes its own places alone, so they need no lock.
        self.messages = RawArray("q", [_NOT_READY] * workers)
        self.lags = RawArray("q", workers)

    def ready(self) -> bool:
        """Whether every worker waits for `go`."""
        return _NOT_READY not in self.messages

    def start(self, worker: int) -> None:
        """Report a worker and wait for the others."""
        # A collector that walks through all imported modules would be taken for a slow answer.
        gc.freeze()
        self.messages[worker] = max(self.messages[worker], 0)
        while not self.go.is_set() and not self.over():
            time.sleep(_TICK)

    def over(self) -> bool:
        """Whether there is nobody left to work for."""
        parent = multiprocessing.parent_process()
        return self.abort.is_set() or parent is None or not parent.is_alive()


def publisher(number: int, plan: Plan, signals: Signals) -> None:
    """Publish to random topics, singly and in batches, until told to stop."""
    choose = Random(f"{plan.seed} publisher {number}")
    n = 0
    with (
        recorder(plan.directory, f"publisher-{number}") as recording,
        WatchedPublisher(QPublisher(plan.address(number)), recording) as queue,
    ):
        signals.start(number)
        while not (signals.stop.is_set() or signals.over()):
            topic = choose.choice(plan.topics)
            # Most errors live at the head, so the subscribers must be able to stay near it.
            hurry = max(signals.lags) < _FAR_BEHIND and choose.random() < _BATCHES
            size = choose.randint(1, _LARGEST_BATCH) if hurry else 1
            with suppress(QueueError):
                _publish(queue, topic, [payload(number, n + k) for k in range(size)])
                signals.messages[number] += size
            n += size


def _publish(queue: WatchedPublisher, topic: str, payloads: list[dict[str, Any]]) -> None:
    keys = [_key(payload["n"]) for payload in payloads]
    if len(payloads) == 1:
        queue.publish(topic, payloads[0], keys[0])
    else:
        queue.publish_many(topic, payloads, keys)


def _key(n: int) -> str | None:
    return f"key {n % _KEYS}" if n % 3 else None


def subscriber(number: int, plan: Plan, signals: Signals) -> None:
    """Fetch and acknowledge until told to drain, and then until nothing is left."""
    topic, worker = plan.topics[number % len(plan.topics)], plan.publishers + number
    name = f"subscriber-{number}"
    with (
        recorder(plan.directory, name) as recording,
        QSubscriber(topic, name, start="earliest", url=plan.address(number)) as client,
    ):
        queue = WatchedSubscriber(client, recording)
        reader = _Reader(queue, Random(f"{plan.seed} subscriber {number}"))
        signals.start(worker)
        while not signals.over():
            # Looked at before the fetch: what the fetch does not find then will never come.
            draining = signals.drain.is_set()
            batch = reader.turn()
            if batch is None:
                continue
            signals.messages[worker] += len(batch)
            signals.lags[worker] = batch.head - (batch[-1].offset if batch else batch.head)
            if draining and not batch and batch.position == batch.head:
                return


@dataclass
class _Reader:
    queue: WatchedSubscriber
    choose: Random

    def turn(self) -> Batch | None:
        """Fetch some messages and acknowledge some of them; return them, None for an error."""
        limit, wait = self.choose.randint(1, _LARGEST_FETCH), self.choose.choice(_WAITS)
        try:
            batch = self.queue.fetch(limit, wait)
        except QueueError:
            return None
        if batch:
            self._acknowledge(batch)
        return batch

    def _acknowledge(self, batch: Batch) -> None:
        whole = self.choose.random() < _WHOLE
        count = len(batch) if whole else self.choose.randint(0, len(batch))
        if count:
            with suppress(QueueError):
                self.queue.ack(batch[count - 1])
