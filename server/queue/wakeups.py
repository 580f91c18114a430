"""Waking the long polls: a fetch that finds nothing waits here as a future, without a database connection.

A publish through this server wakes its own waiters at once and is announced to the other servers by a task of its own,
after the commit, several topics at a time. What is published straight in SQL, and what an announcement lost in a
restart said, is found by looking at the heads of the waited-for topics a few times a second.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice

from server.engines import Engine
from server.engines.errors import EngineError, Unavailable
from server.queue.tasks import begin, end

log = logging.getLogger(__name__)

_BETWEEN_ANNOUNCEMENTS = 0.005
_BETWEEN_LOOKS = 0.2
_BETWEEN_ATTEMPTS = 0.5
_AT_ONCE = 100  # who is woken before others have the loop again


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
        self._watches: dict[str, set[Watch]] = {}
        self._heads: dict[str, int] = {}
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

    def happened(self, topic: str) -> None:
        """Say that a topic was published to, reset or deleted through this server, after the commit."""
        self._wake([topic])
        self._untold.add(topic)
        self._something_untold.set()

    def seen(self, topic: str, head: int) -> None:
        """Say which head somebody found who watches a topic, so that only another one wakes it."""
        # of several the lowest: who found that one must be woken
        self._heads[topic] = min(head, self._heads.get(topic, head))

    @contextmanager
    def watch(self, topic: str) -> Iterator[Watch]:
        """Watch a topic. Begin before the first look at it, so that nothing falls in between.

        Raises Unavailable when too many wait already.
        """
        if self._waiting >= self._capacity:
            raise Unavailable(f"{self._capacity} long polls wait already")
        watch = Watch()
        self._waiting += 1
        self._watches.setdefault(topic, set()).add(watch)
        try:
            yield watch
        finally:
            self._waiting -= 1
            self._watches[topic].discard(watch)
            if not self._watches[topic]:
                del self._watches[topic]
                self._heads.pop(topic, None)

    def _wake(self, topics: Iterable[str]) -> None:
        self._wake_some(
            chain.from_iterable([list(self._watches.get(topic, ())) for topic in topics])
        )

    def _wake_some(self, watches: Iterator[Watch]) -> None:
        woken = list(islice(watches, _AT_ONCE))
        for watch in woken:
            watch.wake()
        if len(woken) == _AT_ONCE:
            asyncio.get_running_loop().call_soon(self._wake_some, watches)

    async def _listen(self) -> None:
        while True:
            try:
                async for topics in self._engine.listen():
                    self._wake(topics)
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
                heads = await self._engine.heads(watched) if watched else {}
            except EngineError as error:  # all connections are busy, say: we listen nevertheless
                log.warning("not looked: %s", error.detail)
                continue
            self._wake([topic for topic in watched if self._has_moved(topic, heads.get(topic, -1))])

    def _has_moved(self, topic: str, head: int) -> bool:
        # a topic that is gone has moved, too; one that nobody watches any more needs no book
        if topic not in self._watches or self._heads.get(topic) == head:
            return False
        self._heads[topic] = head
        return True

    async def _announce(self) -> None:
        while True:
            await self._something_untold.wait()
            self._something_untold.clear()
            topics, self._untold = self._untold, set()
            try:
                await self._engine.announce(sorted(topics))
            except EngineError as error:
                log.warning("not announced: %s", error.detail)
            await asyncio.sleep(_BETWEEN_ANNOUNCEMENTS)
