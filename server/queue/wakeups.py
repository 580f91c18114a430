"""Waking the long polls: a fetch or a lease that finds nothing waits as a future, without a database connection.

Things happen under a name: that of a topic, or of the work of one of its subscribers (`work_of`), when messages go
back to its workers. What happens through this server wakes its own waiters at once and is announced to the other
servers by a task of its own, after the commit, several names at a time. What happens straight in SQL, and what an
announcement lost in a restart said, is found by looking at what is waited for a few times a second: at the heads of
topics, and at the newest acts of workers.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Protocol

from server.engines import Engine
from server.engines.errors import EngineError, Unavailable
from server.queue.tasks import begin, end

log = logging.getLogger(__name__)

_BETWEEN_ANNOUNCEMENTS = 0.005
_BETWEEN_LOOKS = 0.2
_BETWEEN_ATTEMPTS = 0.5
_AT_ONCE = 100  # who is woken before others have the loop again


State = tuple[int, ...]  # a topic's head; a work's epoch and newest act; nothing when it is gone


def work_of(topic: str, subscriber: str) -> str:
    """Return the name of a subscriber's work, under which it is told what happens to it."""
    return f"{topic}/{subscriber}"  # no topic has a slash


class Sleeper(Protocol):
    """Who wants to be woken."""

    def wake(self) -> None:
        """Be told that something happened, or that the server is stopping."""


class Watch:
    """One waiter's view of one topic: `wait` returns when something happened since the last `wait` returned."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._happened = False
        self._waiting: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Say that something happened."""
        self._happened = True
        self._end()

    async def wait(self, seconds: float) -> bool:
        """Wait for something to happen; False when nothing did."""
        if not self._happened:
            loop = asyncio.get_running_loop()
            self._waiting = loop.create_future()
            timer = loop.call_later(seconds, self._end)
            try:
                await self._waiting
            finally:
                timer.cancel()
        happened, self._happened = self._happened, False
        return happened

    def _end(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)


class Wakeups:
    """The waiters of this server, and the tasks that hear, see and tell what happens on the others."""

    def __init__(self, engine: Engine, capacity: int) -> None:
        """Start nothing yet. `capacity` is how many may wait at once."""
        self._engine = engine
        self._capacity = capacity
        self._watches: dict[str, set[Sleeper]] = {}
        self._seen: dict[str, State] = {}
        self._waiting = 0
        self._untold: set[str] = set()
        self._something_untold = asyncio.Event()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._waiting

    @property
    def stopping(self) -> bool:
        """Whether the server is on its way out: nobody should wait any more."""
        return self._stopping

    def start(self) -> None:
        """Start the tasks."""
        self._tasks = [
            begin("wakeups-listen", self._listen),
            begin("wakeups-look", self._look),
            begin("wakeups-announce", self._announce),
        ]

    async def stop(self) -> None:
        """End all waiting and the tasks."""
        self._stopping = True
        self._wake(self._watches)
        await end(self._tasks)

    def happened(self, name: str, head: int | None = None) -> None:
        """Say that something happened to a topic or to a subscriber's work through this server, after the commit.

        `head`: a topic has grown to that; who is woken now sees it.
        """
        self._wake([name])
        if head is not None and name in self._watches:
            self._seen[name] = max((head,), self._seen.get(name, ()))
        self._untold.add(name)
        self._something_untold.set()

    def seen(self, topic: str, head: int) -> None:
        """Say which head somebody found who watches a topic, so that only another one wakes it."""
        # of several the lowest: who found that one must be woken
        self._seen[topic] = min((head,), self._seen.get(topic) or (head,))

    def saw(self, work: str, act: int) -> None:
        """Say that all who watch a work have seen what was done up to an act, which is their own."""
        if seen := self._seen.get(work):
            epoch, before = seen
            self._seen[work] = epoch, max(act, before)

    def enter(self) -> None:
        """Begin to wait. Raises Unavailable when too many wait already."""
        if self._waiting >= self._capacity:
            raise Unavailable(f"{self._capacity} long polls wait already")
        self._waiting += 1

    def leave(self) -> None:
        """Wait no more."""
        self._waiting -= 1

    def add(self, sleeper: Sleeper, *names: str) -> None:
        """Wake somebody when something happens to one of these from now on."""
        for name in names:
            self._watches.setdefault(name, set()).add(sleeper)

    def remove(self, sleeper: Sleeper, *names: str) -> None:
        """Wake somebody no more."""
        for name in names:
            self._watches[name].discard(sleeper)
            if not self._watches[name]:
                del self._watches[name]
                self._seen.pop(name, None)

    @contextmanager
    def watch(self, topic: str) -> Iterator[Watch]:
        """Watch a topic. Begin before the first look at it, so that nothing falls in between.

        Raises Unavailable when too many wait already.
        """
        self.enter()
        watch = Watch()
        self.add(watch, topic)
        try:
            yield watch
        finally:
            self.leave()
            self.remove(watch, topic)

    def _wake(self, names: Iterable[str]) -> None:
        self._wake_some(chain.from_iterable([list(self._watches.get(name, ())) for name in names]))

    def _wake_some(self, watches: Iterator[Sleeper]) -> None:
        woken = list(islice(watches, _AT_ONCE))
        for watch in woken:
            watch.wake()
        if len(woken) == _AT_ONCE:
            asyncio.get_running_loop().call_soon(self._wake_some, watches)

    async def _listen(self) -> None:
        while True:
            try:
                async for names in self._engine.listen():
                    self._wake(names)
            except EngineError as error:
                log.warning("not listening: %s", error.detail)
            finally:
                self._wake(self._watches)  # what was announced meanwhile is lost
            await asyncio.sleep(_BETWEEN_ATTEMPTS)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_BETWEEN_LOOKS)
            watched = list(self._watches)
            try:
                states = await self._states(watched)
            except EngineError as error:  # all connections are busy, say: we listen nevertheless
                log.warning("not looked: %s", error.detail)
                continue
            self._wake([name for name in watched if self._has_moved(name, states.get(name, ()))])

    async def _states(self, names: Sequence[str]) -> dict[str, State]:
        topics = [name for name in names if "/" not in name]
        works = [name.split("/") for name in names if "/" in name]
        found: dict[str, State] = {}
        if topics:
            heads = await self._engine.heads(topics)
            found.update((topic, (head,)) for topic, head in heads.items())
        if works:
            acts = await self._engine.acts([(topic, subscriber) for topic, subscriber in works])
            found.update((work_of(*work), act) for work, act in acts.items())
        return found

    def _has_moved(self, name: str, state: State) -> bool:
        # what nobody watches any more needs no book
        if name not in self._watches or self._seen.get(name) == state:
            return False
        self._seen[name] = state
        return True

    async def _announce(self) -> None:
        while True:
            await self._something_untold.wait()
            self._something_untold.clear()
            names, self._untold = self._untold, set()
            try:
                await self._engine.announce(sorted(names))
            except EngineError as error:
                log.warning("not announced: %s", error.detail)
            await asyncio.sleep(_BETWEEN_ANNOUNCEMENTS)
