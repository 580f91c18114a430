"""The loop behind `QSubscriber.consume`: what it acknowledges when, and how it sits out an outage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic, sleep
from typing import Generic, Protocol, TypeVar

from qlib.attempts import Outage, pauses
from qlib.checks import integer, seconds
from qlib.errors import (
    DefiniteError,
    OutcomeUnknown,
    QueueError,
    StaleEpoch,
    Unavailable,
    UnreadableMessage,
    in_doubt,
    is_broken,
)
from qlib.models import Batch, Message

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 20.0
_LEAVING_SECONDS = 2.0

_log = logging.getLogger("qlib")


class Reader(Protocol):
    """What the loop needs of a subscriber."""

    def _fetch(self, limit: int, wait: float, outage: Outage | None = None) -> Batch: ...

    def _place(self, message: Message | int) -> tuple[int, int]: ...

    def _acknowledge(self, offset: int, epoch: int | None, outage: Outage | None = None) -> int: ...


@dataclass
class Patience(Generic[R]):
    """Does a call of `reader` again through an outage, for `most` seconds; `given` is the caller's own.

    When the caller has not said for how long, a call is not cut short.
    """

    reader: R
    given: float | None
    most: float

    def through(self, act: Callable[[Outage], T]) -> T:
        """Do it until it is answered, and return that; raise what no patience helps against."""
        outage, doubt = self._outage(), False
        outage.tell = self._teller(outage)
        for pause in pauses():
            try:
                return act(outage)
            except QueueError as error:
                doubt = doubt or isinstance(error, OutcomeUnknown)
                if not self._goes_on(error, outage):
                    if doubt and isinstance(error, DefiniteError):
                        raise in_doubt(error) from error
                    raise
                outage.tell(error)
            sleep(pause)
        raise AssertionError  # the pauses never end

    def _outage(self) -> Outage:
        return Outage(inf if self.given is None else self.given)

    def _goes_on(self, error: QueueError, outage: Outage) -> bool:
        return passes(error) and not outage.lasted(self.most)

    def _teller(self, outage: Outage) -> Callable[[QueueError], None]:
        """Return what tells of the outage, once."""
        told = False

        def tell(error: QueueError) -> None:
            nonlocal told
            if not told and self._goes_on(error, outage):
                _log.warning("%r goes on when the queue answers again: %s", self.reader, error)
                told = True

        return tell


def loop(
    reader: Reader,
    limit: int,
    wait: float | None,
    ack_every: float,
    patience: float | None,
    skip_unreadable: bool,
) -> Generator[Message, None, None]:
    """Return what yields messages and acknowledges them, as `QSubscriber.consume` says."""
    integer(limit, "limit is an integer")
    wait, patience, most = bounds(wait, patience)
    rule = "ack_every is a number of seconds from 0 on"
    ack_every = seconds(ack_every, rule, lambda s: s >= 0)
    return _loop(Patience(reader, patience, most), limit, wait, ack_every, skip_unreadable)


def bounds(wait: float | None, patience: float | None) -> tuple[float | None, float | None, float]:
    """Return both as checked, and for how long an outage is sat through. Raises InvalidRequest."""
    if wait is not None:
        rule = "wait is a number of seconds from 0 on, or None to go on for ever"
        wait = seconds(wait, rule, lambda s: s >= 0)
    if patience is not None:
        rule = "patience is a number of seconds from 0 on, or None"
        patience = seconds(patience, rule, lambda s: s >= 0)
    return wait, patience, patience if patience is not None else inf if wait is None else wait


def _loop(
    patient: Patience[Reader],
    limit: int,
    wait: float | None,
    ack_every: float,
    skip_unreadable: bool,
) -> Generator[Message, None, None]:
    reader, quiet_since = patient.reader, monotonic()
    while True:
        left = inf if wait is None else quiet_since + wait - monotonic()
        try:
            batch = patient.through(
                partial(reader._fetch, limit, max(min(left, _POLL_SECONDS), 0.0))
            )
        except UnreadableMessage as error:
            if not skip_unreadable:
                raise
            _log.warning("%r leaves a message behind: %s", reader, error)
            _acknowledged(patient, error.offset, error.epoch)
        else:
            if not batch and wait is not None and monotonic() >= quiet_since + wait:
                return
            if not batch:
                continue
            yield from _worked_through(patient, batch, ack_every)
        quiet_since = monotonic()


def _worked_through(
    patient: Patience[Reader], batch: Batch, ack_every: float
) -> Generator[Message, None, None]:
    done, since = None, monotonic()
    for message in batch:
        try:
            yield message
        except BaseException:
            if done is not None:
                _acknowledge_in_passing(patient, done)
            raise
        done = message
        if message is batch[-1] or monotonic() - since >= ack_every:
            if not _acknowledged(patient, *patient.reader._place(done)):
                return
            done, since = None, monotonic()


def _acknowledge_in_passing(patient: Patience[Reader], done: Message) -> None:
    # The loop was left. What is not acknowledged now comes again, so an ack that fails or takes its
    # time must not stand in the way of the exception that may be under way.
    now = Outage(_LEAVING_SECONDS, since=monotonic())
    with suppress(QueueError):
        patient.reader._acknowledge(*patient.reader._place(done), now)


def _acknowledged(patient: Patience[Reader], offset: int, epoch: int | None) -> bool:
    """Acknowledge for sure, unless a reset or seek has won: then what it brings back comes next."""
    try:
        patient.through(partial(patient.reader._acknowledge, offset, epoch))
    except QueueError as error:
        if not isinstance(refusal(error), StaleEpoch):
            raise
        return False
    return True


def refusal(error: QueueError) -> BaseException:
    """Return what the last attempt was told: an unknown outcome may stand before it."""
    cause = error.__cause__
    return (
        cause if isinstance(error, OutcomeUnknown) and isinstance(cause, DefiniteError) else error
    )


def passes(error: QueueError) -> bool:
    """Tell whether it is an outage, of which nobody knows how long it lasts."""
    unknown = isinstance(error, OutcomeUnknown) and not is_broken(error)
    return unknown or isinstance(error, Unavailable)
