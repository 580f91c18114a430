"""Workers as processes: stopped, killed, and beside servers that come and go."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qlib import QPublisher, QSubscriber, consumer
from tests.qlib.desk import Handler, working
from tests.server_process import ROOT, ServerProcess, serving
from tests.waiting import until

WHILE = 45.0  # how long a test waits at most: a machine may be slow

# Tells of each message that it begins with; stays with it as long as the file is there.
PROGRAM = """
import os, sys, time
from qlib import QSubscriber

def handler(message):
    print(message.offset, message.attempt, flush=True)
    while os.path.exists(sys.argv[2]):
        time.sleep(0.01)

with QSubscriber(sys.argv[1], "kitchen", "earliest", worker="cook") as cook:
    cook.work(handler, limit=3, seconds=float(sys.argv[3]))
print("through", flush=True)
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def latch(tmp_path: Path) -> Path:
    """The handlers of programs wait as long as this file is there."""
    path = tmp_path / "latch"
    path.touch()
    return path


@pytest.fixture
def start(server: ServerProcess, topic: str, latch: Path) -> Iterator[Start]:
    """Start a worker of the kitchen as a process of its own, which waits with its first message."""
    programs: list[subprocess.Popen[str]] = []

    def one(seconds: float = 30.0) -> subprocess.Popen[str]:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, topic, str(latch), str(seconds)],
            env={**os.environ, "QUEUE_URL": server.url, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        programs.append(program)
        assert program.stdout is not None
        assert program.stdout.readline() == "1 1\n"
        return program

    try:
        yield one
    finally:
        for program in programs:
            program.kill()
            program.communicate(timeout=WHILE)


@pytest.fixture
def kitchen(server: ServerProcess, topic: str) -> Iterator[QSubscriber]:
    """Publish three messages, which one lease takes; what comes back, another worker leases."""
    with (
        QPublisher(server.url) as pub,
        QSubscriber(topic, "kitchen", "earliest", max_attempts=1, url=server.url) as sub,
    ):
        pub.publish_many(topic, range(3))
        yield sub


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_handler_end_and_gives_back_the_rest(
    kitchen: QSubscriber, start: Start, latch: Path, number: int
) -> None:
    program = start()
    program.send_signal(number)
    # 2 and 3 are at their last attempt, and were not begun: they are due at once, and not dead
    again = kitchen.lease(3, wait=40)
    assert [(m.offset, m.attempt) for m in again] == [(2, 1), (3, 1)]
    latch.unlink()
    out, err = program.communicate(timeout=WHILE)
    assert (out, err, program.returncode) == ("through\n", "", 0)
    assert again.ack().lag == 0  # 1 is done
    assert kitchen.dead() == []


def test_a_second_ctrl_c_ends_it_at_once(kitchen: QSubscriber, start: Start) -> None:
    program = start()
    program.send_signal(signal.SIGINT)
    assert len(kitchen.lease(3, wait=40)) == 2  # it has heard the first one
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=WHILE)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert (out, program.returncode) == ("", -signal.SIGINT)
    assert kitchen.position == 0  # the handler is still at it, as far as anybody knows


def test_another_worker_takes_over_from_one_that_was_killed(
    server: ServerProcess, topic: str, start: Start, kitchen: QSubscriber, latch: Path
) -> None:
    """15: what it had comes again after it expires, as another attempt."""
    kitchen.configure(max_attempts=5)
    program = start(seconds=1.0)
    program.kill()
    got: list[tuple[int, int]] = []
    with working(kitchen, lambda message: got.append((message.offset, message.attempt))):
        until(lambda: kitchen.lag == 0, WHILE)
    assert sorted(got) == [(1, 2), (2, 2), (3, 2)]


def outlives_a_killed_server(directory: Path, tmp_path: Path, caplog) -> None:
    server = ServerProcess(tmp_path / "log", "--data", str(directory))
    with serving(server), ExitStack() as opened:
        pub = opened.enter_context(QPublisher(server.url, timeout=60))
        pub.create_topic("t")
        pub.publish_many("t", range(20))
        cook = opened.enter_context(QSubscriber("t", "kitchen", "earliest", url=server.url))
        cook._transport._timeout = 0.3  # of each call: the outage is longer than any
        handler = Handler(5)
        # one lease takes them all: none is lost with its answer, to be nobody's for a minute
        with working(cook, handler, threads=2, limit=100, seconds=60.0) as work:
            # an ack is on disk, and so is the lease before it
            until(lambda: 5 in handler.began and cook.position, WHILE)
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
            handler.release()  # its ack has to wait for the server
            until(lambda: "goes on when the queue answers" in caplog.text or work.error, WHILE)
            server.start()
            server.ready()
            pub.publish("t", "last")
            until(lambda: pub.subscribers("t")[0].lag == 0 or work.error, 2 * WHILE)
            assert work.error is None
        assert sorted(handler.got) == list(range(1, 22))


def test_work_outlives_kill_9_of_the_server(directory, tmp_path, caplog) -> None:
    outlives_a_killed_server(directory, tmp_path, caplog)


def test_control_work_without_patience_is_caught(directory, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(consumer, "passes", lambda error: False)
    monkeypatch.setattr("qlib.hands.passes", lambda error: False)
    with pytest.raises(AssertionError):
        outlives_a_killed_server(directory, tmp_path, caplog)


def test_workers_on_two_servers_share_the_messages(
    start_server: Callable[..., ServerProcess],
) -> None:
    first, second = start_server(), start_server()
    with ExitStack() as opened:
        pub = opened.enter_context(QPublisher(first.url))
        pub.create_topic("t")
        cooks = [
            opened.enter_context(QSubscriber("t", "kitchen", "earliest", url=url))
            for url in (first.url, second.url)
        ]
        one, two = Handler(1, 2), Handler(1, 2)
        with (
            working(cooks[0], one, threads=2, limit=1),
            working(cooks[1], two, threads=2, limit=1),
        ):
            pub.publish_many("t", range(300))
            until(lambda: {1, 2} <= {*one.began, *two.began}, WHILE)
            one.release()
            two.release()
            until(lambda: cooks[1].lag == 0, WHILE)
        assert sorted(one.got + two.got) == list(range(1, 301))
        assert one.got and two.got


FORKING = """
import os
from qlib import QSubscriber

def handler(message):
    print(message.offset, flush=True)
    if message.offset == 1 and os.fork() == 0:
        raise OSError("no such program")

with QSubscriber("%s", "kitchen") as cook:
    cook.work(handler, wait=0)
"""


def test_a_child_that_a_handler_has_forked_is_no_second_worker(
    server: ServerProcess, topic: str, kitchen: QSubscriber
) -> None:
    """It would handle what its parent has leased, and never end: its end closes the output, too."""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING % topic],
        env={**os.environ, "QUEUE_URL": server.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WHILE,
    )
    assert (found.returncode, found.stdout.split()) == (0, ["1", "2", "3"])
    assert "has forked ends here" in found.stderr and "no such program" in found.stderr
    assert (kitchen.lag, kitchen.dead()) == (0, [])
