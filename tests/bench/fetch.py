"""One reader: messages a second against how many it fetches at a time, none of them read twice in a round.

SELECT reads the rows of queue.message by the range of their key, JSON as text, into Python. SQL calls
queue.fetch the same way, HTTP reads the answer and looks no closer, qlib makes messages of it. Nothing is
acknowledged: what an ack costs shows in the parts fanout and growth. Left out: long polls (see latency)
and several readers at once (see fanout).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import cycle

from qlib import QSubscriber
from tests.bench.messages import HTTP, QLIB, SQL, array, batches, payloads
from tests.bench.rounds import Contender, Result, interleave
from tests.bench.stand import Stand
from tests.bench.wire import Wire

PART = "fetch"
STOCK = 100_000
COUNTS = {1: 300, 100: 10_000, 1_000: 30_000, 10_000: 40_000}
_SUBSCRIBER = "reader"
_COLUMNS = '"offset", published_at, key, headers::text, payload::text'


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure all cases."""
    results = []
    for bytes_each, sizes in ((100, COUNTS), (1_000, (1_000,))):
        topic = stocked(stand, bytes_each)
        for size in sizes:
            results += measure(stand, rounds, topic, size, bytes_each)
    return results


def case(size: int, bytes_each: int = 100) -> str:
    """Return the name of the case of fetches of a size."""
    return f"{size:,} × {bytes_each:,} B"


def stocked(stand: Stand, bytes_each: int) -> str:
    """Make a topic with messages and a subscriber at its floor; return its name."""
    cursor, topic = stand.cursor(), stand.topic()
    for part in batches(payloads(STOCK, bytes_each), 10_000):
        cursor.execute("select queue.publish_batch(%s, %s)", (topic, array(part)))
    cursor.execute("select queue.subscribe(%s, %s, 'earliest')", (topic, _SUBSCRIBER))
    cursor.execute("vacuum analyze queue.message")  # as autovacuum would, but not in a round
    return topic


def measure(stand: Stand, rounds: int, topic: str, size: int, bytes_each: int) -> list[Result]:
    """Measure one case."""
    with ExitStack() as opened:
        wire = opened.enter_context(Wire(stand.url))
        reader = opened.enter_context(QSubscriber(topic, _SUBSCRIBER, url=stand.url))
        contenders = [
            selecting(stand, topic, size),
            in_sql(stand, topic, size),
            over_http(wire, topic, size),
            by_qlib(reader, size),
        ]
        return interleave(PART, case(size, bytes_each), contenders, rounds)


def selecting(stand: Stand, topic: str, size: int) -> Contender:
    """SELECT the rows by the range of their key."""
    cursor = stand.cursor()
    cursor.execute("select topic_id from queue.topic where name = %s", (topic,))
    ((number,),) = cursor.fetchall()
    statement = f"""select {_COLUMNS} from queue.message where topic_id = %s and "offset" > %s
                    order by "offset" limit %s"""

    def rows(after: int) -> int:
        cursor.execute(statement, (number, after, size))
        return len(cursor.fetchall())

    return Contender("SELECT", walking(rows, size))


def in_sql(stand: Stand, topic: str, size: int) -> Contender:
    """Call queue.fetch."""
    cursor = stand.cursor()
    statement = f"select {_COLUMNS}, epoch from queue.fetch(%s, %s, %s, %s)"

    def rows(after: int) -> int:
        cursor.execute(statement, (topic, _SUBSCRIBER, size, after))
        return len(cursor.fetchall())

    return Contender(SQL, walking(rows, size))


def over_http(wire: Wire, topic: str, size: int) -> Contender:
    """GET over one connection, and count the messages of the answer."""
    path = f"/topics/{topic}/subscribers/{_SUBSCRIBER}/messages?limit={size}&after="

    def rows(after: int) -> int:
        return wire.get(f"{path}{after}").count(b'{"offset":')

    return Contender(HTTP, walking(rows, size))


def by_qlib(reader: QSubscriber, size: int) -> Contender:
    """Fetch with the client."""
    return Contender(QLIB, walking(lambda after: len(reader.fetch(size, after=after)), size))


def walking(rows: Callable[[int], int], size: int) -> Callable[[], int]:
    """Return work that walks on through the topic, `size` messages at a time, round after round."""
    after: Iterator[int] = cycle(range(0, STOCK, size))
    times = COUNTS[size] // size

    def work() -> int:
        found = sum(rows(next(after)) for _ in range(times))
        assert found == times * size, "a fetch was short"
        return found

    return work
