"""What must be true under load: no promise is broken, whoever is killed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.compose.stack import Stack
from tests.stress_process import stress, verdict_of
from tests.waiting import until

CREW = ("--publishers", "3", "--subscribers", "3", "--topics", "2", "--resets")
ENDLESS = ("--seconds", "3600")  # until Ctrl-C
PROGRESS = 1000  # messages between two disturbances
PATIENCE = 60.0

ANSWERED = """
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener
token = Path("/secrets/queue_token").read_text()
ask = Request("http://127.0.0.1:8008/metrics", headers={"Authorization": f"Bearer {token}"})
lines = build_opener(ProxyHandler({})).open(ask, timeout=10).read().decode().splitlines()
counted = [line.split() for line in lines if line.startswith('queue_requests_total{operation="publish"')]
print(int(sum(float(count) for _, count in counted)))
"""


def three_servers_share_the_load(stack: Stack) -> None:
    """Stress with resets through three servers, one of them killed in the middle."""
    stack.told("--scale server=3")
    servers = [one["Id"] for one in stack.containers("server")]
    assert len(servers) == 3
    until(lambda: stack.healthy("server"), PATIENCE)
    with loaded(stack):
        for one in servers:
            until(partial(is_busy, stack, one), PATIENCE)
        stack.run(["docker", "kill", servers[1]])
        advance(stack)
    stack.compose("up", "-d", "--wait", "--no-recreate", "--scale", "server=1")
    assert len(stack.containers("server")) == 1


def each_container_is_killed_in_turn(stack: Stack) -> None:
    """Stress with resets; each container's process dies, and the engine starts it again."""
    with loaded(stack):
        for service in ("db", "server", "proxy", "lab"):
            stack.crash(service)
            advance(stack)


@contextmanager
def loaded(stack: Stack) -> Iterator[None]:
    """Stress the published port in the block; the verdict must be clean."""
    token = stack.secret("server", "queue_token")
    with stress(stack.url, *ENDLESS, *CREW, queue_token=token) as run:
        advance(stack)
        yield
        assert run.poll() is None, run.communicate()[0]
        run.send_signal(signal.SIGINT)
        published, delivered = verdict_of(run)
    print(f"          clean: {published:,} published, {delivered:,} delivered", flush=True)
    assert published > PROGRESS and delivered >= published


def advance(stack: Stack) -> None:
    """Return when many more messages have been published."""
    before = heads(stack)
    until(lambda: heads(stack) > before + PROGRESS, PATIENCE)


def heads(stack: Stack) -> int:
    with stack.queue() as queue:
        return sum(topic.head for topic in queue.topics())


def is_busy(stack: Stack, server: str) -> bool:
    """Whether a server has answered more than a few publishes."""
    return int(stack.run(["docker", "exec", server, "python", "-c", ANSWERED])) > 20
