"""What this machine and this Postgres can do without a queue: the limits that all else is held against.

The disk writes 8 kB and waits for it (fdatasync), as a commit does. INSERT is one row a commit, over 1, 4
and 16 connections (pgbench, prepared). COPY is 1,000 rows a commit into a table with the columns and primary
key of queue.message. SELECT reads 1,000 rows by a range of the key into Python, JSON as text.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from functools import partial
from itertools import count

from tests.bench import publish
from tests.bench.fetch import selecting, stocked
from tests.bench.load import pgbench
from tests.bench.messages import PLAIN, Plain, batches, payloads
from tests.bench.rounds import Contender, Figures, Result, clocked, interleave
from tests.bench.stand import Stand

PART = "raw"
CONNECTIONS = (1, 4, 16)
_PAGE = b"x" * 8192
_WRITES = 200
_INSERTS = 2_000


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure all limits."""
    parts = list(batches(payloads(30_000), 1_000))
    with tempfile.NamedTemporaryFile(prefix="queue-bench-") as file:
        disk = Contender("8 kB + fdatasync", lambda: _writes(file.fileno()))
        results = interleave(PART, "disk", [disk], rounds)
    inserting = [
        replace(inserts(stand, clients), name=f"INSERT × {clients}") for clients in CONNECTIONS
    ]
    results += interleave(PART, "INSERT, one row a commit", inserting, rounds)
    copying = publish.copying(Plain(stand), parts)
    results += interleave(PART, "COPY, 1,000 rows a commit", [copying], rounds)
    selects = selecting(stand, stocked(stand, 100), 1_000)
    return results + interleave(PART, "SELECT, 1,000 rows", [selects], rounds)


def inserts(stand: Stand, clients: int = 1, transactions: int = _INSERTS) -> Contender:
    """INSERT with pgbench into the plain table, each client under a topic_id of its own."""
    stand.cursor().execute(PLAIN)
    starts = count(0, transactions)
    script = f"""\\set n :n + 1
insert into plain (topic_id, "offset", published_at, payload)
values (-{next(stand.numbers)}00 - :client_id, :n, clock_timestamp(), '{payloads(1)[0]}');
"""
    return Contender(
        "INSERT",
        lambda: pgbench(stand.served, script, transactions, clients, n=next(starts)),
    )


def _writes(file: int) -> Figures:
    def write(number: int) -> None:
        os.pwrite(file, _PAGE, number * len(_PAGE))
        os.fdatasync(file)

    return clocked(partial(write, number) for number in range(_WRITES))
