"""A crash kills what is ours and nothing else, and a restart goes on where it was."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from qlib import QPublisher, QSubscriber, Unavailable
from qlib.lab import Stack, StackError, crash, restart, sql, up
from qlib.lab.stack import choice
from tests.lab.stack.processes import about, command
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[3]
LONG = 60.0

CRASHED_KERNEL = """
import os, sys
from qlib import lab
lab.up()
lab.crash()
print(os.environ["QUEUE_DSN"].split("host=")[1].split(" ")[0], flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def no_stack_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without a queue, and end the private one of this test."""
    for name in [name for name in os.environ if name.startswith("QUEUE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(choice, "_private", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUEUE_URL", "")  # so that what `up` sets is unset again
        patch.setenv("QUEUE_DSN", "")
        yield
        if choice._private:
            choice._private.stop()


def directory() -> Path:
    """Return the private directory of the stack at hand."""
    return Path(parse_dsn(os.environ["QUEUE_DSN"])["host"]).parents[1]


def programs() -> set[str]:
    """Return what of the stack at hand runs, as "server", "guard" and "postgres"."""
    lines = [" ".join(command(pid)) for pid in about(str(directory()))]
    kinds = {"guard": "guard.py", "server": "-m server --port", "postgres": "postgres"}
    return {
        kind
        for line in lines
        for kind, word in kinds.items()
        if word in line and ("guard.py" in line) == (kind == "guard")
    }


def test_clients_go_on_after_a_crash() -> None:
    up()
    address = os.environ["QUEUE_URL"], os.environ["QUEUE_DSN"]
    with QPublisher(timeout=LONG) as pub:
        pub.create_topic("orders")
        assert list(pub.publish_many("orders", range(100))) == list(range(1, 101))
        with QSubscriber("orders", "billing", "earliest", timeout=LONG) as sub:
            sub.ack(sub.fetch()[49])
            restart()  # nothing was killed: nothing happens
            assert programs() == {"guard", "server", "postgres"}
            for _ in range(2):  # the second time nothing happens
                crash()
                until(lambda: programs() == {"guard"})
            with pytest.raises(psycopg2.OperationalError):
                sql("select 1")
            with pytest.raises(Unavailable), QPublisher(timeout=0.1) as impatient:
                impatient.topics()
            restart()
            assert (os.environ["QUEUE_URL"], os.environ["QUEUE_DSN"]) == address
            assert sql("select count(*) from queue.messages")["count"].tolist() == [100]
            assert sub.position == 50
            assert [message.payload for message in sub.fetch(2)] == [50, 51]
            assert sub.ack(51) == 51
            assert pub.publish("orders", "after") == 101


def test_up_starts_again_what_was_killed() -> None:
    up(fresh="orders")
    with QPublisher(timeout=LONG) as pub:
        pub.create_topic("orders")
        pub.create_topic("returns")
        crash()
        up(fresh="orders")
        assert [topic.topic for topic in pub.topics()] == ["returns"]


def test_a_shared_queue_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with Stack() as shared:
        monkeypatch.setenv("QUEUE_URL", shared.url)
        monkeypatch.setenv("QUEUE_DSN", shared.dsn)
        up()
        for act in (crash, restart):
            with pytest.raises(StackError, match="not ours to kill: .* private ones alone"):
                act()
        up(private=True)
        assert os.environ["QUEUE_URL"] != shared.url and os.environ["QUEUE_DSN"] != shared.dsn
        up()
        crash()
        until(lambda: programs() == {"guard"})
        with QPublisher(shared.url) as pub:
            assert pub.topics() == []
        monkeypatch.setenv("QUEUE_URL", shared.url)  # ours exists, but is not at hand
        with pytest.raises(StackError, match="not ours to kill"):
            restart()
        assert shared.alive


def test_without_a_queue_there_is_nothing_to_kill() -> None:
    with pytest.raises(StackError, match="not ours to kill"):
        crash()


def test_a_stack_that_has_ended_cannot_be_killed_or_started() -> None:
    up()
    assert choice._private
    crash()
    assert not choice._private.alive
    (guard,) = [pid for pid in about(str(directory())) if "guard.py" in " ".join(command(pid))]
    os.kill(guard, signal.SIGTERM)
    until(lambda: not about(str(directory())))
    with pytest.raises(StackError, match="does not start"):
        restart()
    with pytest.raises(StackError, match="does not end"):
        crash()


def test_a_crashed_stack_ends_with_its_process() -> None:
    kernel = subprocess.Popen(
        [sys.executable, "-c", CRASHED_KERNEL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with kernel:
        assert kernel.stdout
        assert kernel.stdout.readline() == "this notebook has a private queue\n"
        private = Path(kernel.stdout.readline().strip()).parents[1]
        assert private.exists()
        kernel.kill()
        until(lambda: not private.exists() and not about(str(private)), LONG)
