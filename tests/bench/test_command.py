"""The command: every part is there, a wrong one is refused, a failing one does not stop the others."""

from importlib import import_module
from pathlib import Path

import pytest

from tests.bench import __main__ as command
from tests.bench import checker, report
from tests.bench.checkout import this
from tests.bench.targets import TARGETS


def test_every_part_is_listed_and_says_what_it_measures(capsys: pytest.CaptureFixture[str]) -> None:
    files = {path.stem for path in Path(command.__file__).parent.glob("*.py")}
    parts = {name for name in files if hasattr(import_module(f"tests.bench.{name}"), "run")}
    assert parts == set(command.PARTS) and len(parts) >= 13
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    told = capsys.readouterr().out
    for name in parts:
        part = import_module(f"tests.bench.{name}")
        assert name == part.PART
        assert part.__doc__ and f"  {name:12}{part.__doc__.splitlines()[0]}" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["raw", "rwa"], "'rwa' is no part: raw, publish"),
        (["--rounds", "0"], "at least 1"),
        (["raw", "base"], "the part base needs BENCH_BASE, another checkout of this project"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("BENCH_BASE", raising=False)
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "left_out"), [("", {"base", "idle"}), (str(this().path), {"idle"})]
)
def test_what_is_run_unless_parts_are_named(
    named: str, left_out: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setenv("BENCH_BASE", named)
    monkeypatch.setattr(command, "_run", lambda part, rounds, out: ran.append(part))
    monkeypatch.setattr(command, "_report", lambda out: None)
    assert command.main([]) == 0
    assert ran == [part for part in command.PARTS if part not in left_out]
    ran.clear()
    assert command.main(["idle"]) == 0
    assert ran == ["idle"]


@pytest.mark.parametrize(("failing", "code"), [("fetch", 1), ("nobody", 0)])
def test_a_part_that_fails_does_not_stop_the_others(
    failing: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def run(part: str, rounds: int, out: Path) -> None:
        ran.append((part, rounds))
        assert part != failing, "it cannot be done"

    monkeypatch.setattr(command, "_run", run)
    monkeypatch.setattr(command, "_report", lambda out: None)
    assert command.main(["raw", "fetch", "held", "--rounds", "2"]) == code
    assert ran == [("raw", 2), ("fetch", 2), ("held", 2)]
    told = capsys.readouterr().err
    assert ("it cannot be done" in told and told.endswith("FAILED: fetch\n")) == bool(code)


def test_a_part_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checker, "_TURNS", 1000)
    assert command.main(["checker", "--rounds", "1", "--out", str(tmp_path)]) == 0
    stored = report.load(tmp_path)["checker"]
    assert stored["rounds"] == 1
    assert stored["machine"]["postgres"]["synchronous_commit"] == "on"
    assert [found["contender"] for found in stored["results"]] == [checker.NAME]
    told = capsys.readouterr().out
    assert told.count("not measured") == len(TARGETS) - 1
