"""A history: what every watched client did and was told, for `qlib.lab.checker` to judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any, overload
from uuid import uuid4

from qlib.lab.history.operation import Operation, Recorder, messages
from qlib.lab.history.watched import WatchedPublisher, WatchedSubscriber
from qlib.lab.history.watched_workers import standing
from qlib.leased import DeadLetter
from qlib.models import Message
from qlib.publisher import QPublisher
from qlib.subscriber import QSubscriber

__all__ = ["History", "Operation", "record"]

_PAGE = 1000


class History:
    """The operations of all watched clients. Threads may share it, and it can be pickled.

    Watch every client that publishes, leases, resets or acknowledges, from its beginning: what an
    unwatched one does looks like a fault of the queue. One such worker is enough: its lease is an
    attempt too many. Publish no payload twice, or a lost one cannot be told from its twin. Built by
    hand, it begins with the `operations` given.
    """

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        """Begin with these operations."""
        self._operations = list(operations)
        self._reader: tuple[QPublisher, Recorder] | None = None
        self._workers: dict[tuple[str, str], tuple[QSubscriber, Recorder]] = {}

    def __repr__(self) -> str:
        """Return how many operations there are."""
        return f"<History of {len(self._operations)} operations>"

    def __reduce__(self) -> tuple[type[History], tuple[tuple[Operation, ...]]]:
        """Travel as the operations alone: the clients stay where they are."""
        return History, (self.operations,)

    @classmethod
    def merge(cls, histories: Iterable[History]) -> History:
        """Return one history of several, whose clocks must be the same: those of one machine."""
        return cls(operation for history in histories for operation in history.operations)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations so far, in the order in which they ended."""
        return tuple(self._operations)

    def add(self, operation: Operation) -> None:
        """Add one operation, for instance of something that is no client of ours."""
        self._operations.append(operation)

    @overload
    def watch(self, client: QPublisher) -> WatchedPublisher: ...
    @overload
    def watch(self, client: QSubscriber) -> WatchedSubscriber: ...
    def watch(self, client: QPublisher | QSubscriber) -> WatchedPublisher | WatchedSubscriber:
        """Return a stand-in for a client, with the same methods, that records each operation.

        A subscriber is asked where it stands, at once. Raises what that does.
        """
        recorder = Recorder(uuid4().hex, self.add)
        if isinstance(client, QSubscriber):
            self._workers[client.topic, client.subscriber] = client, recorder
            return WatchedSubscriber(client, recorder)
        self._reader = self._reader or (client, recorder)
        return WatchedPublisher(client, recorder)

    def final_read(self) -> None:
        """Record all messages of every topic of this history, from floor to head; move nothing.

        And the dead letters of every subscriber with workers that is watched: once they have come
        to the end. A topic or subscriber that was deleted is left out. Raises LookupError unless a
        QPublisher is watched, and the errors of `browse` and `dead`.
        """
        if self._reader is None:
            raise LookupError("the final read goes through a publisher: watch one first")
        client, recorder = self._reader
        deleted = {o.topic for o in self._operations if o.kind == "delete_topic"}
        self._final_work(deleted)
        for topic in sorted({o.topic for o in self._operations} - deleted - {""}):
            whole = partial(_whole, client, topic)
            recorder.call("final_read", topic, whole, lambda found: found)

    def _final_work(self, deleted: set[str]) -> None:
        known = {(o.topic, o.subscriber or "") for o in self._operations if o.kind == "lease"}
        gone = {(o.topic, o.subscriber) for o in self._operations if o.kind == "unsubscribe"}
        for topic, subscriber in sorted(known - gone):
            if topic not in deleted and (topic, subscriber) in self._workers:
                client, recorder = self._workers[topic, subscriber]
                told = partial(_whole_work, client)
                recorder.call("final_work", topic, told, lambda it: it, subscriber=subscriber)

    @contextmanager
    def restart(self) -> Iterator[None]:
        """Tell that within the `with` the database ends, or is killed, and starts again.

        What did not wait for the disk before may be lost then: a lease, for instance. Tell of all
        restarts or of none, and of the start as one, so that it is known when there was none.
        """
        start = monotonic()
        try:
            yield
        finally:
            self.add(Operation("restart", "", start, monotonic()))


def record() -> History:
    """Return an empty history; `watch` the clients, let them work, and then `final_read`.

    Of a subscriber's workers watch all: the lease of an unwatched one is taken for a fault.
    """
    return History()


def _whole_work(client: QSubscriber) -> dict[str, Any]:
    told = standing(client.info())
    found: list[DeadLetter] = []
    while page := client.dead(found[-1].offset if found else None, _PAGE):
        found += page
    return told | messages(found) | {"attempts": tuple(letter.attempts for letter in found)}


def _whole(client: QPublisher, topic: str) -> dict[str, Any]:
    known = client.topic(topic)
    found: list[Message] = []
    begin = known.floor
    while begin <= known.head:
        page = client.browse(topic, begin, _PAGE)
        found += page
        if not page or page[-1].offset < begin:
            break  # A hole up to the head, or no order: the checker will tell.
        begin = page[-1].offset + 1
    return {"floor": known.floor, "head": known.head, **messages(found)}
