"""An idle server: 100,000 topics that nobody watches, for an hour (BENCH_IDLE_MINUTES); only when it is named.

One round: the memory of the server's processes, medians of the first and of the last quarter of the time, and how
much of one core they take meanwhile. Each topic holds one message, and nobody asks for anything. Left out: the
database.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from statistics import median

from tests.bench.messages import HTTP, payloads
from tests.bench.processes import Processes
from tests.bench.rounds import Contender, Figures, Result, interleave
from tests.bench.stand import Stand
from tests.bench.wire import Wire

PART = "idle"
VARIABLE = "BENCH_IDLE_MINUTES"
MINUTES = 60.0
GROWTH, FIRST, CPU = "MB, last quarter − first", "MB, first quarter", "% of a core"
_TOPICS = 100_000
_SAMPLES = 720  # every five seconds of an hour

_MAKE = "insert into queue.topic (name) select 'topic-' || n from generate_series(1, %s) n"
_FILL = """insert into queue.message (topic_id, "offset", published_at, payload)
           select topic_id, 1, clock_timestamp(), %s from queue.topic where name like 'topic-%%'"""


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure the one case, once; `rounds` does not count."""
    minutes = float(os.environ.get(VARIABLE) or MINUTES)
    cursor = stand.cursor()
    cursor.execute(_MAKE, (_TOPICS,))
    cursor.execute(_FILL, payloads(1))
    cursor.execute("vacuum analyze")
    with Wire(stand.url) as wire:
        wire.get("/health")
    contender = Contender(HTTP, lambda: resting(Processes(stand.url), minutes * 60))
    return interleave(PART, case(minutes), [contender], 1, warm_up=False)


def case(minutes: float = MINUTES) -> str:
    """Return the name of the case of so many minutes."""
    return f"100,000 topics watched by nobody, {minutes:g} min"


def resting(
    processes: Processes, seconds: float, sleep: Callable[[float], object] = time.sleep
) -> Figures:
    """Watch the processes for so long."""
    before, sizes = processes.seconds(), []
    for _ in range(_SAMPLES):
        sleep(seconds / _SAMPLES)
        sizes.append(processes.megabytes())
    busy = processes.seconds() - before
    return {GROWTH: growth(sizes), FIRST: _first(sizes), CPU: 100 * busy / seconds}


def growth(sizes: Sequence[float]) -> float:
    """Return how much the last quarter is above the first."""
    return median(sizes[-(len(sizes) // 4) :]) - _first(sizes)


def _first(sizes: Sequence[float]) -> float:
    return median(sizes[: len(sizes) // 4])
