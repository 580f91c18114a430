"""What the server counts, and the lags that it asks the engine for when somebody looks."""

from collections.abc import Iterator
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from server.http.errors import Problem
from server.http.operations import Context

disable_created_metrics()  # type: ignore[no-untyped-call]
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
    def __init__(self, context: Context) -> None:
        self._context = context

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
        try:
            lags, left_out = self._context.engine.lags()
        except Problem:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        for lag in lags:
            messages.add_metric([lag.topic, lag.subscriber], lag.messages)
            seconds.add_metric([lag.topic, lag.subscriber], float(lag.seconds))
        rest.add_metric([], left_out)
        yield from (up, messages, seconds, rest)


def count(operation: str, status: int, seconds: float) -> None:
    """Count a request: which operation it was, how it was answered and how long that took."""
    answered, took = _series(operation, status)
    answered.inc()
    took.observe(seconds)


@cache  # there are few, and to look one up takes longer than to count
def _series(operation: str, status: int) -> tuple[Counter, Histogram]:
    return _REQUESTS.labels(operation, status), _SECONDS.labels(operation)


def registry(context: Context) -> CollectorRegistry:
    """Return everything that there is to be seen now."""
    _WAITING.set(context.wakeups.waiting)
    seen = CollectorRegistry()
    seen.register(_COUNTED)  # a registry is a collector, too
    seen.register(_Lags(context))
    return seen
