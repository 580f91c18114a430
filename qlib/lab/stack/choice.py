"""Which queue is at hand: a private one, one that was asked for, or the one that $QUEUE_URL names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from qlib.errors import TopicNotFound, Unavailable
from qlib.lab.database.connecting import connect
from qlib.lab.stack import Stack
from qlib.lab.stack.guarded import ROOT, StackError
from qlib.lab.stack.names import Taken, clear
from qlib.publisher import QPublisher

_PATIENCE = 10.0  # seconds, for an answer of a queue that was asked for
_PRIVATE = "this notebook has a private queue"
_YIELDING = "{0.name} on {1} {0.briefly}: this notebook takes a private queue"
_NOT_KILLED = "this queue is not ours to kill: lab.crash and lab.restart are for private ones alone"


@dataclass(frozen=True)
class _Queue:
    """A queue to be had, and whether it is left when a name that is to be fresh is another's there."""

    url: str
    dsn: str | None
    yields: bool = False


_private: Stack | None = None  # kept, since a stack ends when nobody holds its pipe any more
_at_hand: _Queue | None = None  # as `up` has left it; the environment may say otherwise by now


def up(
    fresh: str | Iterable[str] = (),
    *,
    private: bool = False,
    mine: bool = False,
    url: str | None = None,
    dsn: str | None = None,
) -> None:
    """Have a queue at hand, and these topics out of it; print which queue, when it is another one.

    The queue is the one that $QUEUE_URL and $QUEUE_DSN name, else a private `Stack`, started once
    a process and ended with it. With `private` it is the private one in any case: one that `crash`
    may kill. If it was killed, it is started again. With `url`, and `dsn` for what looks into the
    database, it is your own; with `mine` the one that `make lab` or `python -m server` runs on this
    checkout's `.queue`. The two variables are set, so that `QPublisher()`, `QSubscriber()` and `sql`
    find it, and so it stays until another one is asked for.

    `fresh` names topics that are deleted if they exist, with their messages and subscribers, so
    that what follows may run again and again: topics of this kernel, or left by a dead one. From
    then on those of these names that this process creates bear a mark in their description, and no
    other kernel takes them as long as this one lives. When a live kernel has one of the names, or a
    topic bears no mark, none is deleted. Then a queue that only $QUEUE_URL names is left for the
    private one, and a sentence says so; of one that was asked for, or is private, StackError is
    raised, and the queue at hand is the one before. Raises StackError, too, when a queue does not
    start or is not there; QueueError or psycopg2.Error when one fails.
    """
    names = [fresh] if isinstance(fresh, str) else list(fresh)
    queue = _wanted(private, mine, url, dsn)
    said = _PRIVATE if _is_private(queue.url) else f"the queue is {queue.url}"
    try:
        clear(queue.url, queue.dsn, names)
    except Taken as taken:
        if not queue.yields:
            raise
        said = _YIELDING.format(taken, queue.url)
        queue = _own()
        clear(queue.url, queue.dsn, names)
    _take(queue, said)


def crash() -> None:
    """Kill the queue at hand with SIGKILL: the server and its PostgreSQL; again: nothing happens.

    Nothing acknowledged is lost; what was in flight has an unknown outcome. Raises StackError when
    the queue is not a private one of this process, such as `up(private=True)` takes.
    """
    _crashable().crash()


def restart() -> None:
    """Start the queue at hand again after `crash`, on the same data and at the same address.

    Returns when the server answers. Publishers and subscribers made before go on working, sessions
    with the database do not. Raises StackError as `crash` does, or when it does not start.
    """
    _crashable().restart()


def _wanted(private: bool, mine: bool, url: str | None, dsn: str | None) -> _Queue:
    if private + mine + (url is not None) > 1 or (dsn and not url):
        raise ValueError("one queue at a time: private=True, mine=True, or url=… with its dsn=…")
    if mine:
        return _running()
    if url is not None:
        return _answering(url, dsn)
    url = os.environ.get("QUEUE_URL")
    if private or not url or _is_private(url):
        return _own()
    asked_for = _at_hand is not None and _at_hand.url == url and not _at_hand.yields
    return _Queue(url, os.environ.get("QUEUE_DSN"), yields=not asked_for)


def _own() -> _Queue:
    """Return the private queue, which runs."""
    global _private
    _private = _private or Stack()
    _private.restart()
    return _Queue(_private.url, _private.dsn)


def _running() -> _Queue:
    """Return the queue that runs on the data of this checkout, or of `make lab`."""
    data = Path(os.environ.get("QUEUE_DATA") or ROOT / ".queue")
    try:
        return _answering(*((data / name).read_text().strip() for name in ("url", "dsn")))
    except (FileNotFoundError, Unavailable, psycopg2.OperationalError) as error:
        raise StackError(f"no queue runs on {data}: `make lab` starts one") from error


def _answering(url: str, dsn: str | None) -> _Queue:
    """Return a queue whose server answers, and its database if it is given."""
    with QPublisher(url, timeout=_PATIENCE) as publisher, suppress(TopicNotFound):
        publisher.topic("orders")
    if dsn:
        connect(dsn).close()
    return _Queue(url.rstrip("/"), dsn)


def _take(queue: _Queue, said: str) -> None:
    global _at_hand
    if _at_hand is None or _at_hand.url != queue.url:
        print(said)
    _at_hand = queue
    os.environ["QUEUE_URL"], os.environ["QUEUE_DSN"] = queue.url, queue.dsn or ""


def at_hand() -> Stack | None:
    """Return the private stack of this process when it is the queue at hand."""
    return _private if _is_private(os.environ.get("QUEUE_URL")) else None


def _crashable() -> Stack:
    stack = at_hand()
    if stack is None:
        raise StackError(_NOT_KILLED)
    return stack


def _is_private(url: str | None) -> bool:
    return _private is not None and _private.url == url
