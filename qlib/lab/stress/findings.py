"""What a check found, in five words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from qlib.lab.stress.records import OUTCOMES

WORDS = ("lost", "duplicated", "out of order", "skipped")
# What the four words do not cover is named only when it happens.
RARE_WORDS = ("phantom", "failed")


@dataclass
class Findings:
    """How often each kind of fault was found, and the first example of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, word: str, example: str) -> None:
        """Count one fault."""
        self.counts[word] += 1
        self.examples.setdefault(word, example)

    def outcome(self, outcome: int, allowed: Sequence[int], what: str) -> None:
        """Count an error that no right operation can have."""
        if outcome not in allowed:
            self.add("failed", f"{what} ended with {OUTCOMES[outcome]}")


@dataclass(frozen=True)
class Verdict:
    """The judgement on a run: messages `published`, those `in_doubt`, and every fault found.

    A message is in doubt when its publish ended with an unknown outcome; `settled` is how many of
    those the final read found.
    """

    published: int
    in_doubt: int
    settled: int
    findings: Findings

    @property
    def clean(self) -> bool:
        """Whether no promise was broken."""
        return not self.findings.counts

    @property
    def words(self) -> str:
        """The verdict in one line."""
        counts = self.findings.counts
        named = [*WORDS, *(word for word in RARE_WORDS if counts[word])]
        return ", ".join(
            [f"published {self.published:,}", *(f"{word} {counts[word]:,}" for word in named)]
        )
