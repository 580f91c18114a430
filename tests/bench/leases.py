"""Workers: messages leased and acknowledged a second by 1, 4 or 16 of them, beside pgmq; and where work piles up.

Workers are threads of this process, each with a session of its own, and prepared statements. Ours lease, which waits
for no disk, and acknowledge, which does; pgmq's read, which hides for half a minute, and delete. All messages of a
round are there before it. Fused: one session leases for 16 in one statement, and acknowledges for them in one, as a
server does; over HTTP are 16 connections of wrk, to the server as it is, and to one that makes each call alone.
Beside backlogs, holes and delays, and beside an old snapshot: see leases_piled.py. Left out: nacks, and order by key.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from tests.bench import leases_http, leases_piled, peers
from tests.bench.load import has_wrk
from tests.bench.messages import HTTP, SQL
from tests.bench.rounds import Contender, Result, interleave
from tests.bench.stand import Stand
from tests.bench.workers import Crew, Fused, Ours, Pgmq, measured

PART = "leases"
PGMQ = "pgmq"
FUSED = "ours (SQL), 16 fused"
SIZES = (100, 10, 1)
WORKERS = (1, 4, 16)
WAKE = "a worker's wake-up"
# of a round, for each worker
_MESSAGES = {100: 10_000, 10: 2_000, 1: 200}


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure all cases."""
    results: list[Result] = []
    with ExitStack() as opened:
        threads = opened.enter_context(ThreadPoolExecutor(max(WORKERS)))
        crews = list(_crews(stand))
        for size in SIZES:
            for workers in WORKERS:
                contenders = [_contender(crew, threads, workers, size) for crew in crews]
                if workers == leases_http.CONNECTIONS:
                    contenders.append(
                        _contender(Fused(FUSED, stand, stand.served), threads, 1, size, workers)
                    )
                    if size == 1 and has_wrk():
                        contenders += leases_http.contenders(stand, opened)
                results += interleave(PART, case(size, workers), contenders, rounds)
        waking = leases_http.waking(stand, opened)
        results += interleave(PART, WAKE, [Contender(HTTP, waking)], rounds)
    return [*results, *leases_piled.measure(stand, PART, rounds)]


def case(size: int, workers: int) -> str:
    """Return the name of the case of leases of a size."""
    return f"leases of {size}, workers: {workers}"


def _crews(stand: Stand) -> Iterator[Crew]:
    """Yield pgmq's first, where it is: what is compared is ours / pgmq."""
    if PGMQ not in dict(peers.absent()):
        yield Pgmq(PGMQ, stand)
    yield Ours(SQL, stand, stand.served)


def _contender(
    crew: Crew, threads: ThreadPoolExecutor, workers: int, size: int, share: int = 1
) -> Contender:
    messages = _MESSAGES[size] * workers * share
    return Contender(
        crew.name,
        partial(measured, crew, threads, workers, size, messages),
        partial(crew.prepare, workers, messages),
    )
