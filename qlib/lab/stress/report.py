"""The one table at the end of a run, and its verdict."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from qlib.lab.stress.findings import Verdict
from qlib.lab.stress.records import OK, OUTCOMES, Ack, Fetch, History, Move, Publish

_HEADINGS = ("", "requests", "/s", "messages", "/s", "p50 ms", "p99 ms", "max ms", "errors")


@dataclass
class _Row:
    """One line of the table, gathered in one pass over the records of one kind."""

    name: str
    requests: int = 0
    messages: int = 0
    began: int = 0
    ended: int = 0
    latencies: array[int] = field(default_factory=lambda: array("q"))
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, record: Publish | Fetch | Ack | Move, messages: int, measured: bool) -> None:
        """Count one request; it is `measured` when its time says something about the queue."""
        self.requests += 1
        self.began = min(self.began or record.started, record.started)
        self.ended = max(self.ended, record.ended)
        if record.outcome != OK:
            self.errors[OUTCOMES[record.outcome]] += 1
            return
        self.messages += messages
        if measured:
            self.latencies.append(record.ended - record.started)

    def cells(self) -> list[str]:
        """Return the line's texts."""
        seconds = (self.ended - self.began) / 1e9
        return [
            self.name,
            *_amount(self.requests, seconds),
            *_amount(self.messages, seconds),
            *_percentiles(self.latencies),
            ", ".join(f"{name} {count:,}" for name, count in self.errors.most_common()),
        ]


def table(history: History) -> str:
    """Return counts, rates, latencies and errors of every kind of request, aligned.

    The latency of a fetch is that of one that did not wait. A delivery lasts from the start of the
    publish to the end of the first fetch that brought the message; one is measured a fetch, that
    of the oldest message that was new.
    """
    publish, fetch, ack, move = map(_Row, ("publish", "fetch", "ack", "reset, seek"))
    for call in chain.from_iterable(history.publishes):
        publish.add(call, call.size, True)
    for got in chain.from_iterable(history.fetches):
        fetch.add(got, got.size, not got.wait)
    for done in chain.from_iterable(history.acks):
        ack.add(done, 0, True)
    for moved in history.moves:
        move.add(moved, 0, True)
    delivery = _Row("publish → deliver", latencies=_deliveries(history))
    rows = [_HEADINGS, *(row.cells() for row in (publish, fetch, ack, move, delivery))]
    return "\n".join(_aligned(rows))


def conclusion(verdict: Verdict) -> str:
    """Return the verdict's line, and an example of each fault."""
    lines = [f"{'CLEAN' if verdict.clean else 'BROKEN'}: {verdict.words}"]
    if verdict.in_doubt:
        doubt = f"{verdict.in_doubt:,} more, of which {verdict.settled:,} are stored"
        lines.append(f"  no answer to the publishes of {doubt}")
    lines += [f"  {word}: {example}" for word, example in verdict.findings.examples.items()]
    return "\n".join(lines)


def _deliveries(history: History) -> array[int]:
    starts = [_starts(history, topic) for topic in range(history.topics)]
    latencies = array("q")
    for number, fetches in enumerate(history.fetches):
        offsets, times = starts[number % history.topics]
        highest = 0
        for fetch in fetches:
            # Of a publish without an answer nobody knows which offsets it got.
            if offsets and fetch.last > highest:
                oldest = max(fetch.first, highest + 1)
                latencies.append(fetch.ended - times[max(bisect_right(offsets, oldest) - 1, 0)])
                highest = fetch.last
    return latencies


def _starts(history: History, topic: int) -> tuple[array[int], array[int]]:
    calls = sorted(
        (call.offset, call.started)
        for call in chain.from_iterable(history.publishes)
        if call.topic == topic and call.outcome == OK
    )
    return array("q", (offset for offset, _ in calls)), array("q", (start for _, start in calls))


def _amount(count: int, seconds: float) -> tuple[str, str]:
    if not count or not seconds:
        return "", ""
    rate = count / seconds
    return f"{count:,}", f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _percentiles(latencies: array[int]) -> Iterator[str]:
    ordered = sorted(latencies)
    for share in (0.50, 0.99, 1.0):
        index = min(int(share * len(ordered)), len(ordered) - 1)
        yield f"{ordered[index] / 1e6:,.1f}" if ordered else ""


def _aligned(rows: Iterable[Iterable[str]]) -> Iterator[str]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    for first, *middle, last in zip(*columns, strict=True):
        numbers = (f"{cell:>{width}}" for cell, width in zip(middle, widths[1:-1], strict=True))
        yield "  ".join([f"{first:<{widths[0]}}", *numbers, last]).rstrip()
