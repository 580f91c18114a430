"""The lab's checker: how long it takes to judge a history of 100,000 operations of a dozen processes.

The history is drawn at random from a right queue in memory, with faults; it is the same in every round.
"""

from __future__ import annotations

import time

from qlib.lab.checker import check
from tests.bench.rounds import Contender, Figures, Result, interleave
from tests.bench.stand import Stand
from tests.lab.checker.model_queue import random_history

PART = "checker"
CASE = "100,000 operations"
NAME = "lab.check"
SECONDS = "s"
_OPERATIONS = 100_000
_TURNS = 240_000  # a little more than two for an operation


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure the one case; it needs no stand."""
    history = random_history(0, turns=_TURNS)

    def work() -> Figures:
        begin = time.perf_counter()
        verdict = check(history, faults=True)
        seconds = time.perf_counter() - begin
        assert verdict, verdict
        return {SECONDS: seconds * _OPERATIONS / verdict.operations}

    return interleave(PART, CASE, [Contender(NAME, work)], rounds)
