"""The stress run: what it records, how it reports, and when it is content."""

import pickle
import re
import sys
from pathlib import Path

import pytest

from qlib.lab.checker import check
from qlib.lab.history import History
from qlib.lab.history.operation import values
from qlib.lab.stress import __main__ as command
from qlib.lab.stress.records import payload, recorded, recorder
from qlib.lab.stress.report import conclusion, table
from qlib.lab.stress.workers import Plan
from tests.lab.checker.model_queue import random_history
from tests.lab.checker.planted import Told


def test_no_payload_is_sent_twice() -> None:
    payloads = [payload(publisher, n) for publisher in range(5) for n in range(200)]
    assert len(set(values(payloads))) == 1000
    assert len({len(it["padding"]) for it in payloads}) > 10


def test_what_was_recorded_is_read_back_but_for_half_an_operation(tmp_path: Path) -> None:
    operations = random_history(1).operations
    names = ("one", "other")
    for process in names:
        with recorder(tmp_path, process) as recording:
            for operation in operations:
                recording.keep(operation)
    for process in names:
        with (tmp_path / process).open("ab") as file:
            file.write(pickle.dumps(operations[0])[:-9])
    back = list(recorded(tmp_path))
    assert len(operations) > 100 and back == [*operations, *operations]
    texts = [value for operation in back for value in operation.values]
    assert len({id(text) for text in texts}) == len(set(texts)) < len(texts)


def test_what_a_killed_process_was_at_is_in_doubt(tmp_path: Path) -> None:
    with recorder(tmp_path, "one", killed=True) as recording:
        recording.call("nack", "orders", lambda: 1, lambda count: {"count": count}, lease="1-2")
        assert [(o.kind, o.outcome) for o in recorded(tmp_path)] == [("nack", "ok")]

        def killed() -> None:
            told = [(o.kind, o.outcome, o.lease) for o in recorded(tmp_path)]
            assert told == [("nack", "ok", "1-2"), ("ack_lease", "unknown", "1-2")]

        recording.call("ack_lease", "orders", killed, lease="1-2")
    assert [(o.kind, o.outcome) for o in recorded(tmp_path)][1:] == [("ack_lease", "ok")]


def test_the_table_is_aligned_and_counts_everything() -> None:
    history = random_history(5, turns=1500)
    heading, *lines = table(history).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "publish",
        "fetch",
        "ack",
        "reset, seek",
        "publish → deliver",
    ]
    ends = [found.end() for found in re.finditer(" ms", heading)]
    assert len(ends) == 3 and all(line[end - 2] == "." for line in lines for end in ends)
    kinds = [("publish",), ("fetch",), ("ack",), ("reset", "seek")]
    for line, of_it in zip(lines, kinds, strict=False):
        count = sum(o.kind in of_it for o in history.operations)
        assert re.match(rf"[a-z, ]+  {count:,} ", line), line
        assert "OutcomeUnknown " in line


def test_times_are_those_of_requests_with_nothing_to_wait_for() -> None:
    told = Told()
    told.publish("a", at=1)  # from 1 to 2 s
    told.fetch(0, "a")  # from 3 to 4 s
    told.publish("b", at=2, overlaps=0.5)  # from 4.5 to 6 s
    told.fetch(1, "b", overlaps=2.25)  # from 4.75 to 8 s: it waited for b
    told.fetch(1, "b")
    fetch, deliver = (table(told.history).splitlines()[row].split() for row in (2, 5))
    assert fetch[5:8] == ["1,000.0"] * 3
    assert deliver[-3:] == ["3,500.0", "3,500.0", "3,500.0"]


def test_the_conclusion_tells_doubts_and_faults_and_what_died() -> None:
    told = Told()
    told.publish("a", at=1)
    told.publish("b", "c")
    told.publish("d")
    told.final("abc")
    verdict = check(told.history)
    lines = conclusion(told.history, verdict, [], {}).splitlines()
    assert lines == [
        "CLEAN: published 1, lost 0, duplicated 0, out of order 0, skipped 0",
        "  checked 4 operations and 3 messages seen",
        "  no answer to the publishes of 3 more, of which 2 are stored",
    ]
    broken = conclusion(told.history, verdict, ["publisher 1 died"], {}).splitlines()
    assert broken[0].startswith("BROKEN: published 1,") and broken[-1] == "  publisher 1 died"
    told.final("ab")
    found = conclusion(told.history, check(told.history), [], {}).splitlines()
    assert found[0].startswith("BROKEN: ") and found[-1].startswith("  lost-write × 1: ")


class Done:
    """In the place of a run: it is over, and this is what came of it."""

    def __init__(self, found: str, *failures: str) -> None:
        self.told, self.died = Told(), list(failures)
        self.told.publish("a", at=1 if found else ())
        self.told.final(found)

    killed: dict[str, int] = {}

    def __call__(self, plan: Plan, target: object) -> "Done":
        return self

    def __enter__(self) -> "Done":
        return self

    def __exit__(self, *error: object) -> None: ...
    def start(self) -> None: ...
    def push(self, seconds: float, resets: bool) -> None: ...
    def drain(self, seconds: float) -> None: ...

    def history(self) -> History:
        return self.told.history

    def failures(self) -> list[str]:
        return self.died


@pytest.mark.parametrize(
    "run, code, says",
    [
        (Done("a"), 0, "CLEAN: "),
        (Done("aa"), 1, "BROKEN: published 1, lost 0, duplicated 1"),
        (Done("a", "subscriber 0 died"), 1, "BROKEN: published 1, lost 0, duplicated 0"),
        (Done(""), 2, "no verdict: no publish was answered"),
    ],
)
def test_the_exit_code_tells_the_verdict(
    run: Done,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(command, "Run", run)
    monkeypatch.setattr(sys, "argv", ["stress"])
    monkeypatch.setenv("QUEUE_URL", "nowhere")
    assert command.main() == code
    assert says in "".join(capsys.readouterr())
