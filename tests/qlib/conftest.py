"""Scripted servers, each with a client to it; all are closed when the test ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from qlib import QPublisher, QSubscriber, attempts, consumer, transport
from tests.qlib.hostile import Hostile, Step, answer, hostile, subscriber


@pytest.fixture
def publishing() -> Iterator[Callable[..., tuple[Hostile, QPublisher]]]:
    """Start a server with this script and a publisher to it."""
    with ExitStack() as opened:

        def start(*script: Step, timeout: float = 5.0) -> tuple[Hostile, QPublisher]:
            server = opened.enter_context(hostile(*script))
            return server, opened.enter_context(QPublisher(server.url, timeout=timeout))

        yield start


@pytest.fixture
def subscribed() -> Iterator[Callable[..., tuple[Hostile, QSubscriber]]]:
    """Start a server and subscribe `billing` to it; the script begins after that."""
    with ExitStack() as opened:

        def start(*script: Step, timeout: float = 5.0) -> tuple[Hostile, QSubscriber]:
            server = opened.enter_context(hostile(answer(subscriber(), 201), *script))
            reader = QSubscriber("orders", "billing", url=server.url, timeout=timeout)
            server.seen.clear()
            return server, opened.enter_context(reader)

        yield start


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let pauses pass at once on the client's clock; the list holds them."""
    pauses: list[float] = []
    real = transport.time.monotonic

    class Clock:
        monotonic = staticmethod(lambda: real() + sum(pauses))
        sleep = staticmethod(pauses.append)

    monkeypatch.setattr(transport, "time", Clock)
    monkeypatch.setattr(attempts, "time", Clock)
    monkeypatch.setattr(consumer, "monotonic", Clock.monotonic)
    monkeypatch.setattr(consumer, "sleep", Clock.sleep)
    return pauses
