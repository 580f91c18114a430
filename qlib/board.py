"""What a process has leased, between its threads: one leases, some handle, one tells, one extends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from threading import Condition, Lock
from time import monotonic
from typing import TypeAlias

from qlib.held import Held, News, Task

_SLICE = 1.0  # no wait is longer, whatever was missed
_LOOK = 0.1  # how often it is looked whether work is to stop

Signs: TypeAlias = list[tuple[Held, int, bool]]

_log = logging.getLogger("qlib")


class Board:
    """The leases of a process, and the threads' meeting point.

    `failure` is what has ended the work, if not `stop`; `is_closed` when nothing goes on any more.
    """

    def __init__(self, stop: Callable[[], bool], handler_seconds: float | None) -> None:
        """Nothing is leased yet."""
        self.failure: BaseException | None = None
        self._stop, self._handler_seconds = stop, handler_seconds
        self._lock = Lock()
        self._work, self._news = Condition(self._lock), Condition(self._lock)
        self._held: list[Held] = []
        self._idle = 0
        self._stopped = self.is_closed = False

    # for the thread that leases

    @property
    def is_stopping(self) -> bool:
        """Whether nothing new is to begin."""
        return self._stopped or self.failure is not None or self._stop()

    @property
    def is_busy(self) -> bool:
        """Whether anything is left of what was leased, but for what has taken too long."""
        with self._lock:
            return any(held.is_to_keep for held in self._held)

    def take(self, held: Held) -> None:
        """Put up a lease."""
        with self._lock:
            self._held.append(held)
            self._changed()

    def until_wanted(self) -> bool:
        """Wait until a handler has nothing to do; return False when no more is wanted at all."""
        with self._lock:
            while not self.is_stopping:
                if self._idle and not any(held.next() for held in self._held):
                    return True
                self._news.wait(_LOOK)
            return False

    @property
    def signs(self) -> Signs:
        """What has become of what is leased."""
        with self._lock:
            return self._signs()

    def until_news(self, before: Signs) -> None:
        """Wait until there are other signs than those before, for a second at most."""
        end = monotonic() + _SLICE
        with self._lock:
            while self._signs() == before and monotonic() < end and not self.is_stopping:
                self._news.wait(_LOOK)

    def stop(self) -> None:
        """Begin with nothing any more, and have given back what nobody has begun with."""
        with self._lock:
            self._stopped = True
            for held in self._held:
                held.give_back()
            self._changed()

    def until_through(self) -> list[Task]:
        """Wait until all is handled and told, and return what has taken too long: it is left."""
        with self._lock:
            while any(held.is_to_keep for held in self._held):
                self._news.wait(_LOOK)
            return [task for held in self._held for task in held.at_work]

    def close(self) -> None:
        """Let the threads end."""
        self.abandon()
        with self._lock:
            self._changed()

    def abandon(self) -> None:
        """Let the threads end, soon: without the lock, which an interrupted wait may have left."""
        self._stopped = self.is_closed = True

    def fail(self, error: BaseException) -> None:
        """End the work with this error, unless another one has."""
        with self._lock:
            self.failure = self.failure or error
            self._changed()

    # for those that handle

    def next_task(self) -> Task | None:
        """Begin with the next message, when there is one; return None when there will be none."""
        with self._lock:
            self._idle += 1
            self._news.notify_all()
            try:
                while not self._stopped and self.failure is None:
                    if task := self._begun():
                        return task
                    self._work.wait(_SLICE)
                return None
            finally:
                self._idle -= 1

    def finish(self, task: Task, error: str | None) -> None:
        """Take note that the handler has returned, or what it has raised, in words."""
        with self._lock:
            task.held.finish(task, error)
            self._changed()

    # for the one that tells

    def next_news(self) -> News | None:
        """Wait for something to tell the queue; return None when there will be nothing."""
        with self._lock:
            while not self.is_closed:
                for held in self._held:
                    if news := held.news():
                        return news
                self._news.wait(_SLICE)
            return None

    def told(self, news: News) -> None:
        """Take note that the queue was told, or never will be."""
        with self._lock:
            news.held.told()
            self._changed()

    # for the one that extends

    def next_beat(self) -> Held | None:
        """Wait for a lease that has to be extended; return None when there will be none."""
        with self._lock:
            while not self.is_closed:
                now = monotonic()
                self._look_at_the_clock(now)
                kept = [held for held in self._held if held.is_to_keep]
                first = min(kept, key=lambda held: held.next_beat, default=None)
                if first and first.next_beat <= now:
                    return first
                self._news.wait(min(_SLICE, first.next_beat - now) if first else _SLICE)
            return None

    def kept(self, held: Held, sent: float) -> None:
        """Take note that a lease was extended by a call that began then."""
        with self._lock:
            held.kept(sent)
            self._changed()

    def missed(self, held: Held, now: float) -> None:
        """Take note that a lease could not be extended now."""
        with self._lock:
            held.next_beat = now + held.seconds / 10

    def lost(self, held: Held) -> list[int]:
        """Take note that a lease has expired, and return what is not through: others may have it.

        That is nothing when it only looked so, since the queue was told of all of it at that moment.
        """
        with self._lock:
            held.next_beat = inf
            offsets = held.offsets
            held.waiting.clear()
            self._changed()
            return offsets

    def _begun(self) -> Task | None:
        now = monotonic()
        for held in self._held:
            # when this process stood still, others may have it: an extension will tell
            if now < held.kept_until and (message := held.next()):
                return held.begin(message, now)
        return None

    def _look_at_the_clock(self, now: float) -> None:
        if self._handler_seconds is None:
            return
        for held in self._held:
            for task in held.at_work:
                if not task.overdue and now - task.began >= self._handler_seconds:
                    task.overdue = True
                    held.give_back()
                    self._changed()
                    told = "the handler of offset %d has taken %g seconds: its lease expires"
                    _log.warning(told, task.message.offset, self._handler_seconds)

    def _changed(self) -> None:
        self._held = [held for held in self._held if not held.is_over]
        self._work.notify_all()
        self._news.notify_all()

    def _signs(self) -> Signs:
        return [(held, len(held.at_work), held.has_news) for held in self._held]
