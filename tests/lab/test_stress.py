"""The stress run: its judge is judged by planted faults, and it is run against real servers."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from qlib import QPublisher
from qlib.lab.stress.check import check
from qlib.lab.stress.records import (
    OK,
    STALE,
    UNAVAILABLE,
    UNKNOWN,
    Ack,
    History,
    Log,
    Publish,
    Stored,
    checksum,
    payload,
    sender,
)
from qlib.lab.stress.report import conclusion, table
from tests.lab.stress_model import Model
from tests.server_process import ROOT, ServerProcess, serving
from tests.waiting import until

HISTORIES = range(150)
PLANTED_IN = range(20)  # histories for each fault
PATIENCE = 120.0
FEW = ("--publishers", "1", "--subscribers", "1", "--topics", "1")


def history(seed: int) -> History:
    """A right run, with a good deal of everything in it."""
    return Model(seed).run(300)


def test_right_histories_give_no_alarm() -> None:
    published, outcomes = 0, set()
    for seed in HISTORIES:
        made = history(seed)
        verdict = check(made)
        assert verdict.clean, f"seed {seed}: {conclusion(verdict)}"
        assert verdict.published + verdict.settled == sum(len(list(it)) for it in made.stored)
        published += verdict.published
        outcomes |= {ack.outcome for acks in made.acks for ack in acks}
    assert published > 100 * len(HISTORIES)
    assert outcomes == {OK, STALE, UNKNOWN, UNAVAILABLE}


# One fault each, in the final read or in what one process was told.


def lose_the_last(made: Any) -> None:
    n = _last_acknowledged(made)
    del made.stored[0][n:]


def lose_in_the_middle(made: Any) -> None:
    del made.stored[0][10]


def lose_without_a_hole(made: Any) -> None:
    call = _acknowledged(made)[0]
    made.stored[0] = [
        Stored(it.offset - (it.offset > call.offset), it.publisher, it.n)
        for it in made.stored[0]
        if it.offset != call.offset
    ]


def store_twice(made: Any) -> None:
    log = made.stored[0]
    log.append(log[10]._replace(offset=len(log) + 1))


def swap(made: Any) -> None:
    one, other = (call.offset - 1 for call in _acknowledged(made)[3:5])
    log = made.stored[0]
    log[one], log[other] = (
        log[other]._replace(offset=one + 1),
        log[one]._replace(offset=other + 1),
    )


def store_what_nobody_sent(made: Any) -> None:
    made.stored[0].append(Stored(len(made.stored[0]) + 1, -1, -1))


def store_what_was_refused(made: Any) -> None:
    _alter(made.publishes, _acknowledged(made)[0], outcome=UNAVAILABLE, offset=0)


def answer_another_offset(made: Any) -> None:
    call = _acknowledged(made)[0]
    _alter(made.publishes, call, offset=call.offset + 1)


def give_a_lower_offset_later(made: Any) -> None:
    first, second = _acknowledged(made)[:2]
    _alter(made.publishes, first, started=second.ended + 1, ended=second.ended + 2)


def store_half_a_batch(made: Any) -> None:
    call = next(call for call in _acknowledged(made) if call.size > 1)
    made.stored[0][call.offset - 1] = Stored(call.offset, -1, -1)
    _alter(made.publishes, call, outcome=UNKNOWN, offset=0)


def start_too_late(made: Any) -> None:
    fetch = _full(made)
    position = fetch.position + 1
    total = _sum(made, position + 1, fetch.last)
    changes = {"position": position, "first": position + 1, "size": fetch.size - 1}
    _alter(made.fetches, fetch, **changes, checksum=total)


def leave_one_out(made: Any) -> None:
    fetch = _full(made)
    _alter(made.fetches, fetch, first=fetch.first + 1, size=fetch.size - 1)


def hold_back_what_is_there(made: Any) -> None:
    fetch = _full(made)
    _alter(made.fetches, fetch, first=0, last=0, size=0, checksum=0)


def stop_before_the_end(made: Any) -> None:
    made.fetches[0].pop()


def forget_an_ack(made: Any) -> None:
    ack = next(ack for ack in made.acks[0] if ack.outcome == OK and ack.position > 0)
    _alter(made.acks, ack, position=0)


def go_on_in_an_epoch_that_is_over(made: Any) -> None:
    # The last fetch: every reset and seek is long over.
    fetch = made.fetches[0][-1]
    _alter(made.fetches, fetch, epoch=fetch.epoch - 1)


def call_an_ack_stale_for_nothing(made: Any) -> None:
    # At the very beginning, when nobody had reset or sought anything.
    made.acks[0].insert(0, Ack(0, 0, -1, STALE, 0, 0))


def deliver_something_else(made: Any) -> None:
    fetch = _full(made)
    _alter(made.fetches, fetch, checksum=fetch.checksum + 1)


def refuse_a_right_request(made: Any) -> None:
    call = made.publishes[0][0]
    _alter(made.publishes, call, outcome=1, offset=0)


FAULTS = {
    lose_the_last: "lost",
    lose_in_the_middle: "lost",
    lose_without_a_hole: "lost",
    store_twice: "duplicated",
    swap: "out of order",
    store_what_nobody_sent: "phantom",
    store_what_was_refused: "phantom",
    answer_another_offset: "out of order",
    give_a_lower_offset_later: "out of order",
    store_half_a_batch: "lost",
    start_too_late: "skipped",
    leave_one_out: "skipped",
    hold_back_what_is_there: "skipped",
    stop_before_the_end: "skipped",
    forget_an_ack: "out of order",
    go_on_in_an_epoch_that_is_over: "out of order",
    call_an_ack_stale_for_nothing: "failed",
    deliver_something_else: "phantom",
    refuse_a_right_request: "failed",
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_caught(plant: Callable[[Any], None]) -> None:
    word = FAULTS[plant]
    for seed in PLANTED_IN:
        made = history(seed)
        plant(made)
        verdict = check(made)
        assert word in verdict.findings.counts, f"seed {seed}: {conclusion(verdict)}"
        assert f"  {word}: " in conclusion(verdict)


@pytest.mark.parametrize(
    "plant, counts",
    [
        (lose_in_the_middle, {"lost": 1}),
        (store_twice, {"duplicated": 1}),
        (swap, {"out of order": 2}),
        (store_what_nobody_sent, {"phantom": 1}),
    ],
)
def test_each_fault_of_the_log_is_counted_once(
    plant: Callable[[Any], None], counts: dict[str, int]
) -> None:
    for seed in PLANTED_IN:
        made = history(seed)
        for steps in (*made.fetches, *made.acks):
            steps.clear()  # nobody read
        plant(made)
        found = check(made).findings.counts
        assert {word: n for word, n in found.items() if word != "skipped"} == counts


class AcksSurviveResets(Model):
    """A reset does not begin an epoch."""

    def move(self) -> None:
        before = self.standing.copy()
        super().move()
        self.standing = [
            (position, epoch)
            for (position, _), (_, epoch) in zip(self.standing, before, strict=True)
        ]


class LosesAPublish(Model):
    """The last message of a topic goes missing, and its offset is given out again."""

    def publish(self) -> None:
        super().publish()
        if self.sent[0] % 7 == 3:
            self.logs[0] = self.logs[0][:-1]


@pytest.mark.parametrize("broken", [AcksSurviveResets, LosesAPublish])
def test_a_broken_queue_is_caught(broken: type[Model]) -> None:
    assert all(not check(broken(seed).run(300)).clean for seed in PLANTED_IN)


def test_payloads_tell_who_sent_them() -> None:
    texts = [payload(publisher, n) for publisher in range(5) for n in range(200)]
    assert [sender(text) for text in texts] == [divmod(it, 200) for it in range(1000)]
    assert len({len(text["padding"]) for text in texts}) > 10
    for strange in (
        None,
        1,
        [],
        {},
        texts[3] | {"n": 4},
        texts[3] | {"x": 1},
        {"publisher": True, "n": 0},
    ):
        assert sender(strange) == (-1, -1)


def test_a_log_gives_back_what_was_written_and_ignores_half_a_record(tmp_path: Path) -> None:
    records = [Publish(k, 2**40, 3, -1, 0, 1, 2) for k in range(10_000)]
    log = Log(tmp_path / "log", Publish)
    with log.writing() as write:
        for record in records:
            write(record)
    with (tmp_path / "log").open("ab") as file:
        file.write(b"half")
    assert list(log) == list(log) == records


def test_the_report_is_aligned_and_tells_doubts_and_dead_processes() -> None:
    made = history(4)
    lines = table(made).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "publish",
        "fetch",
        "ack",
        "reset, seek",
        "publish → deliver",
    ]
    ends = {line.index(" ms") + 3 for line in lines[:1]}
    assert all(line[end - 2] == "." for line in lines[1:] for end in ends if len(line) > end)
    assert len(lines[0]) < 100
    verdict = check(History(**{**vars(made), "failures": ["publisher 1 died"]}))
    assert conclusion(verdict).startswith("BROKEN: published ")
    assert "failed 1\n" in conclusion(verdict) and "failed: publisher 1 died" in conclusion(verdict)
    assert f"publishes of {verdict.in_doubt:,} more" in conclusion(verdict)
    assert verdict.in_doubt > verdict.settled > 0


# Against real servers.


@contextmanager
def stress(url: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command; in the end nothing of it is left, however the test ended."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUEUE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "qlib.lab.stress", "--seed", "5", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment | {"QUEUE_URL": url},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def verdict_of(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Wait for a clean verdict; return how many were published, and delivered."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    told = re.search(
        r"^CLEAN: published ([\d,]+), lost 0, duplicated 0, out of order 0, skipped 0$",
        output,
        re.M,
    )
    fetched = re.search(r"^fetch +[\d,]+ +[\d,]+ +([\d,]+)", output, re.M)
    assert told and fetched, output
    return int(told[1].replace(",", "")), int(fetched[1].replace(",", ""))


@pytest.fixture
def own(directory: Path) -> Iterator[ServerProcess]:
    """A server with an embedded PostgreSQL of its own."""
    server = ServerProcess(directory / "log", "--data", str(directory / "data"))
    with serving(server):
        yield server


def test_a_short_run_is_clean_and_leaves_nothing(own: ServerProcess) -> None:
    with stress(
        own.url, "--seconds", "3", "--publishers", "2", "--subscribers", "2", "--resets"
    ) as run:
        published, delivered = verdict_of(run)
        assert published > 100 and delivered >= published
    with QPublisher(own.url) as queue:
        assert queue.topics() == []


def test_a_run_through_a_killed_server_is_clean(own: ServerProcess) -> None:
    flags = ("--seconds", "8", "--publishers", "2", "--subscribers", "2", "--resets")
    with stress(own.url, *flags) as run, QPublisher(own.url) as queue:
        until(lambda: sum(topic.head for topic in queue.topics()) > 100, PATIENCE)
        own.kill()
        assert run.poll() is None
        own.start()
        own.ready()
        before = sum(topic.head for topic in queue.topics())
        until(lambda: sum(topic.head for topic in queue.topics()) > before, PATIENCE)
        published, _ = verdict_of(run)
        assert published > before


def test_ctrl_c_ends_a_run_early_with_its_verdict(own: ServerProcess) -> None:
    with stress(own.url, "--seconds", "3600", *FEW) as run, QPublisher(own.url) as queue:
        until(lambda: any(topic.head > 100 for topic in queue.topics()), PATIENCE)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all of its processes
        published, _ = verdict_of(run)
        assert published > 100


def test_a_broken_promise_is_exit_code_1(own: ServerProcess) -> None:
    with stress(own.url, "--seconds", "2", *FEW) as run, QPublisher(own.url) as queue:
        (topic,) = until(queue.topics, PATIENCE)
        until(lambda: queue.topic(topic.topic).head > 0, PATIENCE)
        queue.publish(topic.topic, "a stranger's")
        output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1, output
    assert re.search(r"^BROKEN: published .*, skipped 0, phantom 1$", output, re.M), output
    assert "holds a message that nobody sent" in output


def test_without_a_queue_there_is_no_verdict() -> None:
    with stress("nowhere") as run:
        output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 2 and "no verdict: " in output, output


# What the plants need.


def _acknowledged(made: Any) -> list[Publish]:
    """Publishes of topic 0 that were answered, in the order of time."""
    calls = [call for calls in made.publishes for call in calls]
    return sorted(
        (call for call in calls if call.topic == 0 and call.outcome == OK),
        key=lambda call: call.started,
    )


def _last_acknowledged(made: Any) -> int:
    """The index of the last message in topic 0 that was acknowledged."""
    return max(call.offset + call.size - 1 for call in _acknowledged(made)) - 1


def _full(made: Any) -> Any:
    """A fetch that brought several messages, from where an ack had put the subscriber."""
    steps = sorted([*made.fetches[0], *made.acks[0]], key=lambda step: step.started)
    return next(
        step
        for before, step in pairwise(steps)
        if isinstance(before, Ack) and before.outcome == OK
        if step.epoch == before.epoch and step.size > 2
    )


def _sum(made: Any, first: int, last: int) -> int:
    total = 0
    for message in made.stored[0][first - 1 : last]:
        total = checksum(total, *message)
    return total


def _alter(series: list[list[Any]], record: Any, **changes: int) -> None:
    """Replace one record in whichever series holds it."""
    records, k = next((them, them.index(record)) for them in series if record in them)
    records[k] = record._replace(**changes)
