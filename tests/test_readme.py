"""What the README tells people to type works."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from qlib import QPublisher, QSubscriber
from server.http.bounds import Bounds
from server.settings import parse
from tests.server_process import ServerProcess, serving

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_the_twelve_lines_of_use(server: ServerProcess) -> None:
    program, *_ = blocks("python")
    for run in range(2):  # the second time, the topic and the subscriber are there
        out, told = ran(program, server)
        lines = [f"{3 * n + id} {{'id': {id}}}" for n in range(run + 1) for id in (1, 2, 3)]
        assert (out.splitlines(), told) == (lines, "")


def test_the_lines_of_workers(server: ServerProcess) -> None:
    used, *programs = blocks("python")
    ran(used, server)  # makes the topic, if no other test has
    with QPublisher(server.url) as queue:
        queue.delete_topic("parcels")
    ran(used, server)
    worked, _ = ran(programs[0], server)
    # of two threads that print, so that their words may be mixed
    assert sorted(worked) == sorted("".join(f"{n} 1 {{'id': {n}}}\n" for n in (1, 2, 3)))
    _, failed = ran("\n".join(programs[:2]), server)
    assert failed.count("\nOSError: no box of this size") == 3  # each once, and then it is done
    told, _ = ran("\n".join(programs), server)
    assert told.splitlines()[-1] == "ZeroDivisionError: division by zero"
    with QSubscriber("parcels", "packing", url=server.url) as packing:
        assert [message.attempt for message in packing.lease(10)] == [1, 1, 1]
        assert (packing.lag, packing.dead()) == (0, [])


def ran(program: str, server: ServerProcess) -> tuple[str, str]:
    """Run a program as people would; return what it wrote to stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "QUEUE_URL": server.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_the_same_with_curl(server: ServerProcess) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if "curl" in line]
    answers = [asked(command, server.url) for command in commands]
    assert [answer.status_code for answer in answers] == [201, 201, 200]
    assert [message["payload"] for message in answers[2].json()["messages"]] == ["a", "b"]


def asked(command: str, url: str) -> requests.Response:
    """Do what a curl command would do, at the server under test."""
    words = shlex.split(command)
    options = dict(zip(words[1:-1:2], words[2:-1:2], strict=True))
    name, _, value = options.pop("-H", "Accept: */*").partition(": ")
    body = options.pop("-d", None)
    assert not options
    target = words[-1].replace("http://127.0.0.1:8008", url)
    method = "GET" if body is None else "POST"
    with requests.Session() as session:
        session.trust_env = False  # no proxy
        return session.request(method, target, headers={name: value}, data=body, timeout=30)


def test_the_embedded_postgres_is_dumped_and_restored_with_its_own_programs(
    directory: Path, tmp_path: Path
) -> None:
    lines = {line.split()[0]: line for line in re.findall(r"`(\.queue/bin/[^`]+)`", README)}
    psql, dump, restore = (
        lines[f".queue/bin/{name}"] for name in ("psql", "pg_dump", "pg_restore")
    )
    server = ServerProcess(tmp_path / "log", "--data", str(directory / ".queue"))
    with serving(server), QPublisher(server.url) as queue:
        queue.create_topic("t")
        queue.publish("t", "kept")
        shell(dump, directory)
        queue.publish("t", "gone")
        queue.create_topic("gone")
        shell(restore, directory)
        told = shell(f"{psql} -Atc 'select payload from queue.messages'", directory)
        assert told == '"kept"\n'
    with serving(server), QPublisher(server.url) as queue:
        assert [topic.topic for topic in queue.topics()] == ["t"]
        assert queue.publish("t", "again") == 2


def shell(line: str, directory: Path) -> str:
    """Run a line as people would, on a machine without PostgreSQL's programs."""
    command, environment = ["sh", "-c", line], {"PATH": "/nowhere:/bin"}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_the_files_that_it_names_are_there() -> None:
    named = re.findall(r"`((?:server|qlib|init|findings)/[\w/]+\.\w+)`", README)
    assert len(set(named)) >= 20
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_limits_that_it_tells_are_those_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUEUE_LONG_POLLS", raising=False)
    monkeypatch.delenv("QUEUE_CONNECTIONS", raising=False)
    told, bounds = " ".join(README.split()), Bounds()
    for words in (
        f"takes {bounds.connections:,} connections",
        f"`ulimit -Hn` of {bounds.connections + 1024:,}",
        f"{bounds.spare} more are told so",
        f"{bounds.pipelined} requests may be under way",
        f"at most {bounds.head // 2**10} KiB and {bounds.lines} header lines",
        f"has {bounds.head_time:.0f} seconds to come; a body has {bounds.body_time:.0f} ",
        f"{bounds.idle:.0f} idle seconds",
        f"more than {bounds.unread // 2**10} KiB are unread",
        f"less than {bounds.unread // 2**10} KiB of them in {bounds.stall:.0f} seconds",
        f"All bodies that come in have {bounds.bodies // 2**20} MiB together",
        f"all unread answers have {bounds.unread_in_all // 2**20} MiB",
        f"{parse([]).long_polls:,} long polls wait at a time",
        f"{parse([]).connections} connections to the database",
    ):
        assert words in told


def test_the_make_targets_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = set(re.findall(r"make ([a-z-]+)", README))
    assert (
        {"lab", "test", "lint", "notebooks", "stress", "setup", "compose-test"} <= told <= targets
    )
