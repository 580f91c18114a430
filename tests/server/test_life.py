"""How a server begins and ends, as whoever started it sees it: its line, signals, a closed terminal."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from server import parent
from server.parent import Parent
from server.settings import parse
from tests.lab.stack.processes import about, awaits, children, ignores
from tests.server.answers import ok
from tests.server_process import ROOT, ServerProcess, end, free_port, serving
from tests.waiting import until

# runs a command at the head of a terminal of its own, waits for a line, closes the terminal, and tells how it ended
TERMINAL = """
import os, pty, sys
line, *command = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(command[0], command)
told = b""
while line.encode() not in told:
    told += os.read(terminal, 1000)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture
def embedded(directory: Path) -> Iterator[ServerProcess]:
    """A server with an embedded PostgreSQL, not yet started."""
    server = ServerProcess(directory / "log", "--data", str(directory / "data"))
    yield server
    end(server)
    for pid in about(str(directory)):  # what a test has told of
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def hangups_ignored() -> Iterator[None]:
    """What is started meanwhile is started as by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def test_when_it_says_that_it_listens_it_answers(dsn: str, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "log", database_url=dsn)
    for times in range(1, 4):
        server.start()
        try:
            until(lambda: server.log.count(f"queue server on {server.url}\n") == times, 30)  # noqa: B023
            ok(server.call("GET", "/health"))
            assert server.stop() == 0
        finally:
            end(server)


def test_until_then_it_says_nothing(dsn: str, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "log", database_url=dsn)
    server.start()
    try:
        worker = server.worker()
        os.kill(worker, signal.SIGSTOP)  # long before it listens
        assert "queue server on" not in server.log
        os.kill(worker, signal.SIGCONT)
        until(lambda: "queue server on" in server.log, 30)
    finally:
        end(server)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_one_signal_ends_it_and_a_second_does_not_cut_the_end_short(
    embedded: ServerProcess, directory: Path, number: signal.Signals
) -> None:
    embedded.start()
    embedded.ready()
    postmaster = int((directory / "data/postgres/postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGSTOP)  # its end takes as long as we like
    try:
        embedded.signal(number)
        until(lambda: "pg_ctl" in children(embedded.pid).values(), 40)
        for _ in range(2):  # a shell tells its jobs what the terminal has told them already
            embedded.signal(number)
        until(lambda: not awaits(embedded.pid, number))
    finally:
        os.kill(postmaster, signal.SIGCONT)
    assert embedded.wait() == 0, embedded.log
    assert "Traceback" not in embedded.log
    assert not about(str(directory))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["initdb", "pg_ctl", "postgres"])
def test_an_end_during_the_start_leaves_nothing(
    embedded: ServerProcess, moment: str, directory: Path, number: signal.Signals
) -> None:
    def begun() -> bool:
        own = children(embedded.pid)
        controls = [pid for pid, name in own.items() if name == "pg_ctl"]
        # started by pg_ctl, and known to nobody else yet
        return any(map(children, controls)) if moment == "postgres" else moment in own.values()

    embedded.start()
    until(begun, 30)
    embedded.signal(number)
    assert embedded.wait() == 0, embedded.log
    assert not about(str(directory))


def test_an_end_while_the_worker_starts_reaches_the_parent_alone(dsn: str, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "log", database_url=dsn)
    for _ in range(3):
        server.start()
        try:
            server.worker()  # it exists, and knows of nothing yet
            os.killpg(server.pid, signal.SIGINT)  # as Ctrl-C does
            assert server.wait() == 0, server.log
        finally:
            end(server)
    assert "Traceback" not in server.log and "has ended" not in server.log


def test_a_worker_that_dies_at_once_is_followed_by_another(dsn: str, tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    server = ServerProcess(
        tmp_path / "log", program="tests.short_lived", database_url=dsn, lives=str(lives)
    )
    with serving(server):
        assert lives.read_text() == "died\n" * 2
        assert server.log.count("the worker has ended (3); another one is started") == 2
        until(lambda: "queue server on" in server.log)
        first = server.worker()
        os.kill(first, signal.SIGKILL)
        until(lambda: first not in server.family())
        ok(
            server.call("GET", "/health")
        )  # whoever comes meanwhile is not refused: the parent listens, too
        assert server.log.count("the worker has ended (-9); another one is started") == 1
        os.kill(server.worker(), signal.SIGTERM)  # it ends in an orderly way, and is replaced
        until(lambda: "the worker has ended (0); another one is started" in server.log)
        ok(server.call("GET", "/health"))
        assert server.log.count("queue server on") == 1


def test_closing_the_terminal_ends_it_with_its_postgres(directory: Path) -> None:
    port = str(free_port())
    command = [sys.executable, "-m", "server", "--port", port, "--data", str(directory / "data")]
    line = f"queue server on http://127.0.0.1:{port}"
    done = subprocess.run(
        [sys.executable, "-c", TERMINAL, line, *command],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert not about(str(directory))


def test_under_nohup_it_runs_on(dsn: str, tmp_path: Path) -> None:
    with hangups_ignored(), serving(ServerProcess(tmp_path / "log", database_url=dsn)) as server:
        worker = server.worker()
        for pid in (server.pid, worker):
            assert ignores(pid, signal.SIGHUP)
            os.kill(pid, signal.SIGHUP)
        ok(server.call("GET", "/health"))
        assert server.worker() == worker


def test_a_hangup_is_for_the_parent_alone(dsn: str, tmp_path: Path) -> None:
    with serving(ServerProcess(tmp_path / "log", database_url=dsn)) as server:
        assert not ignores(server.pid, signal.SIGHUP)  # the control of the test above
        assert ignores(server.worker(), signal.SIGHUP)


def test_the_parent_never_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes just before a wait does not end it: the handler runs after it."""
    waits: list[float | None] = []

    class Worker:
        sentinel, exitcode = 0, 0

        def is_alive(self) -> bool:
            return len(waits) < 4

        def join(self, timeout: float | None = None) -> None:
            waits.append(timeout)

    def nothing(things: list[Any], timeout: float | None = None) -> list[Any]:
        waits.append(timeout)
        return things if len(waits) == 2 else []

    here, there = Pipe()
    with here, there, socket.create_server(("127.0.0.1", 0)) as listener:
        watched = Parent(parse([]), "", listener)
        monkeypatch.setattr(watched, "_worker", Worker())
        monkeypatch.setattr(watched, "_lifeline", here)
        monkeypatch.setattr(parent, "wait", nothing)
        assert not watched._ready()
        watched._wait(began=0.0)
    assert len(waits) == 4 and all(one is not None and one <= 1.0 for one in waits)
