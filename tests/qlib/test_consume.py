"""What consume promises: what it acknowledges, when it waits, and how it ends."""

from collections.abc import Iterator

import pytest

from qlib import (
    Batch,
    Message,
    OffsetOutOfRange,
    OutcomeUnknown,
    QSubscriber,
    SubscriberNotFound,
    Unauthorized,
    Unavailable,
    UnreadableAnswer,
    consumer,
)
from tests.qlib.hostile import (
    STALE,
    Hostile,
    acked,
    acks,
    busy,
    cut,
    fetched,
    html,
    problem,
    unsure,
    waits,
)


def test_consume_drains_and_stops(subscribed):
    state, reader = subscribed(fetched(1, 2), acked(2), fetched(3), acked(3), fetched())
    assert [m.offset for m in reader.consume(limit=2, wait=0)] == [1, 2, 3]
    assert acks(state) == [(2, 1), (3, 1)]
    assert waits(state) == [0, 0, 0]
    assert {seen.query["limit"] for seen in state.seen if seen.query} == {"2"}


def test_consume_acks_a_batch_before_it_fetches_the_next(subscribed):
    state, reader = subscribed(fetched(1), acked(1), fetched(2), acked(2), fetched())
    list(reader.consume(wait=0))
    assert [seen.path.rsplit("/", 1)[1] for seen in state.seen] == [
        "messages",
        "ack",
        "messages",
        "ack",
        "messages",
    ]


