"""How often consume acknowledges, and so what comes again when its process is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from qlib import QPublisher, QSubscriber, SubscriberNotFound, consumer
from tests.qlib.hostile import (
    STALE,
    Hostile,
    acked,
    acks,
    busy,
    cut,
    fetched,
    problem,
)
from tests.server_process import ROOT, ServerProcess
from tests.waiting import until


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock for the loop, which stands at the sum of this list."""
    passed = [0.0]
    monkeypatch.setattr(consumer, "monotonic", lambda: sum(passed))
    return passed


def work(reader: QSubscriber, now: list[float], took: float, **options: float) -> list[int]:
    """Work through the backlog; every message takes so many seconds."""
    done = []
    for message in reader.consume(wait=0, **options):
        now.append(took)
        done.append(message.offset)
    return done


def acked_every_second(state: Hostile, reader: QSubscriber, now: list[float]) -> None:
    assert work(reader, now, 0.5) == [1, 2, 3, 4, 5]
    assert acks(state) == [(2, 1), (4, 1), (5, 1)]


def test_what_is_done_is_acknowledged_every_second_and_at_the_end_of_a_batch(subscribed, now):
    acked_every_second(
        *subscribed(fetched(1, 2, 3, 4, 5), acked(2), acked(4), acked(5), fetched()), now
    )


def test_control_acks_at_the_end_of_a_batch_alone_are_caught(subscribed, now, monkeypatch):
    once_a_batch(monkeypatch)
    with pytest.raises(AssertionError):
        acked_every_second(*subscribed(fetched(1, 2, 3, 4, 5), acked(5), fetched()), now)


def once_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant what was before: nothing is acknowledged in the middle of a batch."""
    real = consumer._worked_through
    monkeypatch.setattr(consumer, "_worked_through", lambda *args: real(*args[:2], float("inf")))


@pytest.mark.parametrize(("ack_every", "took"), [(0, 0.0), (1.0, 10.0), (10, 10.0)])
def test_a_message_that_takes_as_long_is_acknowledged_after_it(subscribed, now, ack_every, took):
    state, reader = subscribed(fetched(1, 2, 3), acked(1), acked(2), acked(3), fetched())
    assert work(reader, now, took, ack_every=ack_every) == [1, 2, 3]
    assert acks(state) == [(1, 1), (2, 1), (3, 1)]


def test_the_time_begins_with_the_batch(subscribed, now, monkeypatch):
    state, reader = subscribed(fetched(1), acked(1), fetched(2, 3), acked(3), fetched())
    fetch = QSubscriber._fetch

    def slow(*args: object) -> object:
        now.append(15.0)
        return fetch(*args)

    monkeypatch.setattr(QSubscriber, "_fetch", slow)
    assert work(reader, now, 0.4) == [1, 2, 3]
    assert acks(state) == [(1, 1), (3, 1)]


def test_quick_work_costs_an_ack_a_batch(subscribed, now):
    state, reader = subscribed(fetched(*range(1, 101)), acked(100), fetched())
    assert work(reader, now, 0.009) == list(range(1, 101))
    assert acks(state) == [(100, 1)]


def test_leaving_acks_no_message_twice(subscribed, now):
    state, reader = subscribed(fetched(1, 2, 3, 4), acked(2), acked(3))
    for message in reader.consume():
        now.append(0.5)
        if message.offset == 3:  # 2 is acknowledged, and 3 is not done
            break
    assert acks(state) == [(2, 1)]


def test_a_reset_under_way_is_followed_from_the_next_ack_on(subscribed):
    again = fetched(1, 2, epoch=2)
    state, reader = subscribed(
        fetched(1, 2, 3), acked(1), STALE, again, acked(1, 2), acked(2, 2), fetched()
    )
    assert [m.offset for m in reader.consume(wait=0, ack_every=0)] == [1, 2, 1, 2]
    assert acks(state) == [(1, 1), (2, 1), (1, 2), (2, 2)]


def test_a_reset_is_followed_even_behind_an_ack_in_doubt(subscribed):
    state, reader = subscribed(fetched(1, 2), cut, STALE, fetched(2, epoch=2), acked(2), fetched())
    assert [m.offset for m in reader.consume(wait=0, ack_every=0)] == [1, 2]
    assert acks(state) == [(1, 1), (1, 1), (2, 2)]


def test_an_ack_in_the_middle_sits_out_an_outage(subscribed):
    state, reader = subscribed(fetched(1, 2), busy(), cut, acked(1), acked(2), fetched())
    assert [m.offset for m in reader.consume(wait=0, ack_every=0)] == [1, 2]
    assert acks(state) == [(1, 1), (1, 1), (1, 1), (2, 1)]


def test_an_ack_in_the_middle_that_is_refused_ends_the_loop(subscribed):
    state, reader = subscribed(fetched(1, 2), problem(404, "subscriber_not_found"))
    seen = []
    with pytest.raises(SubscriberNotFound):
        for message in reader.consume(ack_every=0):
            seen.append(message.offset)
    assert (seen, acks(state)) == ([1], [(1, 1)])


# Each line that comes in is a message that is done, and moves the clock of the loop by 0.25 s.
PROGRAM = """
import sys
from qlib import QSubscriber, consumer
now = [0.0]
consumer.monotonic = lambda: now[0]
reader = QSubscriber(sys.argv[1], "billing", "earliest")
for message in reader.consume(ack_every=float(sys.argv[2])):
    print(message.offset, flush=True)
    sys.stdin.readline()
    now[0] += 0.25
"""


@contextmanager
def working(server: ServerProcess, topic: str, ack_every: float) -> Iterator[subprocess.Popen[str]]:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, topic, str(ack_every)],
        env={**os.environ, "QUEUE_URL": server.url, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def killed_after_58(
    server: ServerProcess, topic: str, number: signal.Signals, ack_every: float
) -> None:
    """Kill a process that has done 58 of 100 messages, and see how many of them come again."""
    with QPublisher(server.url) as pub:
        pub.publish_many(topic, range(100))
    with working(server, topic, ack_every) as program:
        assert program.stdin is not None and program.stdout is not None
        for offset in range(1, 60):
            assert int(program.stdout.readline()) == offset  # all before it are done
            if offset < 59:
                program.stdin.write("\n")
                program.stdin.flush()
        program.send_signal(number)
        assert program.wait(20) == -number
    with QSubscriber(topic, "billing", url=server.url) as reader:
        (first, *_) = reader.fetch()
    assert first.offset == 57  # two came again that were done, and four a second


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_repeats_at_most_a_second_of_work(server, topic, number):
    killed_after_58(server, topic, number, 1.0)


def test_control_a_whole_batch_that_comes_again_is_caught(server, topic):
    with pytest.raises(AssertionError, match="assert 1 == 57"):
        killed_after_58(server, topic, signal.SIGKILL, 1e9)


def test_the_time_is_that_of_the_real_clock(server, topic):
    with QPublisher(server.url) as pub, QSubscriber(topic, "s", "earliest", url=server.url) as sub:
        pub.publish_many(topic, range(2))
        messages = sub.consume(ack_every=0.001)
        next(messages)
        began = consumer.monotonic()
        until(lambda: consumer.monotonic() > began + 0.001)
        next(messages)
        assert sub.position == 1
        messages.close()
