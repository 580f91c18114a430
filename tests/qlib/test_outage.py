"""Consume sits through an outage of any length, says so once, and can be stopped meanwhile."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from qlib import OutcomeUnknown, QPublisher, QSubscriber, Unavailable, attempts, consumer
from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.install import install
from tests.qlib.hostile import (
    STALE,
    acked,
    acks,
    answer,
    busy,
    cut,
    fetched,
    hang,
    http,
    problem,
    raw,
    subscriber,
    unsure,
)
from tests.server_process import ROOT, ServerProcess, serving
from tests.waiting import until

TIMEOUT = 0.3  # of each call: the outages here are longer than any


class Consuming(Thread):
    """A consumer at work, until it has seen the payload "last"."""

    def __init__(self, reader: QSubscriber) -> None:
        super().__init__(daemon=True)
        self.reader = reader
        self.seen: list[object] = []
        self.ended: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            for message in self.reader.consume():
                self.seen.append(message.payload)
                if message.payload == "last":
                    return
        except BaseException as error:
            self.ended = error


@contextmanager
def consuming(server: ServerProcess, caplog: pytest.LogCaptureFixture) -> Iterator[Consuming]:
    """Run a consumer through what the block does to the server; in the end it must have got all."""
    with QPublisher(server.url, timeout=60) as pub:
        pub.create_topic("t")
        pub.publish("t", "first")
        with QSubscriber("t", "s", "earliest", url=server.url) as reader:
            reader._transport._timeout = TIMEOUT
            thread = Consuming(reader)
            until(lambda: thread.seen)
            yield thread
            pub.publish("t", "last")
            thread.join(60)
            assert thread.ended is None
            assert thread.seen == ["first", "last"]
            (standing,) = pub.subscribers("t")
            assert standing.position == 1
        assert any("goes on when the queue answers again" in line for line in caplog.messages)


def calls_that_failed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that holds the pause after each call of a consumer that failed."""
    pauses: list[float] = []
    real = consumer.sleep
    monkeypatch.setattr(consumer, "sleep", lambda pause: (pauses.append(pause), real(pause)))
    return pauses


