"""A queue of one's own: a server with its embedded PostgreSQL, started and ended as one thing."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from qlib.errors import TopicNotFound
from qlib.lab.stack.guarded import Guarded, StackError, environment, free_port
from qlib.marks import disposable, is_marked
from qlib.publisher import QPublisher

_ATTEMPTS = 3
_NOT_OURS = (
    "the topic {0!r} was not made by the lab and stays, with its {1:,} messages: if nobody needs it,"
    " delete it yourself, QPublisher().delete_topic({0!r})"
)
_OWN_QUEUE = "; else take a queue of your own for this notebook, lab.up(fresh={0!r}, private=True)"

_private: Stack | None = None  # kept, since a stack ends when nobody holds its pipe any more


class Stack:
    """A server on a free port, with an embedded PostgreSQL in a directory.

    Without `data` the directory is private and goes with the stack, messages and all; with one,
    the data stay, and the log is the file `data` + ".log". `port` is the one to listen on, if
    nobody does yet. `url` is the server's address and `dsn`
    a libpq connection string of the database, as its superuser. The constructor returns when the
    server answers; it raises StackError after 120 seconds, or with the end of the log. The stack
    ends by `stop`, or else with this process, however that ends, in two minutes at most; Ctrl-C
    does not reach it.
    """

    def __init__(self, data: Path | None = None, port: int | None = None) -> None:
        """Start, on another port when somebody is faster to take the chosen one."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._start(data, port or free_port())
            except StackError as error:
                if attempt == _ATTEMPTS or "Address already in use" not in str(error):
                    raise
                port = None

    def _start(self, data: Path | None, port: int) -> None:
        private = "" if data else tempfile.mkdtemp(prefix="queue-lab-")
        data = (data or Path(private, "data")).absolute()
        self.url = f"http://127.0.0.1:{port}"
        self._server = Guarded(
            [sys.executable, "-m", "server", "--port", str(port), "--data", str(data)],
            f"{self.url}/health",
            f"queue server on {self.url}",
            log=data.with_name(data.name + ".log"),
            environment=environment(),
            data=str(data),
            private=private,
        )
        self.dsn = (data / "dsn").read_text().strip()

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return self._server.alive

    def crash(self) -> None:
        """Kill the server and PostgreSQL with SIGKILL; again: nothing happens.

        What was acknowledged is on disk; what was in flight has an unknown outcome. A directory of
        the stack's own stays. Raises StackError when the stack has ended.
        """
        self._server.kill()

    def restart(self) -> None:
        """Start both again after `crash`, on the same data, port and `dsn`.

        Returns when the server answers, hence after the recovery; clients made before go on.
        Raises StackError like the constructor, also when the port was taken meanwhile.
        """
        self._server.restart()

    def stop(self) -> None:
        """End the server and PostgreSQL; a private directory is removed. Again: nothing happens.

        Raises StackError when they do not end within 120 seconds.
        """
        self._server.stop()

    def __enter__(self) -> Stack:
        """Return the stack itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the stack."""
        self.stop()


def up(fresh: str | Iterable[str] = (), *, private: bool = False) -> None:
    """Have a queue at hand, and these topics out of it.

    The queue is the one that $QUEUE_URL and $QUEUE_DSN name, else a private `Stack`, started once
    a process and ended with it; then the two are set, so that `QPublisher()`, `QSubscriber()` and
    `sql` find it. With `private` it is the private one in any case, and from then on: one that
    `crash` may kill. If it was killed, it is started again. `fresh` names topics that are deleted
    if they exist, with their messages and subscribers, so that what follows may run again and
    again: they are the lab's. Topics of these names that are created from then on, in this process
    and queue, bear a mark in their description; without it none is deleted. Raises StackError, also
    when one of the topics is not the lab's (then none is deleted), or the QueueError of a deletion.
    """
    global _private
    if private or not os.environ.get("QUEUE_URL"):
        _private = _private or Stack()
        os.environ["QUEUE_URL"], os.environ["QUEUE_DSN"] = _private.url, _private.dsn
    if _private and _is_at_hand(_private):
        _private.restart()
    names = [fresh] if isinstance(fresh, str) else list(fresh)
    with QPublisher() as publisher:
        _refuse_others(names, publisher)
        for name in names:
            with suppress(TopicNotFound):
                publisher.delete_topic(name)
    disposable.update((os.environ["QUEUE_URL"].rstrip("/"), name) for name in names)


def crash() -> None:
    """Kill the queue at hand with SIGKILL: the server and its PostgreSQL; again: nothing happens.

    Nothing acknowledged is lost; what was in flight has an unknown outcome. Raises StackError when
    the queue is not a private one of this process: `up(private=True)` makes one.
    """
    _crashable().crash()


def restart() -> None:
    """Start the queue at hand again after `crash`, on the same data and at the same address.

    Returns when the server answers. Publishers and subscribers made before go on working, sessions
    with the database do not. Raises StackError as `crash` does, or when it does not start.
    """
    _crashable().restart()


def _refuse_others(names: list[str], publisher: QPublisher) -> None:
    for name in names:
        with suppress(TopicNotFound):
            topic = publisher.topic(name)
            if not is_marked(topic.description):
                own = "" if _private and _is_at_hand(_private) else _OWN_QUEUE.format(name)
                raise StackError(_NOT_OURS.format(name, topic.head - topic.floor + 1) + own)


def _crashable() -> Stack:
    if _private is None or not _is_at_hand(_private):
        raise StackError("this queue is not ours to kill: call lab.up(private=True) first")
    return _private


def _is_at_hand(stack: Stack) -> bool:
    return os.environ.get("QUEUE_URL") == stack.url
