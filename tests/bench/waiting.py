"""Idle long polls: 10,000 in one server, what they hold and who feels them while they wait; and waking them.

Each is of a subscriber of its own, over a connection of its own, from this one process (see polls.py). All but one
wait for the same topic. A round lets them gather, untimed; then come pings, requests without a database (a 404) and
/health with one; then the one poll of the other topic is woken, time after time, from the publish's sending to the
answer's end; then a single publish wakes all others, until the last answer is there. Memory is that of the server's
processes, against the time before the first round. Left out: polls that end empty, and one subscriber with many polls.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from psycopg2.extensions import cursor

from tests.bench.messages import HTTP, payloads, request_body
from tests.bench.polls import Polls
from tests.bench.processes import Processes
from tests.bench.rounds import Contender, Figures, Result, interleave, percentiles
from tests.bench.stand import Stand
from tests.bench.wire import Wire

PART = "waiting"
POLLS = 10_000
MEMORY, ALL = "MB more", "s, all woken"
PINGED, HEALTH, WOKEN = "ping", "health", "a wake"
_PINGS = 500
_WAKES = 200
_WAIT = 60  # seconds of a long poll
_BETWEEN_WAKES = 0.01  # seconds; in one hundredth the poll waits again
_QUIET = 0.25  # seconds
_PATIENCE = 20.0  # seconds

_SUBSCRIBE = "select queue.subscribe(%s, 'reader-' || n, 'earliest') from generate_series(1, %s) n"
_BODY = request_body(payloads(1)).encode()


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure the one case."""
    with ExitStack() as opened:
        crowd = opened.enter_context(Crowd(stand.url, stand.cursor(), POLLS, PART))
        return interleave(PART, case(POLLS), [crowd.contender(HTTP)], rounds)


def case(polls: int) -> str:
    """Return the name of the case of so many polls."""
    return f"{polls:,} idle long polls"


def unit(what: str, percentile: int) -> str:
    """Return the unit of a percentile of pings, of calls of /health or of single wakes."""
    return f"ms p{percentile} {what}"


class Crowd:
    """So many long polls of one server, all but the last of one topic; a context manager.

    Makes two topics of this name, through the server's database.
    """

    def __init__(self, url: str, cursor: cursor, count: int, name: str) -> None:
        self._all_but_one, self._one = range(count - 1), count - 1
        self._topics = f"{name}-all", f"{name}-one"
        self._published = [0, 0]
        for topic, subscribers in zip(self._topics, (count - 1, 1), strict=True):
            cursor.execute("select queue.create_topic(%s)", (topic,))
            cursor.execute(_SUBSCRIBE, (topic, subscribers))
        self._count, self._processes = count, Processes(url)
        self._polls, self._wire = Polls(url, count), Wire(url)

    def __enter__(self) -> Crowd:
        with ExitStack() as opened:
            opened.enter_context(self._polls)
            opened.enter_context(self._wire)
            self._opened = opened.pop_all()
        self._wire.get("/openapi.json")  # what is made at the first request, is
        self._at_first = self._processes.megabytes()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def contender(self, name: str) -> Contender:
        """Return who measures it all."""
        return Contender(name, self._measured, self._gather)

    def _gather(self) -> None:
        """Return when all wait."""
        self._polls.renew()
        self._polls.send({number: self._path(0, number + 1) for number in self._all_but_one})
        self._polls.send({self._one: self._path(1, 1)})
        deadline = time.monotonic() + _PATIENCE
        while (waiting := self._waiting()) != self._count:
            assert time.monotonic() < deadline, f"{waiting} polls wait, not {self._count}"
            time.sleep(_QUIET)
        while not self._quiet() and time.monotonic() < deadline:
            pass

    def _measured(self) -> Figures:
        memory = self._processes.megabytes() - self._at_first
        pinged = [_seconds(partial(self._wire.get, "/nowhere", "404")) for _ in range(_PINGS)]
        health = [_seconds(partial(self._wire.get, "/health")) for _ in range(_PINGS)]
        woken = [_seconds(self._wake_one)]
        for _ in range(_WAKES - 1):
            self._polls.send({self._one: self._path(1, 1)})
            time.sleep(_BETWEEN_WAKES)
            woken.append(_seconds(self._wake_one))
        figures = {MEMORY: memory, ALL: _seconds(self._wake_all)}
        for what, seconds in ((PINGED, pinged), (HEALTH, health), (WOKEN, woken)):
            figures |= {f"{name} {what}": figure for name, figure in percentiles(seconds).items()}
        return figures

    def _wake_one(self) -> None:
        self._publish(1)
        _check(self._polls.answers([self._one]))

    def _wake_all(self) -> None:
        self._publish(0)
        _check(self._polls.answers(self._all_but_one))

    def _publish(self, which: int) -> None:
        self._published[which] += 1
        self._wire.post(f"/topics/{self._topics[which]}/messages", _BODY)

    def _path(self, which: int, reader: int) -> str:
        path = f"/topics/{self._topics[which]}/subscribers/reader-{reader}/messages"
        return f"{path}?wait={_WAIT}&after={self._published[which]}"

    def _waiting(self) -> int:
        found = re.search(rb"^queue_waiting_polls (\d+)", self._wire.get("/metrics"), re.MULTILINE)
        assert found
        return int(found[1])

    def _quiet(self) -> bool:
        """Return whether the server had little to do for a moment."""
        before = self._processes.seconds()
        time.sleep(_QUIET)
        return self._processes.seconds() - before < _QUIET / 5


def _seconds(act: Callable[[], object]) -> float:
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def _check(answers: list[bytes]) -> None:
    strange = [answer for answer in answers if answer.count(b'{"offset":') != 1]
    assert not strange, f"{len(strange)} polls were not woken by the message: {strange[0]!r}"
