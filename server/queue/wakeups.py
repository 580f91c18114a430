"""Waking the long polls: a fetch that finds nothing waits here, without a database connection.

A publish through this server wakes its own waiters at once and is announced to the other servers by a thread of
its own, after the commit, several topics at a time. What is published straight in SQL, and what an announcement
lost in a restart said, is found by looking at the heads of the waited-for topics a few times a second.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2

from server.engines import Engine
from server.http.errors import Problem

log = logging.getLogger(__name__)

_BETWEEN_ANNOUNCEMENTS = 0.005
_BETWEEN_LOOKS = 0.2
_BETWEEN_ATTEMPTS = 0.5


class Watch:
    """One waiter's view of one topic: `wait` returns when something happened since the last `wait` returned."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._happened = threading.Event()

    def wake(self) -> None:
        """Say that something happened."""
        self._happened.set()

    def wait(self, seconds: float) -> bool:
        """Wait for something to happen; False when nothing did."""
        happened = self._happened.wait(seconds)
        self._happened.clear()
        return happened


class Wakeups:
    """The waiters of this server, and the two threads that hear and tell what happens on the others."""

    def __init__(self, engine: Engine, capacity: int) -> None:
        """Start nothing yet. `capacity` is how many may wait at once."""
        self._engine = engine
        self._capacity = capacity
        self._lock = threading.Lock()
        self._watches: dict[str, set[Watch]] = {}
        self._heads: dict[str, int] = {}
        self._waiting = 0
        self._untold: set[str] = set()
        self._something_untold = threading.Event()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._listen, name="wakeups-listen", daemon=True),
            threading.Thread(target=self._announce, name="wakeups-announce", daemon=True),
        ]
        self._looked_at = 0.0

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._waiting

    @property
    def stopping(self) -> bool:
        """Whether the server is on its way out: nobody should wait any more."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all waiting and the threads."""
        self._stopping.set()
        self._something_untold.set()
        self._wake_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(5)

    def happened(self, topic: str) -> None:
        """Say that a topic was published to, reset or deleted through this server, after the commit."""
        self._wake(topic)
        with self._lock:
            self._untold.add(topic)
        self._something_untold.set()

    @contextmanager
    def watch(self, topic: str) -> Iterator[Watch]:
        """Watch a topic. Begin before the first look at it, so that nothing falls in between.

        Raises Problem (503, outcome none) when too many wait already.
        """
        watch = Watch()
        with self._lock:
            if self._waiting >= self._capacity:
                raise Problem("unavailable", f"{self._capacity} long polls wait already")
            self._waiting += 1
            self._watches.setdefault(topic, set()).add(watch)
        try:
            yield watch
        finally:
            with self._lock:
                self._waiting -= 1
                self._watches[topic].discard(watch)
                if not self._watches[topic]:
                    del self._watches[topic]
                    self._heads.pop(topic, None)

    def _wake(self, topic: str) -> None:
        with self._lock:
            for watch in self._watches.get(topic, ()):
                watch.wake()

    def _wake_all(self) -> None:
        for topic in list(self._watches):
            self._wake(topic)

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                self._engine.listen(self._heard, self._stopping.is_set)
            except (psycopg2.Error, Problem) as error:
                log.warning("not listening: %s", str(error).strip().replace("\n", " "))
                self._wake_all()  # what was announced meanwhile is lost
                self._stopping.wait(_BETWEEN_ATTEMPTS)

    def _heard(self, topics: set[str]) -> None:
        for topic in topics:
            self._wake(topic)
        if time.monotonic() - self._looked_at < _BETWEEN_LOOKS:
            return
        self._looked_at = time.monotonic()
        with self._lock:
            watched = list(self._watches)
        if watched:
            try:
                self._look(watched)
            except Problem as problem:  # all connections are busy, say: we can listen nevertheless
                log.warning("not looked: %s", problem.detail)

    def _look(self, watched: list[str]) -> None:
        heads = self._engine.heads(watched)
        for topic in watched:
            head = heads.get(topic, -1)  # a topic that is gone has changed, too
            with self._lock:
                changed = topic in self._watches and self._heads.get(topic) != head
                if changed:
                    self._heads[topic] = head
            if changed:
                self._wake(topic)

    def _announce(self) -> None:
        while True:
            self._something_untold.wait()
            if self._stopping.is_set():
                return
            self._something_untold.clear()
            with self._lock:
                topics, self._untold = self._untold, set()
            try:
                self._engine.announce(sorted(topics))
            except (psycopg2.Error, Problem) as error:
                log.warning("not announced: %s", str(error).strip().replace("\n", " "))
            self._stopping.wait(_BETWEEN_ANNOUNCEMENTS)
