"""One forgotten transaction: 50,000 single publishes while a session in each database holds an old snapshot.

Dead row versions cannot be removed while it lasts, so what updates a row for every publish slows down. The
contenders take turns, 1,000 publishes each, fifty times, whatever the number of rounds of other parts. The last five
turns against the first five tell; INSERT, which leaves nothing dead behind, shows what the machine did meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from psycopg2.extensions import cursor

from qlib import lab
from tests.bench.messages import SQL, Plain, payloads
from tests.bench.rounds import Contender, Result, clocked, interleave
from tests.bench.stand import Stand

PART = "held"
CASE = "single × 100 B beside an old snapshot"
_TURN = 1_000
_TURNS = 50
_ENDS = 5
_COUNTER = Path(lab.__file__).with_name("sessions") / "strategies" / "counter_row.sql"


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure the one case; `rounds` does not count."""
    texts = payloads(_TURN)
    counter, plain = stand.queue("counter"), Plain(stand)
    counting = stand.cursor(counter)
    counting.execute("set local role queue_owner;\n" + _COUNTER.read_text())
    contenders = [
        Contender("INSERT", lambda: clocked(partial(plain.insert, text) for text in texts)),
        publishing(SQL, stand.cursor(), texts),
        publishing("lab: counter_row", counting, texts),
    ]
    for dsn in (stand.served, counter):
        stand.cursor(dsn).execute("begin isolation level repeatable read; select from queue.topic")
    return interleave(PART, CASE, contenders, _TURNS, warm_up=False)


def publishing(name: str, cursor: cursor, texts: Sequence[str]) -> Contender:
    """Publish one message after the other to a topic of one's own."""
    cursor.execute("select queue.create_topic(%s)", (PART,))
    publish = partial(cursor.execute, "select queue.publish(%s, %s)")
    return Contender(name, lambda: clocked(partial(publish, (PART, text)) for text in texts))


def last_to_first(rates: Sequence[float], beside: Sequence[float]) -> float:
    """Return how fast the last turns were against the first, where those beside stayed level."""
    level = [ours / theirs for ours, theirs in zip(rates, beside, strict=True)]
    return median(level[-_ENDS:]) / median(level[:_ENDS])
