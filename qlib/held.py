"""One lease in the process that works on it: what of it waits, is at work, or has to be told."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Thread, current_thread
from typing import Literal, NamedTuple, TypeAlias

from qlib.leased import LeasedMessage, leased_messages
from qlib.reading import Leased

Verb: TypeAlias = Literal["ack", "nack", "untried"]


@dataclass(eq=False)
class Task:
    """A message that a thread has begun with, and when; `overdue` when it has taken too long."""

    held: Held
    message: LeasedMessage
    began: float
    thread: Thread
    overdue: bool = False


class News(NamedTuple):
    """What the queue has to be told of some messages of a lease; without offsets, of all that are left."""

    held: Held
    verb: Verb
    offsets: list[int]
    error: str = ""


class Held:
    """A lease of so many seconds that was asked for when the monotonic clock was at `sent`.

    It cannot have expired before `kept_until`. A `Board` guards it.
    """

    def __init__(self, found: Leased, seconds: float, sent: float, ordered: bool) -> None:
        """Nothing is begun."""
        self.id = found.lease or ""
        self.seconds = seconds
        self.waiting = deque(leased_messages(found))
        self.at_work: list[Task] = []
        self._ordered = ordered
        self._done: list[int] = []
        self._failed: list[tuple[int, str]] = []
        self._untried: list[int] = []
        self._last: list[News] = []
        self._under_way = False
        if found.unreadable:  # when all before it are told, for the order; then all behind it
            offset, why = found.unreadable
            self._last = [News(self, "nack", [offset], f"it cannot be read: {why}")]
            self._last.append(News(self, "untried", []))
        self.kept(sent)

    def kept(self, sent: float) -> None:
        """Take note that it lasts anew from an extension on that was asked for then."""
        self.kept_until = sent + self.seconds
        self.next_beat = sent + self.seconds / 3

    @property
    def is_to_keep(self) -> bool:
        """Whether it is worth an extension: not for what has taken too long, if that is all."""
        working = any(not task.overdue for task in self.at_work)
        return working or bool(self.waiting) or self.has_news

    @property
    def has_news(self) -> bool:
        """Whether the queue has still to be told something, or is being told."""
        told = not (self._done or self._failed or self._untried or self._last)
        return self._under_way or not told

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it here."""
        return not (self.waiting or self.at_work or self.has_news)

    @property
    def offsets(self) -> list[int]:
        """What waits, or is at work."""
        working = [task.message for task in self.at_work]
        return sorted(message.offset for message in [*working, *self.waiting])

    def next(self) -> LeasedMessage | None:
        """Return the next message that may be begun, if any; it still waits.

        With order, messages of a key are begun one after the other.
        """
        keys = {task.message.key for task in self.at_work} if self._ordered else set()
        for message in self.waiting:
            if message.key is None or message.key not in keys:
                return message
        return None

    def begin(self, message: LeasedMessage, now: float) -> Task:
        """Begin with a message, in this thread."""
        self.waiting.remove(message)
        task = Task(self, message, now, current_thread())
        self.at_work.append(task)
        return task

    def finish(self, task: Task, error: str | None) -> None:
        """Take note of what became of a message.

        With order, a failed one takes back what follows in its key: the queue does so by itself.
        """
        self.at_work.remove(task)
        if error is None:
            self._done.append(task.message.offset)
            return
        self._failed.append((task.message.offset, error))
        if self._ordered and task.message.key is not None:
            self.waiting = deque(m for m in self.waiting if m.key != task.message.key)

    def give_back(self) -> None:
        """Have all given back that nobody has begun with."""
        self._untried += [message.offset for message in self.waiting]
        self.waiting.clear()

    def news(self) -> News | None:
        """Return what the queue is to be told next; nothing while it is being told something.

        With order, it has to hear first what comes first in a key: so of what is done.
        """
        if self._under_way:
            return None
        found = None
        if self._done:
            found, self._done = News(self, "ack", self._done), []
        elif self._failed:
            offset, error = self._failed.pop(0)
            found = News(self, "nack", [offset], error)
        elif self._untried:
            found, self._untried = News(self, "untried", self._untried), []
        elif self._last and not self.waiting and not self.at_work:
            found = self._last.pop(0)
        self._under_way = found is not None
        return found

    def told(self) -> None:
        """Take note that the queue was told, or never will be."""
        self._under_way = False
