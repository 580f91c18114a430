"""Many publishers: 1, 4 and 16 of them, on one topic and on as many topics as publishers.

Single messages come from programs in C: pgbench inserts and calls queue.publish, prepared, and wrk posts.
Batches of 1,000 come from threads of this process, one session each, and from wrk. On one topic all wait for
each other's commits, since offsets are given out in commit order; INSERT and COPY have no such duty. Left
out: batches of 10, 100 and 10,000 by many (between the cells that are here), and the client, whose
threads would share one Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.bench import publish
from tests.bench.load import has_wrk, pgbench, wrk
from tests.bench.messages import HTTP, SQL, Plain, array, batches, payloads
from tests.bench.raw import inserts
from tests.bench.rounds import Contender, Result, interleave
from tests.bench.stand import Stand

PART = "publishers"
SINGLE = ((1, 1), (4, 1), (16, 1), (16, 16))  # publishers and topics
BATCHED = ((4, 1), (16, 16))
_TRANSACTIONS = {1: 2_000, 4: 3_000, 16: 5_000}
_MESSAGES = 64_000  # of all publishers of batches


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure all cases."""
    results = []
    for publishers, topics in SINGLE:
        contenders = singles(stand, publishers, stand.topics(topics))
        results += interleave(PART, case("single", publishers, topics), contenders, rounds)
    with ThreadPoolExecutor(16) as threads:
        for publishers, topics in BATCHED:
            contenders = batched(stand, threads, publishers, stand.topics(topics))
            results += interleave(PART, case("1,000", publishers, topics), contenders, rounds)
    return results


def case(size: str, publishers: int, topics: int) -> str:
    """Return the name of a case."""
    return f"{size} × 100 B, publishers: {publishers}, topics: {topics}"


def singles(stand: Stand, publishers: int, topics: Sequence[str]) -> list[Contender]:
    """Return those who publish one message at a time."""
    texts, count = payloads(1), _TRANSACTIONS[publishers]
    stem = topics[0].removesuffix("0")
    script = f"select queue.publish('{stem}' || :client_id % {len(topics)}, '{texts[0]}');"
    contenders = [
        inserts(stand, publishers, count),
        Contender(SQL, lambda: pgbench(stand.served, script, count, publishers)),
    ]
    if has_wrk():
        contenders.append(Contender(HTTP, lambda: wrk(stand.url, topics, texts, publishers)))
    return contenders


def batched(
    stand: Stand, threads: ThreadPoolExecutor, publishers: int, topics: Sequence[str]
) -> list[Contender]:
    """Return those who publish 1,000 messages at a time."""
    parts = list(batches(payloads(_MESSAGES // publishers), 1_000))
    chosen = [topics[number % len(topics)] for number in range(publishers)]
    contenders = [
        _together(threads, [publish.copying(Plain(stand), parts) for _ in chosen]),
        _together(threads, [in_sql(stand, topic, parts) for topic in chosen]),
    ]
    if has_wrk():
        contenders.append(Contender(HTTP, lambda: wrk(stand.url, topics, parts[0], publishers)))
    return contenders


def in_sql(stand: Stand, topic: str, parts: Sequence[Sequence[str]]) -> Contender:
    """Call queue.publish_batch over a session of its own."""
    cursor, texts = stand.cursor(), list(map(array, parts))

    def work() -> int:
        for text in texts:
            cursor.execute("select queue.publish_batch(%s, %s)", (topic, text))
        return sum(map(len, parts))

    return Contender(SQL, work)


def _together(threads: ThreadPoolExecutor, contenders: Sequence[Contender]) -> Contender:
    """Return one contender of several who work at the same time."""

    def before() -> None:
        for contender in contenders:
            contender.before()

    def work() -> int:
        return sum(threads.map(lambda contender: contender.work(), contenders))

    return Contender(contenders[0].name, work, before)