def outlives_a_killed_server(
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed = calls_that_failed(monkeypatch)
    server = ServerProcess(tmp_path / "log", "--data", str(directory))
    with serving(server), consuming(server, caplog) as thread:
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        until(lambda: len(failed) >= 3 or thread.ended)
        server.start()
        server.ready()
    assert max(failed) <= 2.0


def test_consume_outlives_kill_9_of_the_server(directory, tmp_path, monkeypatch, caplog):
    outlives_a_killed_server(directory, tmp_path, monkeypatch, caplog)


def test_control_a_consumer_without_patience_is_caught(directory, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(consumer, "passes", lambda error: False)
    with pytest.raises(AssertionError):
        outlives_a_killed_server(directory, tmp_path, monkeypatch, caplog)


def test_consume_outlives_a_database_that_is_gone(
    directory: Path, tmp_path: Path, pg_bin: Path | None, monkeypatch, caplog
) -> None:
    failed = calls_that_failed(monkeypatch)
    postgres = EmbeddedPostgres(directory / "data", bin_dir=pg_bin)
    with postgres:
        assert install(postgres.dsn)
        server = ServerProcess(tmp_path / "log", database_url=postgres.dsn)
        with serving(server), consuming(server, caplog) as thread:
            postgres.stop()
            until(lambda: len(failed) >= 3 or thread.ended, 30)
            assert server.call("GET", "/health").status_code == 503
            postgres.start()


def test_an_ack_in_doubt_is_sent_until_it_is_known(subscribed, caplog, clock):
    script = [fetched(1), *[cut, unsure()] * 25, acked(1), fetched(2)]
    state, reader = subscribed(*script)
    messages = reader.consume()
    assert [next(messages).offset, next(messages).offset] == [1, 2]
    assert acks(state) == [(1, 1)] * 51
    assert len(caplog.messages) == 1
    assert repr(reader) in caplog.messages[0]


def test_a_reset_during_the_outage_has_won(subscribed, clock):
    script = [fetched(1, 2), *[cut] * 50, STALE, fetched(1, epoch=2)]
    _, reader = subscribed(*script)
    messages = reader.consume()
    assert [next(messages).offset for _ in range(3)] == [1, 2, 1]


def test_each_outage_is_told_once(subscribed, caplog, clock):
    outage = [busy()] * 50
    script = [*outage, fetched(1), acked(1), *outage, fetched(2)]
    _, reader = subscribed(*script)
    messages = reader.consume()
    assert [next(messages).offset, next(messages).offset] == [1, 2]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert {record.name for record in caplog.records} == {"qlib"}


@pytest.mark.parametrize("script", [[], [fetched(1)]])
def test_patience_is_how_long_an_outage_is_sat_through(subscribed, clock, script):
    _, reader = subscribed(*script, *[busy()] * 5000, timeout=30.0)
    with pytest.raises(Unavailable):
        list(reader.consume(patience=90.0))
    assert 85.0 < sum(clock) < 92.0  # the last pause of at most 2 s may be left out, or on top
    clock.clear()
    with pytest.raises(Unavailable):
        list(reader.consume(patience=5.0))
    assert 2.0 < sum(clock) < 7.0
    assert max(clock) <= 2.0
    clock.clear()
    with pytest.raises(Unavailable):
        list(reader.consume(patience=0.0))
    assert clock == []


def test_patience_is_not_used_up_by_outages_that_end(subscribed, clock):
    script = [*[busy("9")] * 4, fetched(1), acked(1)] * 5
    _, reader = subscribed(*script, *[busy("9")] * 5000, timeout=30.0)
    messages = reader.consume(patience=60.0)
    assert [next(messages).offset for _ in range(5)] == [1] * 5
    assert sum(clock) > 120.0


def leaves_promptly(subscribed: Callable, clock: list[float]) -> None:
    _, reader = subscribed(fetched(1, 2), *[busy()] * 5000, timeout=30.0)
    for message in reader.consume():
        if message.offset == 2:
            break
    assert 0.0 < sum(clock) < 2.0


def test_a_loop_that_is_left_does_not_wait_for_its_ack(subscribed, clock):
    leaves_promptly(subscribed, clock)


def test_control_a_last_ack_with_all_its_patience_is_caught(subscribed, clock, monkeypatch):
    monkeypatch.setattr(consumer, "_LEAVING_SECONDS", 30.0)
    with pytest.raises(AssertionError):
        leaves_promptly(subscribed, clock)


def test_a_loop_that_is_left_does_not_wait_for_a_silent_server(subscribed, monkeypatch):
    monkeypatch.setattr(consumer, "_LEAVING_SECONDS", 0.2)
    state, reader = subscribed(fetched(1, 2), hang, timeout=30.0)
    with pytest.raises(ZeroDivisionError):
        for message in reader.consume():
            assert 1 / (2 - message.offset)
    assert acks(state) == [(1, 1)]
    assert state.finished == []


PROGRAM = """
import sys
from qlib import QSubscriber
reader = QSubscriber("orders", "billing")
reader._transport._timeout = 0.2
for message in reader.consume():
    print(message.offset, flush=True)
"""


@pytest.mark.parametrize("script", [[busy()] * 5000, [fetched(1, 2), acked(2), hang]])
def test_ctrl_c_ends_it_during_an_outage(subscribed, script):
    state, _ = subscribed(answer(subscriber(), 201), *script)
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "QUEUE_URL": state.url, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stderr is not None
        if hang in script:
            until(lambda: len(state.seen) == 1 + len(script))
        else:  # the warning is seen without any setting up of logging
            assert "goes on when the queue answers again" in program.stderr.readline()
        program.send_signal(signal.SIGINT)
        _, rest = program.communicate(timeout=20)
        assert rest.rstrip().endswith("KeyboardInterrupt")
        assert program.returncode == -signal.SIGINT
    finally:
        program.kill()
        program.wait()


@contextmanager
def pauses_before_the_warning(clock: list[float]) -> Iterator[list[float]]:
    """Yield a list that holds, for each warning, how long the client had paused until then."""
    told: list[float] = []
    listener = logging.Handler()
    listener.emit = lambda record: told.append(sum(clock))  # type: ignore[method-assign]
    logging.getLogger("qlib").addHandler(listener)
    try:
        yield told
    finally:
        logging.getLogger("qlib").removeHandler(listener)


@pytest.mark.parametrize("failing", [busy(), busy("9"), cut, problem(429, "slow_down", after="9")])
def test_an_outage_is_told_soon_and_not_when_the_call_ends(subscribed, clock, failing):
    _, reader = subscribed(*[failing] * 3, fetched(1), timeout=60.0)
    with pauses_before_the_warning(clock) as told:
        assert next(reader.consume()).offset == 1
    assert len(told) == 1
    assert told[0] <= 2.0


def test_a_silent_server_is_told_of_by_the_first_answer_that_is_not_there(
    subscribed, caplog, monkeypatch
):
    monkeypatch.setattr(attempts, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(consumer, "_POLL_SECONDS", 0.0)
    _, reader = subscribed(hang, fetched(1), timeout=30.0)
    assert next(reader.consume()).offset == 1
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("failing", [cut, busy("1")])
def test_one_attempt_that_fails_and_heals_is_not_told(subscribed, caplog, clock, failing):
    _, reader = subscribed(failing, fetched(1), failing, acked(1), fetched(2))
    messages = reader.consume()
    assert [next(messages).offset, next(messages).offset] == [1, 2]
    assert caplog.messages == []


def test_patience_that_is_over_is_not_told_as_going_on(subscribed, caplog, clock):
    _, reader = subscribed(*[busy()] * 50)
    with pytest.raises(Unavailable):
        list(reader.consume(patience=0.0))
    assert caplog.messages == []


def test_a_proxy_that_says_too_many_requests_is_sat_through(subscribed, clock):
    too_many = raw(http(429, b"<html>slow down</html>", "text/html", Retry_After="7"), more=True)
    _, reader = subscribed(*[too_many] * 20, fetched(1))
    assert next(reader.consume()).offset == 1
    assert sum(clock) > 0


def test_a_doubt_that_patience_does_not_outlast_is_told(subscribed, clock):
    _, reader = subscribed(fetched(1), cut, *[busy()] * 5000, timeout=30.0)
    with pytest.raises(OutcomeUnknown):
        list(reader.consume(patience=10.0))
