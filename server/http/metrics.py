"""What the server counts, and what it asks the engine for when somebody looks: lags, and workers' loads."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.engines import Lag, Workload
from server.engines.errors import EngineError
from server.http.operations import Context

disable_created_metrics()  # type: ignore[no-untyped-call]
_FEW = 100  # subscribers; to write more takes so long that it is done off the loop
_COUNTED = CollectorRegistry()

_REQUESTS = Counter(
    "queue_requests", "Requests answered.", ["operation", "status"], registry=_COUNTED
)
_SECONDS = Histogram(
    "queue_request_seconds",
    "How long it took to answer, long polls included.",
    ["operation"],
    registry=_COUNTED,
)
PUBLISHED = Counter("queue_published_messages", "Messages published.", registry=_COUNTED)
_WAITING = Gauge("queue_waiting_polls", "Long polls that wait now.", registry=_COUNTED)


_LABELS = ["topic", "subscriber"]


class _Asked(NamedTuple):
    """What the engine said: the lags, how many have none here, and what the workers are at."""

    lags: Sequence[Lag]
    left_out: int
    workloads: Sequence[Workload] = ()


class _Engine(Collector):
    """What the engine said, None when it did not answer."""

    def __init__(self, asked: _Asked | None) -> None:
        self._asked = asked

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("queue_engine_up", "1 when the engine answers.")
        up.add_metric([], 0 if self._asked is None else 1)
        yield up
        if self._asked is not None:
            yield from _of_lags(self._asked.lags, self._asked.left_out)
            yield from _of_workloads(self._asked.workloads)


def _of_lags(lags: Sequence[Lag], left_out: int) -> Iterator[Metric]:
    messages = GaugeMetricFamily(
        "queue_lag_messages", "Messages before the subscriber.", labels=_LABELS
    )
    seconds = GaugeMetricFamily(
        "queue_lag_seconds", "For how long the next message has waited.", labels=_LABELS
    )
    rest = GaugeMetricFamily(
        "queue_lag_subscribers_left_out",
        "Subscribers without a lag here: only those furthest behind have one, when they are many.",
    )
    for lag in lags:
        messages.add_metric([lag.topic, lag.subscriber], lag.messages)
        seconds.add_metric([lag.topic, lag.subscriber], float(lag.seconds))
    rest.add_metric([], left_out)
    yield from (messages, seconds, rest)


def _of_workloads(workloads: Sequence[Workload]) -> Iterator[Metric]:
    leased = GaugeMetricFamily(
        "queue_leased_messages", "Messages that workers have for themselves.", labels=_LABELS
    )
    delayed = GaugeMetricFamily(
        "queue_delayed_messages", "Messages that were given back and rest.", labels=_LABELS
    )
    dead = GaugeMetricFamily("queue_dead_messages", "Dead letters.", labels=_LABELS)
    again = CounterMetricFamily(
        "queue_redeliveries", "Messages leased for another attempt than the first.", labels=_LABELS
    )
    oldest = GaugeMetricFamily(
        "queue_oldest_lease_seconds",
        "For how long the oldest lease is held; 0 when there is none.",
        labels=_LABELS,
    )
    for one in workloads:
        labels = [one.topic, one.subscriber]
        leased.add_metric(labels, one.leased)
        delayed.add_metric(labels, one.delayed)
        dead.add_metric(labels, one.dead)
        again.add_metric(labels, one.redeliveries)
        oldest.add_metric(labels, float(one.oldest_lease_seconds or 0))
    yield from (leased, delayed, dead, again, oldest)


def count(operation: str, status: int | None, seconds: float) -> None:
    """Count a request: which operation it was, how it was answered and how long that took.

    Without a status its client has left: there was no answer.
    """
    answered, took = _series(operation, "left" if status is None else str(status))
    answered.inc()
    if status is not None:
        took.observe(seconds)


@cache  # there are few, and to look one up takes longer than to count
def _series(operation: str, status: str) -> tuple[Counter, Histogram]:
    return _REQUESTS.labels(operation, status), _SECONDS.labels(operation)


async def exposition(context: Context) -> str:
    """Return everything that there is to be seen now, in Prometheus' text format."""
    asked = None
    with suppress(EngineError):
        asked = _Asked(*await context.engine.lags())
        asked = asked._replace(workloads=await context.engine.workloads())
    _WAITING.set(context.wakeups.waiting)
    seen = CollectorRegistry()
    seen.register(_COUNTED)  # a registry is a collector, too
    seen.register(_Engine(asked))
    if asked is None or len(asked.lags) + len(asked.workloads) < _FEW:
        return generate_latest(seen).decode()
    text = await asyncio.to_thread(generate_latest, seen)
    return text.decode()
