"""Batches of messages with a number each, by which the queue knows a repetition."""

from __future__ import annotations

from itertools import count
from os import getpid
from threading import Lock
from uuid import uuid4

from qlib import batches
from qlib.errors import OutcomeUnknown, QueueError
from qlib.process import OfProcess
from qlib.reading import Stored, read
from qlib.transport import Transport
from qlib.values import to_json


class _Producer:
    """A name, and the numbers that are given under it."""

    def __init__(self) -> None:
        self.name = uuid4().hex
        self._numbers = count(1)
        self._lock = Lock()

    def anew(self) -> _Producer:
        # A child would go on counting where its parent does: under the parent's name its messages
        # would pass for repetitions, and be dropped.
        return _Producer()

    def number(self) -> int:
        with self._lock:
            return next(self._numbers)


class Numbered:
    """Stores batches under the numbers of one producer, so that a retry stores nothing twice."""

    def __init__(self, transport: Transport) -> None:
        """Make up the producer's name; nothing is sent yet."""
        self._transport = transport
        self._producer = OfProcess(_Producer())

    def store(
        self, topic: str, names: list[str], batch: batches.Encoded, sequence: int | None = None
    ) -> range:
        """Store a batch, or the same one again under the same `sequence`; return its offsets."""

        def offsets(answer: bytes) -> range:
            told = read(Stored, answer)
            stored = range(told.first_offset, told.last_offset + 1)
            if len(stored) != len(batch):
                raise ValueError(f"{len(stored)} offsets for {len(batch)} messages")
            return stored

        producer, number = self._number(sequence)
        numbered = {
            "producer": to_json(producer, "producer"),
            "sequence": to_json(number, "sequence"),
        }
        path = ("topics", topic, "messages")
        body = batches.body(names, batch, numbered)
        try:
            return self._transport.request("POST", path, offsets, body=body, repeatable=True)
        except QueueError as error:
            if isinstance(error, OutcomeUnknown):
                error.producer, error.sequence = producer, number
            if batch.first:  # the server counts within the batch
                error.detail += f"; message 0 of this batch is payloads[{batch.first}]"
                error.args = (error.detail,)
            raise

    def _number(self, sequence: int | None) -> tuple[str, int]:
        producer = self._producer[getpid()]
        return producer.name, producer.number() if sequence is None else sequence
