"""The stress run, whole, against real servers: disturbed, killed, interrupted and deceived."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from qlib import QPublisher
from tests.lab.stack import processes
from tests.server_process import ServerProcess, serving
from tests.stress_process import PATIENCE, stress, verdict_of
from tests.waiting import until

LONG = 400.0  # seconds, for a run whose queue is killed again and again
FEW = ("--publishers", "1", "--subscribers", "1", "--topics", "1")


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_ended_leaves_nothing(
    own: ServerProcess, directory: Path, number: signal.Signals
) -> None:
    flags = ("--seconds", "3600", *FEW)
    with stress(own.url, *flags, tmpdir=str(directory)) as run, QPublisher(own.url) as queue:
        until(lambda: any(topic.head > 100 for topic in queue.topics()), PATIENCE)
        workers = processes.children(run.pid)
        assert len(workers) >= 2 and any(directory.glob("queue-stress-*"))
        for _ in range(2):  # a shell tells its jobs what the terminal has told them already
            run.send_signal(number)
        output, _ = run.communicate(timeout=PATIENCE)
        assert (run.returncode, output.splitlines()[-1]) == (2, "no verdict: given up"), output
        assert queue.topics() == [] and not any(directory.glob("queue-stress-*"))
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_under_nohup_a_run_goes_on(own: ServerProcess) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stress(own.url, "--seconds", "1", *FEW) as run, QPublisher(own.url) as queue:
            until(queue.topics, PATIENCE)
            assert processes.ignores(run.pid, signal.SIGHUP)
            os.killpg(run.pid, signal.SIGHUP)
            verdict_of(run)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_broken_promise_is_exit_code_1(own: ServerProcess) -> None:
    with stress(own.url, "--seconds", "2", *FEW) as run, QPublisher(own.url) as queue:
        (topic,) = until(queue.topics, PATIENCE)
        until(lambda: queue.topic(topic.topic).head > 0, PATIENCE)
        queue.publish(topic.topic, "a stranger's")
        output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1, output
    assert re.search(r"^BROKEN: published .*, skipped 0, wrong 1$", output, re.M), output
    assert re.search(r"^  phantom × 1: .* shows \"a stranger's\" at ", output, re.M), output


def test_a_dead_process_is_exit_code_1(own: ServerProcess) -> None:
    with stress(own.url, "--seconds", "2", *FEW) as run, QPublisher(own.url) as queue:
        until(lambda: any(topic.head > 0 for topic in queue.topics()), PATIENCE)
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        workers = [
            pid for pid in children if "--multiprocessing-fork" in processes.command(int(pid))
        ]
        os.kill(max(map(int, workers)), signal.SIGKILL)  # the last one started: the subscriber
        output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 1, output
    assert re.search(r"^BROKEN: published .*, skipped 0$", output, re.M), output
    assert output.endswith("  subscriber 0 died with exit code -9\n"), output


def test_without_a_queue_there_is_no_verdict() -> None:
    with stress("nowhere") as run:
        output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 2 and "no verdict: " in output, output


def test_workers_that_are_killed_with_servers_and_database_leave_a_clean_run() -> None:
    """Kill -9 of everything: no anomaly, and enough was leased and killed for that to mean something."""
    flags = ("--seconds", "15", "--publishers", "1", "--subscribers", "1", "--workers", "3")
    with stress("", *flags, "--kill", "--resets") as run:
        output, _ = run.communicate(timeout=LONG)
    assert run.returncode == 0, output
    killed = re.search(r"^  killed meanwhile: (.*)$", output, re.M)
    assert killed and {"workers"} < set(re.findall(r"[a-z]+", killed[1])), output
    for row in ("lease", "ack of a lease"):
        told = re.search(rf"^{row}  +([\d,]+) .*$", output, re.M)
        assert told and int(told[1].replace(",", "")) >= 50, output


def test_a_queue_that_is_not_its_own_is_not_killed() -> None:
    with stress("http://127.0.0.1:9", "--kill") as run:
        output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 2 and "is not ours to kill" in output, output
