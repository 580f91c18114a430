"""What the threads of a worker do with what is on its board: handle, tell the queue, extend."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from qlib.attempts import Outage
from qlib.board import Board
from qlib.consumer import passes, refusal
from qlib.errors import KeyOrder, LeaseExpired, QueueError
from qlib.held import Held, News, Task
from qlib.lease import Desk
from qlib.leased import LeasedMessage
from qlib.sitting import Shortened, Sitting
from qlib.words import words

_log = logging.getLogger("qlib")


@dataclass
class Hands:
    """The threads' work, but for leasing; what goes wrong in there ends the work with its error."""

    desk: Desk
    board: Board
    handler: Callable[[LeasedMessage], object]
    telling: Sitting[Desk]
    _left: QueueError | None = field(default=None, init=False)  # the outage in which work stops

    def handle(self) -> None:
        """Hand message after message to the handler; SystemExit and the like end the work."""
        process = os.getpid()
        while task := self.board.next_task():
            failure: BaseException | None = None
            try:
                _refuse_unrun(self.handler(task.message))
            except BaseException as error:
                failure = error
            if os.getpid() != process:  # the messages are its parent's
                told = "a child that the handler of offset %d has forked ends here"
                _log.warning(told, task.message.offset, exc_info=failure)
                return
            if isinstance(failure, Exception):
                self._failed(task, failure)
                continue
            self.board.finish(task, words(failure) if failure else None)
            if failure:
                self.board.fail(failure)

    def tell(self) -> None:
        """Tell the queue what became of messages: what was done since it was told last, at once."""
        while news := self.board.next_news():
            try:
                self._tell(news)
            except Exception as error:
                self.board.fail(error)
            finally:
                self.board.told(news)

    def extend(self) -> None:
        """Extend leases, each when a third of its time is over."""
        while not self.board.is_closed:
            try:
                if held := self.board.next_beat():
                    self._extend(held)
            except Exception as error:
                self.board.fail(error)

    def _failed(self, task: Task, error: Exception) -> None:
        message, told = task.message, words(error)
        self.board.finish(task, told)
        try:
            _log.warning(
                *(
                    "the handler failed at offset %d of %r, attempt %d: %s",
                    message.offset,
                    self.desk,
                ),
                *(message.attempt, told),
                exc_info=error,
            )
        except Exception as failure:  # a log may fail, too, and must not stop a thread unseen
            self.board.fail(failure)

    def _tell(self, news: News) -> None:
        try:
            if self._left:  # there may be many to tell, and the time to leave is for all together
                raise self._left
            self.telling.through(lambda outage: self._told(news, outage))
        except QueueError as error:
            told = refusal(error)
            if isinstance(told, LeaseExpired):
                self.board.lost(news.held)
            elif self.board.is_stopping and passes(error):
                self._left = error
            elif not isinstance(told, KeyOrder):
                self.board.fail(error)
            act = "acknowledged" if news.verb == "ack" else "given back"
            _log.warning(
                "%r: offsets %s could not be %s, and come again by themselves: %s",
                *(self.desk, news.offsets, act, told),
            )

    def _told(self, news: News, outage: Outage) -> object:
        lease = news.held.id
        if news.verb == "ack":
            return self.desk._ack_lease(lease, news.offsets, outage)
        fields: dict[str, Any] = {"offsets": news.offsets} if news.offsets else {}
        more = {"untried": True} if news.verb == "untried" else {"error": news.error}
        return self.desk._nack(lease, fields | more, outage)

    def _extend(self, held: Held) -> None:
        sent = monotonic()
        outage = Shortened(held.seconds / 3, since=sent, is_left=lambda: self.board.is_closed)
        try:
            self.desk._extend(held.id, held.seconds, outage)
        except QueueError as error:
            told = refusal(error)
            if isinstance(told, LeaseExpired):
                if offsets := self.board.lost(held):
                    _log.warning("%r: others may have offsets %s: %s", self.desk, offsets, told)
            elif passes(error):
                self.board.missed(held, monotonic())
            else:
                raise
        else:
            self.board.kept(held, sent)


def _refuse_unrun(result: object) -> None:
    """Raise TypeError when nothing of the handler has run yet: its message is not done."""
    if inspect.iscoroutine(result):
        result.close()  # else Python warns that nobody has awaited it
    elif not (inspect.isgenerator(result) or inspect.isasyncgen(result)):
        return
    raise TypeError("the handler is no plain function: nobody runs what it returns")
