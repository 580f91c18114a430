"""What is measured of whole servers: long polls, their processes, the base; once and on a small scale."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import base, idle, processes, waiting
from tests.bench.checkout import NoCheckoutError, this
from tests.bench.load import has_wrk
from tests.bench.messages import HTTP
from tests.bench.polls import Polls
from tests.bench.processes import Processes
from tests.bench.rounds import P50, P99, RATE
from tests.bench.stand import Stand
from tests.bench.wire import Wire, body_of
from tests.waiting import until

POLLED = {
    waiting.MEMORY,
    waiting.ALL,
    *(
        waiting.unit(what, percentile)
        for what in (waiting.PINGED, waiting.HEALTH, waiting.WOKEN)
        for percentile in (50, 99)
    ),
}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of everything."""
    for part, name, value in (
        (waiting, "POLLS", 6),
        (waiting, "_PINGS", 3),
        (waiting, "_WAKES", 2),
        (base, "CONNECTIONS", (2,)),
        (base, "_FINER", 1),
        (base, "_SIZE", 5),
        (base, "_MESSAGES", 7),
        (base, "_POLLS", 3),
        (idle, "_TOPICS", 3),
    ):
        monkeypatch.setattr(part, name, value)
    calls = {name: (work, 2) for name, (work, _) in base._CALLS.items()}
    monkeypatch.setattr(base, "_CALLS", calls)


def heads(stand: Stand, like: str) -> list[int]:
    cursor = stand.cursor()
    cursor.execute("select head::int from queue.topics where topic ~ %s order by topic", (like,))
    return [head for (head,) in cursor.fetchall()]


def test_all_polls_wait_and_all_are_woken(stand: Stand) -> None:
    results = waiting.run(stand, 1)
    assert {(r.case, r.contender) for r in results} == {("6 idle long polls", HTTP)}
    assert {r.unit for r in results} == POLLED
    # a warm-up and a round: of each topic one publish for all, two for the one
    assert heads(stand, "^waiting-") == [2, 4]
    with Wire(stand.url) as wire:
        assert b"queue_waiting_polls 0" in wire.get("/metrics")


def test_polls_that_do_not_wait_are_not_measured(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_PATIENCE", 0.0)
    monkeypatch.setattr(waiting, "_WAIT", 0)
    crowd = waiting.Crowd(stand.url, stand.cursor(), 3, "hasty")
    with crowd, pytest.raises(AssertionError, match="0 polls wait, not 3"):
        crowd._gather()
    with pytest.raises(AssertionError, match="1 polls were not woken by the message"):
        waiting._check([b'{"messages":[{"offset":1}]}', b'{"messages":[]}'])


def test_a_poll_that_is_refused_is_not_believed(stand: Stand) -> None:
    with Polls(stand.url, 1) as polls:
        polls.send({0: "/topics/nowhere/subscribers/nobody/messages?wait=60"})
        with pytest.raises(AssertionError, match="topic_not_found"):
            polls.answers([0])


def test_too_few_open_files_are_told_at_once(stand: Stand) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no limit here")
    with pytest.raises(AssertionError, match=f"and ulimit -Hn allows {hard:,}"):
        Polls(stand.url, hard)


def test_a_body_is_whole_or_none() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
    assert body_of(answer) == b"body"
    assert {body_of(answer[:length]) for length in range(len(answer))} == {None}
    with pytest.raises(AssertionError, match="503"):
        body_of(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")


def test_a_server_has_processes_that_use_memory_and_time(stand: Stand) -> None:
    found = Processes(stand.url)
    before = found.seconds()
    with Wire(stand.url) as wire:
        until(lambda: wire.get("/openapi.json") and found.seconds() > before)
    family = list(found._all())
    assert len(family) >= 2 and "postgres" not in {process.name for process in family}
    assert 20 < found.megabytes() < 1_000
    with pytest.raises(LookupError, match="no process serves at port 1"):
        Processes("http://127.0.0.1:1")


def test_a_process_is_read_whatever_its_name_is() -> None:
    fields = ["S", "7", *["0"] * 9, "100", "50", *["0"] * 8, "3"]
    read = processes._process(f"12 (a ) (b) {' '.join(fields)} 0 0\n")
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    assert read == processes._Process("a ) (b", 7, 150 / tick, 3 * page / 1e6)
    ours = processes._process(Path("/proc/self/stat").read_text())
    assert ours.parent == os.getppid() and ours.megabytes > 10


@pytest.fixture
def beside_itself(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The base is this checkout."""
    monkeypatch.setenv("BENCH_BASE", str(this().path))
    yield


@pytest.mark.usefixtures("beside_itself")
def test_this_beside_the_base(stand: Stand) -> None:
    results = base.run(stand, 1)
    units = {
        **({base.case(2): {RATE, P50, P99}} if has_wrk() else {}),
        **dict.fromkeys(base._CALLS, {base.CPU, base.WALL}),
        base.DELIVERED: {RATE},
        "3 idle long polls": POLLED,
    }
    assert {(r.case, r.contender, r.unit) for r in results} == {
        (case, whose, unit)
        for case in units
        for whose in (base.BASE, base.THIS)
        for unit in units[case]
    }
    assert {r.baseline for r in results} == {base.BASE}
    # The two clients of each call on this server, with five messages first, twice two calls;
    # and what this client delivered, in the warm-up and in the round.
    called = [5] * 2 + [5 + 4] * 2 + [5 + 20] * 2 + [7] * 2
    assert sorted(heads(stand, r"^base-\d+$"))[: len(called)] == sorted(called)


def test_without_a_base_there_is_nothing_to_measure(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENCH_BASE", raising=False)
    with pytest.raises(NoCheckoutError, match="BENCH_BASE does not name another checkout"):
        base.run(stand, 1)


def test_an_idle_server_is_watched(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_IDLE_MINUTES", "0.001")
    monkeypatch.setattr(idle, "_SAMPLES", 8)
    results = idle.run(stand, 5)
    assert {(r.case, r.unit, len(r.rounds)) for r in results} == {
        (idle.case(0.001), unit, 1) for unit in (idle.GROWTH, idle.FIRST, idle.CPU)
    }
    assert idle.case() == "100,000 topics watched by nobody, 60 min"


class Growing(Processes):
    """A server that takes one more megabyte every time, and a second of time."""

    def __init__(self) -> None:
        self.size = self.busy = 0.0

    def megabytes(self) -> float:
        self.size += 1
        return self.size

    def seconds(self) -> float:
        self.busy += 1
        return self.busy


def test_growth_is_from_the_first_quarter_to_the_last() -> None:
    slept: list[float] = []
    figures = idle.resting(Growing(), 50.0, slept.append)
    assert sum(slept) == pytest.approx(50)
    assert figures == {idle.GROWTH: 540, idle.FIRST: 90.5, idle.CPU: 2}
    assert idle.growth([9, 1, 1, 4, 5, 6, 7, 7]) == 2
