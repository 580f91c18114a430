"""The block of README that shows what was measured: a table of the contenders, the pictures, the targets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.bench import fanout, publish
from tests.bench.report import Report, absent, bound, number, results
from tests.bench.rounds import RATE, Result
from tests.bench.targets import TARGETS, Found

README = Path(__file__).resolve().parents[2] / "README.md"
_BLOCK = re.compile(r"(?<=<!-- bench -->\n).*(?=<!-- /bench -->)", re.DOTALL)
_PICTURES = {
    "publish.png": "Messages published a second against the size of the batch, for the queue and its peers",
    "fanout.png": "Messages delivered a second against the number of subscribers, for the queue and its peers",
}


def block(text: str) -> str | None:
    """Return what stands between the markers in a README; None when they are not there."""
    found = _BLOCK.search(text)
    return found[0] if found else None


def write(report: Report, file: Path = README) -> None:
    """Put the report between the markers, if they are there."""
    text = file.read_text()
    file.write_text(_BLOCK.sub(lambda _: render(report), text))


def render(report: Report) -> str:
    """Return the block for a report, as Markdown."""
    found = results(report)
    pictures = [f"![{text}](tests/bench/results/{name})" for name, text in _PICTURES.items()]
    missing = [f"{name} ({why})" for name, why in absent(report).items()]
    paragraphs = [
        _measured(report),
        "\n".join(_contenders(found)),
        *pictures,
        "\n".join(_targets(found)),
        *([f"Not there: {', '.join(missing)}."] if missing else []),
    ]
    return "\n\n".join(paragraphs) + "\n"


def _measured(report: Report) -> str:
    parts = list(report.values())
    machine = parts[-1]["machine"]
    days = sorted({datetime.fromisoformat(part["when"]).strftime("%Y-%m-%d") for part in parts})
    loads = sorted(part["machine"]["load"][0] for part in parts)
    rounds = sorted({part["rounds"] for part in parts})
    return (
        f"Measured on {' and '.join(days)}: PostgreSQL {machine['postgres']['server_version']}, durable, "
        f"Python {machine['python']}, {machine['cores']} cores ({machine['cpu']}) shared with the load generators, "
        f"{machine['memory_gib']} GiB, {machine['kernel']}, load average {loads[0]} to {loads[-1]} as the parts began. "
        f"Medians of {' or '.join(map(str, rounds))} rounds in which all take turns; in brackets the ratio to "
        "INSERT or COPY into a plain table in the same round. A publish that returned is on disk, unless the name "
        "says otherwise. The lab's strategies are those of chapter 05."
        + "".join(f" The base is commit {commit}." for commit in _bases(parts))
    )


def _bases(parts: list[dict[str, Any]]) -> list[str]:
    return [part["machine"]["base"] for part in parts if "base" in part["machine"]]


def _contenders(found: list[Result]) -> Iterator[str]:
    known = {
        (r.case, r.contender, r.unit): r for r in found if r.part in (publish.PART, fanout.PART)
    }
    single, batch, to_all = publish.case(1), publish.case(1_000), fanout.case(16)

    def cell(case: str, name: str, unit: str = RATE) -> str:
        result = known.get((case, name, unit))
        if result is None:
            return ""
        beside = f" ({result.ratio:.2f})" if result.part == publish.PART else ""
        return f"{number(result.median)}{' B' if unit == fanout.WAL else '/s'}{beside}"

    yield "| | single publish | batches of 1,000 | delivered to 16 | WAL a message |"
    yield "|---|--:|--:|--:|--:|"
    yield f"| INSERT, COPY | {cell(single, 'INSERT')} | {cell(batch, 'COPY')} |  |  |"
    for case, name, _ in known:
        if case == batch and name != "COPY":
            cells = cell(single, name), cell(batch, name), cell(to_all, name)
            yield f"| {' | '.join([name, *cells, cell(to_all, name, fanout.WAL)])} |"


def _targets(found: list[Result]) -> Iterator[str]:
    asked = Found(found)
    yield "| target | bound | reached | |"
    yield "|---|--:|--:|---|"
    for target in TARGETS:
        value, verdict = target.verdict(asked)
        reached = "" if value is None else number(value)
        yield f"| {target.text} | {bound(target)} | {reached} | {verdict} |"
