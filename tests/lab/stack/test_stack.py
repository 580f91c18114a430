"""A stack of one's own: it works, and it ends with whoever started it, however that ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import pytest
from psycopg2.extensions import parse_dsn

from qlib import QPublisher, QueueError
from qlib.lab import Stack, StackError, sql, up
from qlib.lab.stack import guarded
from tests.lab.stack.processes import about, command
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[3]
LONG = 60.0

# A kernel, as far as a stack can see: it goes on after an interrupt.
KERNEL = """
import os, sys
from qlib import lab
assert lab.up() is None
first = os.environ["QUEUE_URL"]
lab.up(fresh=["orders", "returns"])
assert os.environ["QUEUE_URL"] == first
print(first, os.environ["QUEUE_DSN"].split("host=")[1].split(" ")[0], flush=True)
try:
    sys.stdin.read()
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def no_queue_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's own queue out."""
    for name in [name for name in os.environ if name.startswith("QUEUE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def kernel() -> Iterator[subprocess.Popen[str]]:
    """Run KERNEL in a process group of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", KERNEL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    with process:
        yield process
        process.kill()


def directory_of(dsn: str) -> Path:
    """Return the private directory of a stack: the cluster's is data/postgres in it."""
    return Path(parse_dsn(dsn)["host"]).parents[1]


def gone(directory: Path) -> bool:
    return not about(str(directory)) and not directory.exists()


def healthy(url: str) -> bool:
    with QPublisher(url, timeout=5) as publisher, suppress(QueueError):
        return publisher.topics() is not None
    return False


def test_a_stack_works_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stack() as started:
        directory = directory_of(started.dsn)
        monkeypatch.setenv("QUEUE_URL", started.url)
        monkeypatch.setenv("QUEUE_DSN", started.dsn)
        up(fresh="orders")
        with QPublisher() as publisher:
            publisher.create_topic("orders")
            assert publisher.publish("orders", {"id": 1}) == 1
            assert sql("select payload from queue.messages")["payload"].tolist() == [{"id": 1}]
            up()
            assert [topic.topic for topic in publisher.topics()] == ["orders"]
            up(fresh="orders")
            assert publisher.topics() == []
        assert started.alive
        assert len(about(str(directory))) > 3
    assert not started.alive
    assert gone(directory)
    started.stop()


def test_data_outlive_a_stack_with_a_directory(directory: Path) -> None:
    data = directory / "data"
    with Stack(data) as first, QPublisher(first.url) as publisher:
        publisher.create_topic("orders")
        publisher.publish("orders", 1)
    assert not about(str(data))
    with Stack(data) as second, QPublisher(second.url) as publisher:
        assert publisher.topic("orders").head == 1
    assert sorted(path.name for path in directory.iterdir()) == ["data", "data.log"]


def test_a_killed_kernel_takes_its_stack_with_it(kernel: subprocess.Popen[str]) -> None:
    assert kernel.stdout
    assert kernel.stdout.readline() == "this notebook has a private queue\n"
    url, cluster = kernel.stdout.readline().split()
    directory = Path(cluster).parents[1]
    assert not [pid for pid in about(str(directory)) if os.getpgid(pid) == kernel.pid]
    os.killpg(kernel.pid, signal.SIGINT)
    assert kernel.stdout.readline() == "interrupted\n"
    assert healthy(url) and not gone(directory)
    kernel.kill()
    until(lambda: gone(directory), LONG)
    assert not healthy(url)


def test_a_killed_server_leaves_nothing_behind() -> None:
    with Stack() as started:
        directory = directory_of(started.dsn)
        (server,) = [pid for pid in about(str(directory)) if command(pid)[1:3] == ["-m", "server"]]
        os.kill(server, signal.SIGKILL)
        until(lambda: gone(directory), LONG)
        until(lambda: not started.alive)


def test_a_stack_that_cannot_start_says_why(directory: Path) -> None:
    data = directory / "data"
    data.mkdir()
    (data / "something").touch()
    with pytest.raises(StackError, match="is not empty, and no data directory of ours"):
        Stack(data)
    assert not about(str(data))


def test_a_port_that_is_taken_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = iter([taken, free := guarded.free_port()])
        monkeypatch.setattr(guarded, "free_port", lambda *preferred: next(ports))
        with Stack() as started:
            assert started.url == f"http://127.0.0.1:{free}"
        ports = repeat(taken)
        monkeypatch.setattr(guarded, "_ATTEMPTS", 1)
        with pytest.raises(StackError, match="cannot listen on .*: Address already in use"):
            Stack()
