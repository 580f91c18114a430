"""What a check found, and how it is shown: the same text for the same history, every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

ANOMALIES: Mapping[str, str] = {
    "lost-write": "lost",
    "lost-work": "lost",
    "duplicate": "duplicated",
    "dedupe-miss": "duplicated",
    "nonmonotonic-send": "out of order",
    "batch-order": "out of order",
    "int-nonmonotonic-poll": "out of order",
    "nonmonotonic-poll": "out of order",
    "int-poll-skip": "out of order",
    "poll-skip": "out of order",
    "key-order": "out of order",
    "unseen": "skipped",
    "lease-stuck": "skipped",
    "inconsistent-offsets": "wrong",
    "gap": "wrong",
    "bad-first-offset": "wrong",
    "aborted-read": "wrong",
    "phantom": "wrong",
    "wrong-topic": "wrong",
    "corrupt": "wrong",
    "future-read": "wrong",
    "lost-ack": "wrong",
    "phantom-position": "wrong",
    "stale-read": "wrong",
    "stale-empty": "wrong",
    "ack-beyond-head": "wrong",
    "reset-undone": "wrong",
    "false-dedupe": "wrong",
    "double-lease": "wrong",
    "zombie-ack": "wrong",
    "attempts": "wrong",
    "spurious-fail": "wrong",
}

_WORDS = ("lost", "duplicated", "out of order", "skipped")
_LONGEST_VALUE = 40
_CELL = "text-align: left; vertical-align: top; padding: 2px 10px 2px 0"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One kind of fault: its name, how often it was found, and the first case in words."""

    name: str
    count: int
    example: str

    def __str__(self) -> str:
        """Return all of it in a line."""
        return f"{self.name} × {self.count:,}: {self.example}"


@dataclass(frozen=True, slots=True, repr=False)
class Verdict:
    """The judgement on a history: true when something was checked and nothing is wrong.

    `published` is the number of messages whose publish returned; `operations` and `observations`
    (messages seen by a read) are what was checked.
    """

    published: int
    anomalies: tuple[Anomaly, ...]
    operations: int
    observations: int

    def __bool__(self) -> bool:
        """Return whether all is well, which is not so when there was nothing to check."""
        return self.operations > 0 and not self.anomalies

    def count(self, word: str) -> int:
        """Return how often a word of the verdict line applies, such as "lost" or "wrong"."""
        return sum(anomaly.count for anomaly in self.anomalies if ANOMALIES[anomaly.name] == word)

    @property
    def line(self) -> str:
        """The verdict in one line. What the four words do not cover is named only when there."""
        words = [*_WORDS, *(["wrong"] if self.count("wrong") else [])]
        return ", ".join(
            [f"published {self.published:,}", *(f"{word} {self.count(word):,}" for word in words)]
        )

    @property
    def checked(self) -> str:
        """How much was checked, in words."""
        if not self.operations:
            return "nothing was checked: the history is empty"
        return f"checked {self.operations:,} operations and {self.observations:,} messages seen"

    def __repr__(self) -> str:
        """Return the verdict line, how much was checked, and a line an anomaly."""
        return "\n".join([self.line, self.checked, *map(str, self.anomalies)])

    def _repr_html_(self) -> str:
        mark, colour = ("✓", "#009E73") if self else ("✗", "#D55E00")
        rows = "".join(
            f"<tr><td style='{_CELL}'><b>{escape(a.name)}</b></td>"
            f"<td style='{_CELL}; text-align: right'>{a.count:,}</td>"
            f"<td style='{_CELL}'>{escape(a.example)}</td></tr>"
            for a in self.anomalies
        )
        return (
            f"<div style='border-left: 4px solid {colour}; padding-left: 10px'>"
            f"<b><span style='color: {colour}'>{mark}</span> {escape(self.line)}</b><br>"
            f"<small>{escape(self.checked)}</small>{f'<table>{rows}</table>' if rows else ''}</div>"
        )


class Findings:
    """How often each kind of fault was found, and the first example of each."""

    def __init__(self) -> None:
        """Nothing is found yet."""
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, name: str, example: str, count: int = 1) -> None:
        """Count a fault, `count` times, by its name in ANOMALIES."""
        self._counts[name] += count
        self._examples.setdefault(name, example)

    def anomalies(self) -> tuple[Anomaly, ...]:
        """Return what was found, in the order of ANOMALIES."""
        assert self._counts.keys() <= ANOMALIES.keys()
        return tuple(
            Anomaly(name, self._counts[name], self._examples[name])
            for name in ANOMALIES
            if self._counts[name]
        )


def shown(value: str) -> str:
    """Return a value at a readable length."""
    return value if len(value) <= _LONGEST_VALUE else value[: _LONGEST_VALUE - 1] + "…"
