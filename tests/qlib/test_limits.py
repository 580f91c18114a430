"""Every wait ends: pauses, time limits and the longest answer."""

import socket

import pytest

from qlib import (
    OutcomeUnknown,
    Unavailable,
    UnreadableAnswer,
    attempts,
    received,
)
from tests.qlib.door import GOOD, WHOLE, send
from tests.qlib.hostile import (
    busy,
    hang,
    hostile,
    http,
    raw,
    trickle,
)


def refused_url() -> str:
    """Return the address of a port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def test_nobody_listening_is_unavailable_until_somebody_does(clock):
    with pytest.raises(Unavailable):
        send(refused_url(), timeout=1.0)
    assert len(clock) >= 2
    assert sum(clock) < 1.0


def test_an_unknown_name_is_unavailable(monkeypatch):
    def no_such_name(*args: object, **kwargs: object) -> None:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    with pytest.raises(Unavailable):
        send("http://queue.invalid", timeout=0.01)


def test_pauses_grow_with_jitter_to_a_limit(monkeypatch):
    monkeypatch.setattr(attempts.random, "uniform", lambda low, high: (low, high))
    pauses = attempts.pauses()
    spans = [next(pauses) for _ in range(9)]
    assert spans == [(0.0, high) for high in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0)]


def test_retry_after_is_honoured(clock):
    with hostile(busy(after="3"), busy(after="soon"), busy(after="-1"), GOOD) as server:
        assert send(server.url, timeout=30.0) == 7
    assert clock[0] == 3.0
    assert max(clock[1:]) < 0.5


def test_retry_after_beyond_the_timeout_gives_up_at_once(clock):
    with hostile(busy(after="999999999"), GOOD) as server:
        with pytest.raises(Unavailable):
            send(server.url)
        assert (len(server.seen), clock) == (1, [])


def test_the_timeout_bounds_all_attempts_together(clock):
    with hostile(*[busy()] * 500) as server:
        with pytest.raises(Unavailable):
            send(server.url, timeout=20.0)
        assert len(server.seen) == len(clock) + 1 >= 10
    assert 15.0 < sum(clock) < 20.0


def test_a_silent_server_is_left():
    with hostile(hang) as server:
        with pytest.raises(OutcomeUnknown):
            send(server.url, timeout=0.3)
        assert server.finished == []


def answer_trickles(content: bytes) -> None:
    """Check that an answer that would take 2 s is not waited for by one with 0.2 s."""
    with hostile(trickle(content, 2.0 / len(content))) as server:
        with pytest.raises(OutcomeUnknown):
            send(server.url, timeout=0.2)
        assert server.finished == []


SLOW_HEAD = WHOLE.replace(b"HTTP/1.1 200 Whatever", b"HTTP/1.1 200 " + b"x" * 60)


SLOW_BODY = http(200, b'{"value":7' + b" " * 60 + b"}")


@pytest.mark.parametrize("content", [SLOW_HEAD, SLOW_BODY])
def test_a_trickling_answer_is_left(content):
    answer_trickles(content)


def test_control_a_bound_for_each_wait_would_wait_for_a_trickle(monkeypatch):
    def readinto(reader: received._BoundedReader, buffer: bytearray) -> int:
        return reader._sock.recv_into(buffer)

    monkeypatch.setattr(received._BoundedReader, "readinto", readinto)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        answer_trickles(SLOW_BODY)


def test_an_endless_answer_is_cut_off(monkeypatch):
    monkeypatch.setattr(received, "LARGEST", 2**20)
    huge = raw(http(200, b'{"value":7}' + b" " * 2**23), more=True)
    with hostile(huge, huge, GOOD) as server:
        with pytest.raises(OutcomeUnknown, match="longer"):
            send(server.url)
        with pytest.raises(UnreadableAnswer, match="longer"):
            send(server.url, "GET")
        assert len(server.seen) == 2  # it would be as long again
    monkeypatch.undo()
    with hostile(huge) as server:
        assert send(server.url) == 7
