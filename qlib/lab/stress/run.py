"""A run: the processes are started, disturbed, drained and ended; what they saw is read back."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import chain
from multiprocessing.process import BaseProcess
from random import Random
from types import TracebackType
from typing import Never

from tqdm import tqdm

from qlib.errors import QueueError
from qlib.lab.history import History
from qlib.lab.stress.crew import CREW, crew, worker
from qlib.lab.stress.kills import Target
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

    def __init__(self, plan: Plan, target: Target | None = None) -> None:
        """Nothing happens yet. With a `target` its servers and database are killed meanwhile."""
        self.interrupted = False
        self.killed: Counter[str] = target.killed if target else Counter()
        self._plan, self._target = plan, target
        self._choose = Random(f"{plan.seed} resets")
        self._queue = QPublisher(plan.url)
        self._history = History()
        self._watched = self._history.watch(self._queue)
        self._topics: list[str] = []
        self._late: list[str] = []
        self._context = multiprocessing.get_context("spawn")
        count = plan.publishers + plan.subscribers + plan.workers
        self._signals = Signals(count)
        self._publishers = [self._process(publisher, i) for i in range(plan.publishers)]
        self._subscribers = [self._process(subscriber, i) for i in range(plan.subscribers)]
        self._crew = [self._process(worker, i, 0) for i in range(plan.workers)]

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
        for process in (process for process in self._workers() if process.pid is not None):
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
        """Let them publish and read for a time; disturb them when there are `resets`, and kill."""
        count = self._plan.publishers
        begun = time.monotonic()
        chores = list(self._chores(seconds, resets))
        self._signals.go.set()
        with _bar("pushing", seconds) as bar:
            while not self.interrupted and (now := time.monotonic()) < begun + seconds:
                for chore in chores:
                    chore.look()
                published = sum(self._signals.messages[:count])
                delivered = sum(self._signals.messages[count:])
                text = f"{published:,} published, {delivered:,} delivered"
                bar.set_postfix_str(text, refresh=False)
                _show(bar, now - begun)
                time.sleep(_TICK)
        self._signals.stop.set()
        self._await(self._publishers, _PUBLISHED)

    def drain(self, seconds: float) -> None:
        """Wait until every subscriber and worker has got to the end of its topic, bounded."""
        self._signals.drain.set()
        lags = self._signals.lags
        total = sum(lags)
        readers = self._subscribers + self._crew
        with _bar("draining", total) as bar:
            limit = _DRAINED + 10 * seconds
            self._await(readers, limit, lambda: _show(bar, max(total - sum(lags), 0)))
        self._late = [process.name for process in readers if process.is_alive()]
        self._signals.abort.set()
        self._await(readers, _PUBLISHED)

    def history(self) -> History:
        """Return all that was done and seen, with a final read. Raises QueueError."""
        told = self._target.history.operations if self._target else ()
        with _bar("reading back", 1), ExitStack() as opened:
            for operation in chain(told, recorded(self._plan.directory)):
                self._history.add(operation)
            for topic in self._crewed:
                self._history.watch(opened.enter_context(crew(topic, 0, self._plan)))
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

    @property
    def _crewed(self) -> tuple[str, ...]:
        """The topics that have workers."""
        return self._plan.topics[: self._plan.workers]

    def _workers(self) -> Iterator[BaseProcess]:
        return chain(self._publishers, self._subscribers, self._crew)

    def _process(self, target: Callable[..., None], number: int, *more: int) -> BaseProcess:
        about = (number, *more, self._plan, self._signals)
        return self._context.Process(target=target, args=about, name=f"{target.__name__} {number}")

    def _chores(self, seconds: float, resets: bool) -> Iterator[Chore]:
        if resets:
            yield Chore(self._disturb, max(0.3, seconds / 20), self._choose)
        if self._plan.workers:
            yield Chore(self._kill_worker, max(2.0, seconds / 100), self._choose)
        if self._plan.kill and self._target:
            yield Chore(self._target.kill, max(4.0, seconds / 30), self._choose)

    def _kill_worker(self) -> None:
        """Kill a worker, and let another one take its place."""
        self.killed["workers"] += 1
        number = self._choose.randrange(self._plan.workers)
        self._crew[number].kill()
        self._crew[number].join()
        self._crew[number] = self._process(worker, number, self.killed["workers"])
        self._crew[number].start()

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
                names = [f"subscriber-{number}", *[CREW] * (topic in self._crewed)]
                self._seek(topic, self._choose.choice(names), position)

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


class Chore:
    """What is done again and again, after pauses that differ."""

    def __init__(self, act: Callable[[], None], pause: float, choose: Random) -> None:
        """Pause first."""
        self._act, self._pause, self._choose = act, pause, choose
        self._due = time.monotonic() + pause

    def look(self) -> None:
        """Do it when it is time."""
        if time.monotonic() >= self._due:
            self._act()
            self._due = time.monotonic() + self._pause * self._choose.uniform(0.5, 1.5)


def _bar(name: str, total: float) -> tqdm[Never]:
    look = "{desc} {percentage:3.0f}% |{bar}| {elapsed}{postfix}"
    # Nothing is shown where nobody looks: in a file or a pipe.
    return tqdm(desc=name, total=total, bar_format=look, leave=False, disable=None)


def _show(bar: tqdm[Never], reached: float) -> None:
    bar.n = reached
    bar.refresh()
