"""Fusion: concurrent calls of one topic share a transaction, and with it one statement and one wait for the disk.

A topic's offsets are given out in commit order, so its lock is held until a commit is on disk: one by one, publishes
would come to no more than the disk has writes in a second. How calls come together `server.queue.lines` says; what
each must have for itself is its topic for a publish, its subscriber for an ack, and its lease for an ack of one.

Those who were woken look for messages together, too: one publish may wake ten thousand. Leases, which take what they
find, have lines of their own: `server.queue.leases`.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from server.engines import (
    Ack,
    Acked,
    Batch,
    Engine,
    Fetch,
    Fetched,
    LeaseAck,
    LeaseAcked,
    Published,
)
from server.queue.lines import Lines
from server.queue.turns import Turns
from server.queue.wakeups import work_of

Happened = Callable[[str, int | None], None]  # see `Wakeups.happened`

_WOKEN = 10.0  # seconds that one who was woken waits for its turn: longer than others, since it has waited anyway


class Fusion:
    """Carries publishes, acks and looks out, a topic's concurrent ones together, each caller awaiting its own answer.

    Raises EngineError; Unavailable, and surely not sent, when a call's turn did not come in time. Who is cancelled
    before its turn is not sent; after it, the call is carried out nevertheless.
    """

    def __init__(self, engine: Engine, happened: Happened, *, patience: float = 5.0) -> None:
        """Call `happened` after each commit that others wait for; let a call wait `patience` seconds for its turn."""
        self.turns = Turns()
        self._engine = engine
        self._happened = happened
        self._publishes = Lines(self._append, _topic_itself, _characters, patience)
        self._acks = Lines(engine.ack, _subscriber, _nothing, patience)
        self._lease_acks = Lines(self._ack_leases, _lease, _numbers, patience)
        self._looks = Lines(self._look, _subscriber, _nothing, _WOKEN)

    def publish(self, topic: str, batch: Batch) -> Coroutine[Any, Any, Published]:
        """Append a batch."""
        return self._publishes.call(topic, batch)

    def ack(self, topic: str, ack: Ack) -> Coroutine[Any, Any, Acked]:
        """Move a position forward."""
        return self._acks.call(topic, ack)

    def ack_lease(self, topic: str, ack: LeaseAck) -> Coroutine[Any, Any, LeaseAcked]:
        """Say of messages of a lease that they are done."""
        return self._lease_acks.call(topic, ack)

    def look(self, topic: str, fetch: Fetch) -> Coroutine[Any, Any, Fetched]:
        """Fetch for one who was woken: a few messages, or more next time. What is found is not older than this call."""
        return self._looks.call(topic, fetch)

    async def _append(self, topic: str, batches: Sequence[Batch]) -> list[Published]:
        stored = await self._engine.publish(topic, batches)
        self._happened(topic, max(one.last_offset for one in stored))
        return stored

    async def _ack_leases(self, topic: str, acks: Sequence[LeaseAck]) -> list[LeaseAcked]:
        acked = await self._engine.ack_leases(topic, acks)
        answers = zip(acks, acked, strict=True)
        for subscriber in {ack.subscriber for ack, answer in answers if answer.ordered}:
            self._happened(work_of(topic, subscriber), None)  # the next message of a key may be due
        return acked

    async def _look(self, topic: str, fetches: Sequence[Fetch]) -> list[Fetched]:
        different = list(dict.fromkeys(fetches))
        async with self.turns.of(topic):
            found = await self._engine.fetch(topic, different)
        by_fetch = dict(zip(different, found, strict=True))
        return [by_fetch[fetch] for fetch in fetches]


def _topic_itself(batch: Batch) -> str:
    return ""


def _subscriber(call: Ack | Fetch) -> str:
    return call.subscriber


def _lease(ack: LeaseAck) -> str:
    return f"{ack.subscriber}/{ack.lease}"


def _numbers(ack: LeaseAck) -> int:
    return 20 * len(ack.offsets or ())  # characters of each at the most


def _characters(batch: Batch) -> int:
    keys = sum(len(key) for key in batch.keys or () if key)
    return len(batch.payloads) + len(batch.headers or "") + keys


def _nothing(call: Ack | Fetch) -> int:
    return 0
