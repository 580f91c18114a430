"""What the server counts, and the lags that it asks the engine for when somebody looks."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.engines import Lag
from server.engines.errors import EngineError
from server.http.operations import Context

disable_created_metrics()  # type: ignore[no-untyped-call]
_FEW = 100  # lags; to write more takes so long that it is done off the loop
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


class _Lags(Collector):
    """What the engine said of the lags, None when it did not answer."""

    def __init__(self, found: tuple[Sequence[Lag], int] | None) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("queue_engine_up", "1 when the engine answers.")
        messages = GaugeMetricFamily(
            "queue_lag_messages", "Messages before the subscriber.", labels=["topic", "subscriber"]
        )
        seconds = GaugeMetricFamily(
            "queue_lag_seconds",
            "For how long the next message has waited.",
            labels=["topic", "subscriber"],
        )
        rest = GaugeMetricFamily(
            "queue_lag_subscribers_left_out",
            "Subscribers without a lag here: only those furthest behind have one, when they are many.",
        )
        up.add_metric([], 0 if self._found is None else 1)
        if self._found is None:
            yield up
            return
        lags, left_out = self._found
        for lag in lags:
            messages.add_metric([lag.topic, lag.subscriber], lag.messages)
            seconds.add_metric([lag.topic, lag.subscriber], float(lag.seconds))
        rest.add_metric([], left_out)
        yield from (up, messages, seconds, rest)


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
    found = None
    with suppress(EngineError):
        found = await context.engine.lags()
    _WAITING.set(context.wakeups.waiting)
    seen = CollectorRegistry()
    seen.register(_COUNTED)  # a registry is a collector, too
    seen.register(_Lags(found))
    if found is None or len(found[0]) < _FEW:
        return generate_latest(seen).decode()
    text = await asyncio.to_thread(generate_latest, seen)
    return text.decode()
