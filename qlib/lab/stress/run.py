"""A run: the processes are started, disturbed, drained and ended; what they saw is read back."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from multiprocessing.process import BaseProcess
from random import Random
from types import TracebackType
from typing import Never

from tqdm import tqdm

from qlib.errors import QueueError
from qlib.lab.history import History
from qlib.lab.stress.records import recorded
from qlib.lab.stress.workers import Plan, Signals, publisher, subscriber
from qlib.publisher import QPublisher
from qlib.subscriber import QSubscriber

_STARTED = 120.0  # seconds, for all processes
_PUBLISHED = 60.0  # for the publishes in flight; a client gives up after 30
_DRAINED = 60.0  # and ten times as long as was published
_TICK = 0.1
_NEAR = 20_000  # most resets go back this far at the most
_FAR = 0.2  # of them go anywhere


class StressError(RuntimeError):
    """The run cannot go on; the message says why."""


class Run:
    """One run of a plan: a context manager, which leaves neither processes nor topics."""

    def __init__(self, plan: Plan) -> None:
        """Nothing happens yet."""
        self.interrupted = False
        self._plan = plan
        self._choose = Random(f"{plan.seed} resets")
        self._queue = QPublisher(plan.url)
        self._history = History()
        self._watched = self._history.watch(self._queue)
        self._topics: list[str] = []
        self._late: list[str] = []
        context = multiprocessing.get_context("spawn")
        self._signals = Signals(context, plan.publishers + plan.subscribers)
        self._publishers = [
            context.Process(target=publisher, args=(i, plan, self._signals), name=f"publisher {i}")
            for i in range(plan.publishers)
        ]
        self._subscribers = [
            context.Process(
                target=subscriber, args=(i, plan, self._signals), name=f"subscriber {i}"
            )
            for i in range(plan.subscribers)
        ]

    def __enter__(self) -> Run:
        """Return the run itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what still runs, and delete the topics as far as the server answers."""
        self._signals.abort.set()
        for process in self._started():
            process.join(1.0)
            process.kill()
            process.join()
        with self._queue, suppress(QueueError):
            for topic in self._topics:
                self._queue.delete_topic(topic)

    def start(self) -> None:
        """Make the topics, start the processes, and return when all are ready.

        Raises QueueError, or StressError when a process ends or 120 seconds are over.
        """
        for topic in self._plan.topics:
            self._topics.append(topic)  # before: without an answer it may be there
            self._queue.create_topic(topic)
        for process in self._workers():
            process.start()
        deadline = time.monotonic() + _STARTED
        while not self._signals.ready():
            dead = [process.name for process in self._workers() if not process.is_alive()]
            if dead or time.monotonic() > deadline:
                raise StressError(f"did not start: {', '.join(dead) or 'in time'}")
            time.sleep(_TICK)

    def push(self, seconds: float, resets: bool) -> None:
        """Let them publish and subscribe for a time, and disturb them when there are `resets`."""
        count = self._plan.publishers
        pause = max(0.3, seconds / 20) if resets else seconds
        begun = time.monotonic()
        due = begun + pause
        self._signals.go.set()
        with _bar("pushing", seconds) as bar:
            while not self.interrupted and (now := time.monotonic()) < begun + seconds:
                if resets and now >= due:
                    self._disturb()
                    due = now + pause * self._choose.uniform(0.5, 1.5)
                published = sum(self._signals.messages[:count])
                delivered = sum(self._signals.messages[count:])
                text = f"{published:,} published, {delivered:,} delivered"
                bar.set_postfix_str(text, refresh=False)
                _show(bar, now - begun)
                time.sleep(_TICK)
        self._signals.stop.set()
        self._await(self._publishers, _PUBLISHED)

    def drain(self, seconds: float) -> None:
        """Wait until every subscriber has got to the end of its topic, bounded."""
        self._signals.drain.set()
        lags = self._signals.lags
        total = sum(lags)
        with _bar("draining", total) as bar:
            self._await(
                self._subscribers,
                _DRAINED + 10 * seconds,
                lambda: _show(bar, max(total - sum(lags), 0)),
            )
        self._late = [process.name for process in self._subscribers if process.is_alive()]
        self._signals.abort.set()
        self._await(self._subscribers, _PUBLISHED)

    def history(self) -> History:
        """Return all that was done and seen, with a final read. Raises QueueError."""
        with _bar("reading back", 1):
            for operation in recorded(self._plan.directory):
                self._history.add(operation)
            self._history.final_read()
        return self._history

    def failures(self) -> list[str]:
        """Return what went wrong beside the queue's own answers, a line each."""
        dead = [
            f"{process.name} died with exit code {process.exitcode}"
            for process in self._workers()
            if process.exitcode != 0
        ]
        return dead + [f"{name} did not come to the end of its topic" for name in self._late]

    def _workers(self) -> Iterator[BaseProcess]:
        return chain(self._publishers, self._subscribers)

    def _started(self) -> Iterator[BaseProcess]:
        return (process for process in self._workers() if process.pid is not None)

    def _disturb(self) -> None:
        """Reset a topic or seek a subscriber, to somewhere it has been."""
        number = self._choose.randrange(self._plan.subscribers)
        topic = self._plan.topics[number % len(self._plan.topics)]
        with suppress(QueueError):  # what was sent is in the history, whatever came of it
            head = self._queue.topic(topic).head
            far = self._choose.random() < _FAR
            position = self._choose.randint(0 if far else max(0, head - _NEAR), head)
            if self._choose.random() < 0.5:
                self._watched.reset_topic(topic, position)
            else:
                self._seek(topic, f"subscriber-{number}", position)

    def _seek(self, topic: str, name: str, position: int) -> None:
        with QSubscriber(topic, name, url=self._plan.url) as client:
            self._history.watch(client).seek(position)

    def _await(
        self,
        processes: Sequence[BaseProcess],
        seconds: float,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        deadline = time.monotonic() + seconds
        while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
            watch()
            time.sleep(_TICK)


def _bar(name: str, total: float) -> tqdm[Never]:
    look = "{desc} {percentage:3.0f}% |{bar}| {elapsed}{postfix}"
    # Nothing is shown where nobody looks: in a file or a pipe.
    return tqdm(desc=name, total=total, bar_format=look, leave=False, disable=None)


def _show(bar: tqdm[Never], reached: float) -> None:
    bar.n = reached
    bar.refresh()
