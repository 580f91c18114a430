"""The loop behind `QSubscriber.work`: it leases, and has threads for all the rest."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from threading import Thread
from time import monotonic
from typing import NamedTuple

from qlib.attempts import Outage
from qlib.board import Board
from qlib.checks import integer
from qlib.checks import seconds as within
from qlib.consumer import bounds, passes
from qlib.errors import InvalidRequest, QueueError
from qlib.hands import Hands
from qlib.held import Held
from qlib.lease import Desk, lasting
from qlib.leased import LeasedMessage
from qlib.reading import Leased
from qlib.sitting import Sitting
from qlib.stopping import Event, Stop

_log = logging.getLogger("qlib")

_POLL_SECONDS = 1.0  # so a stop is noticed within a second
_LEAVING_SECONDS = 2.0
_MOST_THREADS = 1000


class Wish(NamedTuple):
    """What is leased at once, for how long, and for how long nothing may come."""

    limit: int
    seconds: float
    wait: float | None


def run(
    desk: Desk,
    handler: Callable[[LeasedMessage], object],
    threads: int,
    limit: int,
    seconds: float,
    wait: float | None,
    handler_seconds: float | None,
    stop: Event | None,
    patience: float | None,
) -> None:
    """Work until it is stopped, as `QSubscriber.work` says."""
    _check(handler, threads, stop)
    wait, patience, most = bounds(wait, patience)
    wish = Wish(integer(limit, "limit is an integer"), lasting(seconds, 30.0), wait)
    if handler_seconds is not None:
        rule = "handler_seconds is a number above 0, or None"
        handler_seconds = within(handler_seconds, rule, lambda s: s > 0)
    with Stop(stop) as stopping:
        board = Board(stopping, handler_seconds)
        leasing = Sitting(desk, patience, most, lambda: board.is_stopping, 0.0)
        telling = Sitting(desk, patience, most, lambda: board.is_stopping, _LEAVING_SECONDS)
        acts = Hands(desk, board, handler, telling)
        _work(acts, threads, partial(_lease, desk, board, leasing, wish))
        if board.failure:
            raise board.failure


def _work(hands: Hands, threads: int, lease: Callable[[], None]) -> None:
    """Have the threads work on what is leased until that ends; leave none but the overdue."""
    board = hands.board
    acts = [hands.tell, hands.extend, *[hands.handle] * threads]
    # Daemons: a second Ctrl-C ends the process, whatever a handler is at.
    started = [
        Thread(target=act, name=f"{hands.desk!r} {act.__name__}", daemon=True) for act in acts
    ]
    try:
        for thread in started:
            thread.start()
        lease()
        board.stop()
        left = {task.thread for task in board.until_through()}
    except BaseException:
        board.abandon()
        raise
    board.close()
    for thread in started:
        if thread not in left:
            thread.join()


def _lease(desk: Desk, board: Board, leasing: Sitting[Desk], wish: Wish) -> None:
    """Lease as long as it is wanted; what ends it by error is the board's failure."""
    try:
        ordered = leasing.through(lambda outage: desk.info()).ordered
        quiet_since = monotonic()
        while board.until_wanted():
            signs, busy = board.signs, board.is_busy  # before it leases, so that nothing is missed
            poll = _poll(wish, busy, quiet_since)
            sent, found = leasing.through(partial(_asked, desk, wish, poll))
            if found.unreadable:
                _log.warning("%r cannot read offset %d: %s", desk, *found.unreadable)
            if found.lease:
                board.take(Held(found, wish.seconds, sent, ordered))
            elif busy and not poll:
                board.until_news(signs)
            elif not busy and wish.wait is not None and monotonic() >= quiet_since + wish.wait:
                return
            if found.lease or busy:
                quiet_since = monotonic()
    except QueueError as error:
        # stopped in an outage: that is no failure
        if not (board.is_stopping and passes(error)):
            board.fail(error)


def _asked(desk: Desk, wish: Wish, poll: float, outage: Outage) -> tuple[float, Leased]:
    """Return when a lease was asked for, before which it cannot have begun, and what came."""
    return monotonic(), desk._lease(wish.limit, wish.seconds, poll, outage)


def _poll(wish: Wish, busy: bool, quiet_since: float) -> float:
    """Return for how long to wait for messages: without an end in sight a poll is as good as any."""
    if wish.wait is None:
        return _POLL_SECONDS
    left = wish.wait if busy else quiet_since + wish.wait - monotonic()
    return max(min(left, _POLL_SECONDS), 0.0)


def _check(handler: object, threads: int, stop: object) -> None:
    if not callable(handler):
        raise InvalidRequest(f"the handler takes a message; {handler!r:.80} cannot be called")
    if inspect.iscoroutinefunction(handler) or inspect.isgeneratorfunction(handler):
        raise InvalidRequest(
            "the handler is a plain function, not async and without yield:"
            " nobody would run this one to its end"
        )
    if not 1 <= integer(threads, "threads is an integer") <= _MOST_THREADS:
        raise InvalidRequest(f"threads lies between 1 and {_MOST_THREADS}, not {threads}")
    if stop is not None and not callable(getattr(stop, "is_set", None)):
        raise InvalidRequest(f"stop is an event, as threading.Event(), not {stop!r:.80}")
