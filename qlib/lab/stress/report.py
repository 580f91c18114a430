"""The one table at the end of a run, and its verdict."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from qlib.lab.checker import Verdict
from qlib.lab.history import History
from qlib.lab.history.operation import Operation

_HEADINGS = ("", "requests", "/s", "messages", "/s", "p50 ms", "p99 ms", "max ms", "errors")
_WORK = {"lease": "lease", "ack_lease": "ack of a lease", "nack": "nack", "extend": "extend"}
_ROWS = {"publish": "publish", "fetch": "fetch", "ack": "ack"} | dict.fromkeys(
    ("reset", "seek"), "reset, seek"
)


@dataclass
class _Row:
    """One line of the table."""

    name: str
    requests: int = 0
    messages: int = 0
    began: float = 0.0
    ended: float = 0.0
    latencies: array[float] = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, operation: Operation, measured: bool) -> None:
        """Count one request; it is `measured` when its time says something about the queue."""
        self.requests += 1
        self.began = min(self.began or operation.start, operation.start)
        self.ended = max(self.ended, operation.end)
        if operation.outcome != "ok":
            self.errors[operation.error or operation.outcome] += 1
            return
        self.messages += len(operation.values) or operation.count or 0
        if measured:
            self.latencies.append(operation.end - operation.start)

    def cells(self) -> list[str]:
        """Return the line's texts."""
        seconds = self.ended - self.began
        return [
            self.name,
            *_amount(self.requests, seconds),
            *_amount(self.messages, seconds),
            *_percentiles(self.latencies),
            ", ".join(f"{name} {count:,}" for name, count in self.errors.most_common()),
        ]


class _Published:
    """When the messages of a topic were published, as far as there was an answer."""

    def __init__(self, publishes: Iterable[Operation]) -> None:
        """Sort them by their offsets."""
        self._publishes = sorted(publishes, key=lambda o: o.offsets)
        self._offsets = [o.offsets[0] for o in self._publishes]

    def of(self, offset: int) -> Operation:
        """Return the publish of an offset, or the last one before it that was answered."""
        # Of a publish without an answer nobody knows which offsets it got.
        return self._publishes[max(bisect_right(self._offsets, offset) - 1, 0)]


def table(history: History) -> str:
    """Return counts, rates, latencies and errors of every kind of request, aligned.

    The latency of a fetch is that of one with nothing to wait for: its first message's publish had
    returned before; that of a lease is of one that was not to wait. A delivery lasts from the start
    of the publish to the end of the first fetch that brought the message; one is measured a fetch,
    that of the oldest message that was new.
    """
    published = _published(history.operations)
    seen = {o.kind for o in history.operations}
    kinds = _ROWS | {kind: row for kind, row in _WORK.items() if kind in seen}
    rows = {name: _Row(name) for name in kinds.values()}
    for o in history.operations:
        if o.kind in kinds:
            waited = o.kind == "fetch" and not _was_there(o, published)
            rows[kinds[o.kind]].add(o, not (waited or o.wait))
    delivery = _Row("publish → deliver", latencies=_deliveries(history, published))
    lines = [_HEADINGS, *(row.cells() for row in (*rows.values(), delivery))]
    return "\n".join(_aligned(lines))


def conclusion(
    history: History, verdict: Verdict, failures: Sequence[str], killed: Mapping[str, int]
) -> str:
    """Return the verdict's line, what was checked and killed, and an example of each fault."""
    clean = verdict and not failures
    lines = [f"{'CLEAN' if clean else 'BROKEN'}: {verdict.line}", f"  {verdict.checked}"]
    stored = {value for o in history.operations if o.kind == "final_read" for value in o.values}
    doubts = [o for o in history.operations if o.kind == "publish" and o.outcome == "unknown"]
    if doubts:
        settled = sum(value in stored for o in doubts for value in o.values)
        doubt = f"{sum(len(o.values) for o in doubts):,} more, of which {settled:,} are stored"
        lines.append(f"  no answer to the publishes of {doubt}")
    if killed:
        what = ", ".join(f"{count:,} {name}" for name, count in sorted(killed.items()))
        lines.append(f"  killed meanwhile: {what}")
    return "\n".join(lines + [f"  {it}" for it in (*verdict.anomalies, *failures)])


def _published(operations: Iterable[Operation]) -> dict[str, _Published]:
    topics: dict[str, list[Operation]] = defaultdict(list)
    for o in operations:
        if o.kind == "publish" and o.outcome == "ok":
            topics[o.topic].append(o)
    return {topic: _Published(publishes) for topic, publishes in topics.items()}


def _was_there(fetch: Operation, published: Mapping[str, _Published]) -> bool:
    if not fetch.offsets or fetch.topic not in published:
        return False
    return published[fetch.topic].of(fetch.offsets[0]).end < fetch.start


def _deliveries(history: History, published: Mapping[str, _Published]) -> array[float]:
    fetches = (o for o in history.operations if o.kind == "fetch" and o.offsets)
    highest: dict[tuple[str, str | None], int] = defaultdict(int)
    latencies = array("d")
    for fetch in sorted(fetches, key=lambda o: o.end):
        reader, last = (fetch.topic, fetch.subscriber), fetch.offsets[-1]
        if fetch.topic in published and last > highest[reader]:
            oldest = max(fetch.offsets[0], highest[reader] + 1)
            latencies.append(fetch.end - published[fetch.topic].of(oldest).start)
            highest[reader] = last
    return latencies


def _amount(count: int, seconds: float) -> tuple[str, str]:
    if not count or not seconds:
        return "", ""
    rate = count / seconds
    return f"{count:,}", f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _percentiles(latencies: array[float]) -> Iterator[str]:
    ordered = sorted(latencies)
    for share in (0.50, 0.99, 1.0):
        index = min(int(share * len(ordered)), len(ordered) - 1)
        yield f"{ordered[index] * 1e3:,.1f}" if ordered else ""


def _aligned(rows: Iterable[Iterable[str]]) -> Iterator[str]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    for first, *middle, last in zip(*columns, strict=True):
        numbers = (f"{cell:>{width}}" for cell, width in zip(middle, widths[1:-1], strict=True))
        yield "  ".join([f"{first:<{widths[0]}}", *numbers, last]).rstrip()
