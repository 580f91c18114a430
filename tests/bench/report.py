"""What was measured: kept as JSON part by part, and shown as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench.rounds import Result
from tests.bench.targets import TARGETS, Found, Target

RESULTS = Path(__file__).with_name("results")
_FILE = "results.json"

Report = dict[str, dict[str, Any]]


def load(out: Path) -> Report:
    """Return what was stored there, by part; empty when nothing was."""
    file = out / _FILE
    return json.loads(file.read_text()) if file.exists() else {}


def store(
    out: Path, part: str, rounds: int, machine: Mapping[str, Any], results: Sequence[Result]
) -> None:
    """Put a part in the place of the last one of its name, and leave the others alone."""
    report = load(out)
    report[part] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "machine": machine,
        "results": [asdict(result) for result in results],
    }
    out.mkdir(parents=True, exist_ok=True)
    new = out / f"{_FILE}.new"  # renamed, so that an interrupt leaves no half of it
    new.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    new.replace(out / _FILE)


def results(report: Report) -> list[Result]:
    """Return the results of all parts."""
    return [
        Result(**{**found, "rounds": tuple(found["rounds"])})
        for part in report.values()
        for found in part["results"]
    ]


def number(value: float) -> str:
    """Return a figure with the digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(results: Sequence[Result]) -> str:
    """Return the medians and ratios of a part as aligned text."""
    return "\n".join(_lines(results))


def summary(report: Report) -> str:
    """Return the targets as aligned text, and who was absent."""
    found = Found(results(report))
    lines = ["", f"{'target':66}{'bound':>8}{'reached':>10}"]
    for target in TARGETS:
        value, verdict = target.verdict(found)
        reached = "" if value is None else number(value)
        lines.append(f"{target.text:66}{bound(target):>8}{reached:>10}  {verdict}")
    return "\n".join([*lines, *(f"absent: {name}: {why}" for name, why in absent(report).items())])


def bound(target: Target) -> str:
    """Return a target's bound with its sign."""
    return f"{target.sign} {number(target.bound)}"


def absent(report: Report) -> dict[str, str]:
    """Return who took no part, and what was missing."""
    return {
        name: why for part in report.values() for name, why in part["machine"]["absent"].items()
    }


def _lines(results: Sequence[Result]) -> Iterator[str]:
    title = ""
    for result in results:
        if title != (title := f"{result.part}: {result.case}"):
            yield f"\n{title}"
        ratio = "" if result.ratio is None else f"{result.ratio:8.2f} × {result.baseline}"
        yield f"  {result.contender:34}{number(result.median):>10} {result.unit:14}{ratio}".rstrip()