class Clock:
    """A clock that every fetch moves on by what it waited; `early` answers empty before time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, early: float = 0.0) -> None:
        self.now = 100.0
        fetch = QSubscriber._fetch

        def waited(reader: QSubscriber, limit: int, wait: float, outage: object) -> object:
            batch = fetch(reader, limit, wait, outage)
            self.now += 0.0 if batch else max(wait - early, 0.1)
            return batch

        monkeypatch.setattr(QSubscriber, "_fetch", waited)
        monkeypatch.setattr(consumer, "monotonic", lambda: self.now)


def test_consume_ends_when_nothing_came_for_so_long(subscribed, monkeypatch):
    Clock(monkeypatch)
    state, reader = subscribed(fetched(), fetched(1), acked(1), fetched(), fetched(), fetched())
    assert [m.offset for m in reader.consume(wait=25)] == [1]
    # 20 s of nothing, a message, and from then on 25 s again, in polls of at most 20 s.
    assert waits(state) == [20, 5, 20, 5]


def test_consume_goes_on_when_a_server_ends_a_long_poll_early(subscribed, monkeypatch):
    Clock(monkeypatch, early=6.0)
    state, reader = subscribed(fetched(), fetched(1), acked(1), *[fetched()] * 200)
    assert [m.offset for m in reader.consume(wait=10)] == [1]
    assert waits(state)[:3] == [10, 6, 10]


def test_consume_without_wait_goes_on_for_ever(subscribed, monkeypatch):
    Clock(monkeypatch)
    state, reader = subscribed(*[fetched()] * 30, fetched(1))
    assert next(reader.consume()).offset == 1
    assert waits(state) == pytest.approx(
        [20] * 31, abs=1
    )  # what is left of the time for a call, at most


def test_breaking_out_acks_what_came_before(subscribed):
    state, reader = subscribed(fetched(1, 2, 3), acked(2))
    for message in reader.consume():
        if message.offset == 3:
            break
    assert acks(state) == [(2, 1)]


def leave_by_exception(state: Hostile, reader: QSubscriber) -> None:
    """Fail while message 2 is handled, and check that 1 alone was acknowledged."""
    with pytest.raises(ZeroDivisionError):
        for message in reader.consume():
            assert 1 / (2 - message.offset)
    assert acks(state) == [(1, 1)]


def test_an_exception_acks_what_came_before(subscribed):
    leave_by_exception(*subscribed(fetched(1, 2, 3), acked(1)))


def test_closing_acks_what_came_before(subscribed):
    state, reader = subscribed(fetched(1, 2, 3), acked(1))
    messages = reader.consume()
    next(messages)
    next(messages)
    messages.close()
    assert acks(state) == [(1, 1)]


def test_leaving_at_the_first_message_acks_nothing(subscribed):
    state, reader = subscribed(fetched(1, 2))
    for _ in reader.consume():
        break
    assert acks(state) == []


@pytest.mark.parametrize("failure", [STALE, problem(404, "subscriber_not_found")])
def test_an_ack_that_fails_does_not_hide_the_exception(subscribed, failure):
    leave_by_exception(*subscribed(fetched(1, 2, 3), failure))
    _, reader = subscribed(fetched(1, 2), failure)
    messages = reader.consume()
    next(messages)
    next(messages)
    with pytest.raises(ZeroDivisionError):
        messages.throw(ZeroDivisionError())


def planted_early_ack(
    patient: consumer.Patience, batch: Batch, ack_every: float
) -> Iterator[Message]:
    """Acknowledge each message before it is handled: at most once, a bug."""
    for message in batch:
        patient.reader.ack(message)
        yield message


def planted_no_ack(patient: consumer.Patience, batch: Batch, ack_every: float) -> Iterator[Message]:
    """Forget what was done when the loop is left: a bug."""
    yield from batch
    patient.reader.ack(batch[-1])


@pytest.mark.parametrize("bug", [planted_early_ack, planted_no_ack])
def test_control_wrong_acks_are_caught(subscribed, monkeypatch, bug):
    monkeypatch.setattr(consumer, "_worked_through", bug)
    with pytest.raises(AssertionError):
        leave_by_exception(*subscribed(fetched(1, 2, 3), acked(1), acked(2)))


def test_a_reset_under_way_is_followed(subscribed):
    again = fetched(1, 2, epoch=2)
    state, reader = subscribed(fetched(1, 2), STALE, again, acked(2, epoch=2), fetched())
    assert [m.offset for m in reader.consume(wait=0)] == [1, 2, 1, 2]
    assert acks(state) == [(2, 1), (2, 2)]


def test_a_reset_is_followed_even_behind_an_ack_in_doubt(subscribed):
    state, reader = subscribed(
        fetched(1), cut, STALE, fetched(1, epoch=2), acked(1, epoch=2), fetched()
    )
    assert [m.offset for m in reader.consume(wait=0)] == [1, 1]
    assert acks(state) == [(1, 1), (1, 1), (1, 2)]


def test_consume_outlives_a_restart_of_the_server(subscribed):
    state, reader = subscribed(cut, busy(), fetched(1), cut, unsure(), acked(1), busy(), fetched())
    assert [m.offset for m in reader.consume(wait=0)] == [1]
    assert acks(state) == [(1, 1)] * 3


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([fetched(1), problem(404, "subscriber_not_found")], SubscriberNotFound),
        ([problem(404, "subscriber_not_found")], SubscriberNotFound),
        ([problem(410, "offset_out_of_range")], OffsetOutOfRange),
        ([problem(401, "unauthorized")], Unauthorized),
        ([problem(409, "offset_out_of_range")], OffsetOutOfRange),
        ([*[html()] * 200], UnreadableAnswer),
        ([*[html(302)] * 200], UnreadableAnswer),
        ([fetched(1), cut, problem(404, "subscriber_not_found")], OutcomeUnknown),
        ([fetched(1), *[html()] * 200], OutcomeUnknown),
    ],
)
def test_other_errors_end_consume(subscribed, script, expected, caplog, clock):
    _, reader = subscribed(*script)
    with pytest.raises(expected):
        list(reader.consume())
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [([busy()] * 200, Unavailable), ([fetched(1), *[cut] * 200], OutcomeUnknown)],
)
def test_with_an_end_an_outage_ends_consume(subscribed, script, expected, caplog, clock):
    _, reader = subscribed(*script)
    with pytest.raises(expected):
        list(reader.consume(wait=0))
    assert caplog.messages == []
