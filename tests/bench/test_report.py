"""The report: parts are merged, targets are computed right, README shows what was measured."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.bench import __main__ as command
from tests.bench import base, fanout, growth, held, idle, latency, publish, readme, report, waiting
from tests.bench.messages import HTTP, SQL
from tests.bench.rounds import P50, RATE, Result
from tests.bench.targets import TARGETS, Found, Target

MACHINE = {
    "absent": {"pgmq": "its file"},
    "load": [0.5, 1, 2],
    "cores": 2,
    "cpu": "a cpu",
    "memory_gib": 8,
    "kernel": "Linux",
    "python": "3.11",
    "postgres": {"server_version": "18.6"},
}
COMMITTED = report.load(report.RESULTS)


def result(part: str, case: str, contender: str, *rounds: float, unit: str = RATE) -> Result:
    return Result(part, case, contender, unit, rounds, sorted(rounds)[len(rounds) // 2], 0.5, "x")


def made_up(part: str, case: str, contender: str, value: float, unit: str = RATE) -> Result:
    return result(part, case, contender, value, unit=unit)


def target(text: str) -> Target:
    (found,) = [target for target in TARGETS if target.text == text]
    return found


def test_a_part_takes_the_place_of_the_last_one_of_its_name(tmp_path: Path) -> None:
    first, second = result("raw", "a", "b", 1.0), result("publish", "a", "b", 2.0)
    report.store(tmp_path, "raw", 5, MACHINE, [first])
    report.store(tmp_path, "publish", 5, MACHINE, [second])
    report.store(tmp_path, "raw", 3, MACHINE, [replace(first, median=7.0)])
    found = report.load(tmp_path)
    assert report.results(found) == [replace(first, median=7.0), second]
    assert [part["rounds"] for part in found.values()] == [3, 5]
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


BATCH, K16 = publish.case(1_000), fanout.case(16)
CALL = next(iter(growth.CALLS))
SMALL, LARGE = str(growth.SMALL), str(growth.MESSAGES)
# For each target: results that just meet it, and results that just miss it.
MADE_UP: dict[str, list[list[tuple[Any, ...]]]] = {
    "publish 1,000 × 100 B in SQL / COPY": [
        [("publish", BATCH, SQL, ours), ("publish", BATCH, "COPY", 1.0)] for ours in (0.85, 0.84)
    ],
    "fan-out to 16 in SQL / pgmq": [
        [("fanout", K16, SQL, ours), ("fanout", K16, "pgmq", 0.5)] for ours in (5.0, 4.9)
    ],
    "cost with 1,000 × the messages": [
        [
            ("growth", call, size, large if (call, size) == (CALL, LARGE) else 1.0, P50)
            for call in growth.CALLS
            for size in (SMALL, LARGE)
        ]
        for large in (1.2, 1.21)
    ],
    "ping beside them, ms p99": [
        [("waiting", waiting.case(10_000), HTTP, late, waiting.unit("ping", 99))]
        for late in (10.0, 10.1)
    ],
}


# As above, of those that take more than `make bench` to be measured.
AWAY: dict[str, list[list[tuple[Any, ...]]]] = {
    "singles over HTTP, 1 connection, p50 / base": [
        [("base", base.case(1), "base", 2.0, P50), ("base", base.case(1), "this", ours, P50)]
        for ours in (2.1, 2.11)
    ],
    "the same, 64 connections, messages / base": [
        [("base", base.case(64), "base", 10.0), ("base", base.case(64), "this", ours)]
        for ours in (22.0, 21.9)
    ],
    "CPU of qlib.publish / base": [
        [
            ("base", base.PUBLISH, "base", 2.0, base.CPU),
            ("base", base.PUBLISH, "this", ours, base.CPU),
        ]
        for ours in (0.7, 0.71)
    ],
    "idle beside 100,000 topics: MB, last quarter − first": [
        [("idle", idle.case(), HTTP, grown, idle.GROWTH)] for grown in (-1.0, 5.1)
    ],
}


@pytest.mark.parametrize("text", AWAY)
def test_what_it_takes_to_measure_a_target_is_told(text: str) -> None:
    met, missed = ([made_up(*made) for made in some] for some in AWAY[text])
    assert target(text).verdict(Found(met))[1] == "met"
    assert target(text).verdict(Found(missed))[1] == "missed"
    needs = "idle" if text.startswith("idle") else "BENCH_BASE"
    assert target(text).verdict(Found(met[1:])) == (None, f"not measured ({needs})")


def test_an_hour_is_an_hour() -> None:
    short = made_up("idle", idle.case(1), HTTP, 0.0, idle.GROWTH)
    text = "idle beside 100,000 topics: MB, last quarter − first"
    assert target(text).verdict(Found([short]))[0] is None


@pytest.mark.parametrize("text", MADE_UP)
def test_a_target_is_met_or_missed(text: str) -> None:
    met, missed = ([made_up(*made) for made in some] for some in MADE_UP[text])
    assert target(text).verdict(Found(met))[1] == "met"
    assert target(text).verdict(Found(missed))[1] == "missed"
    assert target(text).verdict(Found(met[1:])) == (None, "not measured")


def test_a_ratio_is_of_the_rounds_not_of_the_medians() -> None:
    made = [
        result("publish", BATCH, SQL, 1.0, 2.0, 30.0),
        result("publish", BATCH, "COPY", 2.0, 20.0, 3.0),
    ]
    value, _ = target("publish 1,000 × 100 B in SQL / COPY").verdict(Found(made))
    assert value == 0.5 != made[0].median / made[1].median


def test_the_worse_latency_counts() -> None:
    waited = target("publish to delivery over HTTP, the slower rate, ms p50")
    low = result(latency.PART, latency.LOW, HTTP, 1.0, unit=P50)
    half = result(latency.PART, latency.HALF, HTTP, 3.0, unit=P50)
    assert waited.verdict(Found([low, half])) == (3.0, "missed")
    assert waited.verdict(Found([low])) == (None, "not measured")


def test_under_a_snapshot_the_last_turn_counts_against_the_first() -> None:
    beside = target("last / first 5,000 publishes beside an old snapshot")
    machine = result(held.PART, held.CASE, "INSERT", *[1.0] * 5, 7.0, *[2.0] * 5, unit=P50)
    level = result(held.PART, held.CASE, SQL, *[2.0] * 5, 5.0, *[4.0] * 5, unit=P50)
    falling = result(held.PART, held.CASE, SQL, *[2.0] * 5, 5.0, *[8.0] * 5, unit=P50)
    assert beside.verdict(Found([machine, level])) == (1.0, "met")
    assert beside.verdict(Found([machine, falling])) == (0.5, "missed")


def test_what_is_shown_of_a_report(tmp_path: Path) -> None:
    made = [made_up(*made) for made in MADE_UP["publish 1,000 × 100 B in SQL / COPY"][0]]
    report.store(tmp_path, "publish", 5, MACHINE, made)
    found = report.load(tmp_path)
    shown = report.summary(found)
    assert shown.count("not measured") == len(TARGETS) - 1
    assert "0.85  met" in shown and "absent: pgmq: its file" in shown
    assert f"| {SQL} |  | 0.85/s (0.50) |  |  |" in readme.render(found)


def test_the_block_is_written_between_its_markers_and_nowhere_else(tmp_path: Path) -> None:
    report.store(tmp_path, "publish", 5, MACHINE, [])
    found, file = report.load(tmp_path), tmp_path / "README.md"
    file.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    readme.write(found, file)
    assert readme.block(file.read_text()) == readme.render(found)
    assert file.read_text().startswith("before\n") and file.read_text().endswith("\nafter\n")
    file.write_text("no markers\n")
    readme.write(found, file)
    assert file.read_text() == "no markers\n"


def test_the_base_is_named(tmp_path: Path) -> None:
    report.store(tmp_path, "raw", 5, MACHINE, [])
    assert "The base is" not in readme.render(report.load(tmp_path))
    report.store(tmp_path, "base", 5, MACHINE | {"base": "1234abc"}, [])
    assert " The base is commit 1234abc.\n" in readme.render(report.load(tmp_path))


def test_what_is_committed() -> None:
    assert set(COMMITTED) == set(command.PARTS)
    found = Found(report.results(COMMITTED))
    assert [target.text for target in TARGETS if target.verdict(found)[0] is None] == []
    assert readme.block(readme.README.read_text()) == readme.render(COMMITTED)
    for name in ("publish.png", "fanout.png"):
        assert (report.RESULTS / name).stat().st_size > 10_000
