"""What was to be reached, and whether it was: each target is computed from results of one interleaved run."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench import (
    base,
    buffered,
    checker,
    checkout,
    fanout,
    fetch,
    growth,
    held,
    idle,
    latency,
    leases_targets,
    publish,
    publishers,
    waiting,
)
from tests.bench.messages import HTTP, QLIB, SQL
from tests.bench.rounds import P50, P99, RATE
from tests.bench.target import Found, Target


def _published(one: str, other: str) -> Callable[[Found], float]:
    return lambda found: found.ratio(publish.PART, publish.case(1_000), one, other)


def _at_once(number: int, one: str, other: str, unit: str) -> Callable[[Found], float]:
    case = publishers.case("single", number, 1)
    return lambda found: found.ratio(publishers.PART, case, one, other, unit)


def _buffered(one: str, other: str) -> Callable[[Found], float]:
    return lambda found: found.ratio(buffered.PART, buffered.CASE, one, other)


def _delivered(one: str, other: str, unit: str = RATE) -> Callable[[Found], float]:
    return lambda found: found.ratio(fanout.PART, fanout.case(16), one, other, unit)


def _waited(unit: str) -> Callable[[Found], float]:
    """Return the worse of both rates."""
    cases = latency.LOW, latency.HALF
    return lambda found: max(found.result(latency.PART, c, HTTP, unit).median for c in cases)


def _cost(size: growth.Size) -> Callable[[Found], float]:
    """Return what the call costs that suffers most, where the same one in the small queue costs 1."""
    small, large = str(growth.SMALL), str(size)
    return lambda found: max(found.ratio(growth.PART, c, large, small, P50) for c in growth.CALLS)


def _fetched(found: Found) -> float:
    return found.ratio(fetch.PART, fetch.case(1_000), HTTP, "SELECT")


def _many(found: Found) -> float:
    return found.ratio(publish.PART, publish.MANY, QLIB, "COPY")


def _held(found: Found) -> float:
    waits = (found.result(held.PART, held.CASE, name, P50).rounds for name in (SQL, "INSERT"))
    return held.last_to_first(*([1 / wait for wait in of_one] for of_one in waits))


def _beside(case: str, unit: str) -> Callable[[Found], float]:
    return lambda found: found.ratio(base.PART, case, base.THIS, base.BASE, unit)


def _polled(unit: str) -> Callable[[Found], float]:
    case = waiting.case(waiting.POLLS)
    return lambda found: found.result(waiting.PART, case, HTTP, unit).median


def _rested(unit: str) -> Callable[[Found], float]:
    return lambda found: found.result(idle.PART, idle.case(), HTTP, unit).median


def _checked(found: Found) -> float:
    return found.result(checker.PART, checker.CASE, checker.NAME, checker.SECONDS).median


TARGETS = (
    Target("publish 1,000 × 100 B in SQL / COPY", "≥", 0.85, _published(SQL, "COPY")),
    Target("the same over HTTP, one client / COPY", "≥", 0.55, _published(HTTP, "COPY")),
    Target("publish 1,000 × 100 B in SQL / pgmq", "≥", 2.0, _published(SQL, "pgmq")),
    Target("publish 1,000 × 100 B in SQL / PgQue", "≥", 1.6, _published(SQL, "PgQue")),
    Target(
        "single publish in SQL / INSERT, by pgbench", "≥", 0.85, _at_once(1, SQL, "INSERT", RATE)
    ),
    Target(
        "single publish over HTTP, by wrk / INSERT, p50 (3.0 wished for)",
        "≤",
        3.4,
        _at_once(1, HTTP, "INSERT", P50),
    ),
    Target("16 over HTTP / 16 in SQL, one topic", "≥", 2.5, _at_once(16, HTTP, SQL, RATE)),
    Target("fetch 1,000 × 100 B over HTTP / SELECT", "≥", 1.0, _fetched),
    Target("qlib publish_many, 100,000 × 100 B / COPY", "≥", 0.4, _many),
    Target(
        "qlib buffered, handles kept / publish", "≥", 40.0, _buffered(buffered.KEPT, buffered.PLAIN)
    ),
    Target("the same / publish_many", "≥", 0.4, _buffered(buffered.KEPT, buffered.MANY)),
    Target(
        "qlib buffered, no handle kept / publish_many",
        "≥",
        0.6,
        _buffered(buffered.NOT_KEPT, buffered.MANY),
    ),
    Target("fan-out to 16 in SQL / pgmq", "≥", 10.0, _delivered(SQL, "pgmq")),
    Target("fan-out to 16 in SQL / PgQue", "≥", 2.2, _delivered(SQL, "PgQue")),
    Target("its WAL a message / pgmq", "≤", 1 / 55, _delivered(SQL, "pgmq", fanout.WAL)),
    *leases_targets.TARGETS,
    Target("publish to delivery over HTTP, the slower rate, ms p50", "≤", 2.0, _waited(P50)),
    Target("publish to delivery over HTTP, the slower rate, ms p99", "≤", 10.0, _waited(P99)),
    Target("last / first 5,000 publishes beside an old snapshot", "≥", 0.9, _held),
    Target("cost with 1,000 × the messages", "≤", 1.2, _cost(growth.MESSAGES)),
    Target("cost with 1,000 × the topics", "≤", 1.2, _cost(growth.TOPICS)),
    Target("lab.check, 100,000 operations, s", "≤", 5.0, _checked),
    Target("10,000 idle long polls, MB more", "≤", 300, _polled(waiting.MEMORY)),
    Target("ping beside them, ms p99", "≤", 10.0, _polled(waiting.unit(waiting.PINGED, 99))),
    Target("one of them woken, ms p99", "≤", 50.0, _polled(waiting.unit(waiting.WOKEN, 99))),
    Target("all of them woken at once, s", "≤", 2.0, _polled(waiting.ALL)),
    *(
        Target(text, sign, bound, _beside(case, unit), checkout.VARIABLE)
        for text, sign, bound, case, unit in (
            ("singles over HTTP, 1 connection, p50 / base", "≤", 1.05, base.case(1), P50),
            ("the same, 16 connections, messages / base", "≥", 1.5, base.case(16), RATE),
            ("the same, 64 connections, messages / base", "≥", 2.2, base.case(64), RATE),
            ("CPU of qlib.fetch(1000) / base", "≤", 0.3, base.FETCH, base.CPU),
            ("CPU of qlib.publish / base", "≤", 0.35, base.PUBLISH, base.CPU),
            ("CPU of qlib.publish_many(1000) / base", "≤", 0.5, base.MANY, base.CPU),
            ("qlib, delivered to 16 / base", "≥", 3.0, base.DELIVERED, RATE),
        )
    ),
    Target(
        "idle beside 100,000 topics: MB, last quarter − first",
        "≤",
        5.0,
        _rested(idle.GROWTH),
        idle.PART,
    ),
    Target("the same, % of a core", "≤", 1.0, _rested(idle.CPU), idle.PART),
)
