"""The reading side against a scripted server: fetch, ack, seek, and what consume promises."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from qlib import (
    InvalidRequest,
    OffsetOutOfRange,
    OutcomeUnknown,
    QSubscriber,
    StaleEpoch,
    SubscriberNotFound,
    subscriber,
)
from tests.qlib import hostile as fake
from tests.qlib.hostile import (
    Hostile,
    Step,
    acked,
    answer,
    busy,
    cut,
    fetched,
    hostile,
    problem,
    raw,
    unsure,
)

STALE = problem(409, "stale_epoch")
PATH = "/topics/orders/subscribers"
NAIVE = datetime(2024, 1, 1)


@pytest.fixture
def serve() -> Iterator[object]:
    """Return a function that starts a scripted server and subscribes `billing` to it."""
    opened: list[object] = []

    def start(*script: Step, timeout: float = 5.0) -> tuple[Hostile, QSubscriber]:
        server = hostile(answer(fake.subscriber(), 201), *script)
        state = server.__enter__()
        opened.append(server)
        reader = QSubscriber("orders", "billing", url=state.url, timeout=timeout)
        opened.append(reader)
        state.seen.clear()
        return state, reader

    yield start
    for thing in reversed(opened):
        thing.__exit__(None, None, None)


def acks(state: Hostile) -> list[tuple[int, int]]:
    """Return what was acknowledged: offset and epoch of each ack."""
    sent = [seen.body for seen in state.seen if seen.path == f"{PATH}/billing/ack"]
    return [(body["offset"], body["epoch"]) for body in sent]


def waits(state: Hostile) -> list[float]:
    """Return how long each fetch was ready to wait."""
    sent = [seen for seen in state.seen if seen.path == f"{PATH}/billing/messages"]
    return [float(seen.query["wait"]) for seen in sent]


def test_subscribing_at_each_kind_of_start():
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    starts = ["latest", "earliest", 41, moment]
    with hostile(*[answer(fake.subscriber(), 201)] * 4) as server:
        for start in starts:
            QSubscriber("orders", "billing", start, url=server.url).close()
        assert [seen.path for seen in server.seen] == [PATH] * 4
        assert [seen.body["start"] for seen in server.seen] == [
            "latest",
            "earliest",
            41,
            {"timestamp": "2024-01-01T00:00:00.000000+00:00"},
        ]
        with pytest.raises(InvalidRequest, match="time zone"):
            QSubscriber("orders", "billing", NAIVE, url=server.url)
        assert len(server.seen) == 4


def test_a_name_may_be_left_to_the_server():
    with hostile(answer(fake.subscriber("made-up"), 201)) as server:
        with QSubscriber("orders", url=server.url) as reader:
            assert (reader.topic, reader.subscriber) == ("orders", "made-up")
            assert repr(reader) == "QSubscriber('orders', 'made-up')"
        assert server.seen[0].body == {"start": "latest"}


def test_subscribing_is_repeated_only_under_a_given_name():
    good = answer(fake.subscriber(), 201)
    with hostile(cut, good) as server:
        QSubscriber("orders", "billing", url=server.url).close()
        assert len(server.seen) == 2
    with hostile(cut, good) as server:
        with pytest.raises(OutcomeUnknown):
            QSubscriber("orders", url=server.url)
        assert len(server.seen) == 1


def test_info_position_and_lag_are_asked_each_time(serve):
    now = [fake.subscriber(position=n, head=10, lag=10 - n) for n in (1, 2, 3)]
    state, reader = serve(*map(answer, now))
    assert (reader.info().position, reader.position, reader.lag) == (1, 2, 7)
    assert [(seen.method, seen.path) for seen in state.seen] == [("GET", f"{PATH}/billing")] * 3


def test_fetch(serve):
    state, reader = serve(fetched(1, 2), fetched(), fetched(6))
    batch = reader.fetch()
    assert [(m.offset, m.payload, m.epoch) for m in batch] == [(1, 10, 1), (2, 20, 1)]
    assert (batch.position, batch.epoch, batch.head) == (0, 1, 99)
    assert reader.fetch(7, wait=2.5) == ()
    reader.fetch(wait=60, after=5)
    assert [seen.query for seen in state.seen] == [
        {"limit": "100", "wait": "0"},
        {"limit": "7", "wait": "2.5"},
        {"limit": "100", "wait": "60", "after": "5"},
    ]
    for wait in (-1, 61, float("nan"), float("inf")):
        with pytest.raises(InvalidRequest, match="wait"):
            reader.fetch(wait=wait)
    assert len(state.seen) == 3


def test_fetch_outlives_a_server_that_comes_and_goes(serve):
    state, reader = serve(cut, busy(), unsure(), fetched(1))
    assert len(reader.fetch()) == 1
    assert len(state.seen) == 4


def test_fetch_of_what_is_gone_tells_the_floor(serve):
    _, reader = serve(problem(410, "offset_out_of_range", floor=50, head=99))
    with pytest.raises(OffsetOutOfRange) as raised:
        reader.fetch()
    assert (raised.value.floor, raised.value.head) == (50, 99)


def test_ack_carries_the_epoch_of_its_fetch(serve):
    state, reader = serve(
        acked(1), fetched(1), fetched(1, epoch=2), acked(1), acked(7), acked(3), timeout=5.0
    )
    assert reader.ack(1) == 1  # nothing fetched yet: the epoch of the subscription
    old = reader.fetch()[0]
    new = reader.fetch()[0]
    reader.ack(old)
    assert reader.ack(new) == 7
    reader.ack(3)
    assert acks(state) == [(1, 1), (1, 1), (1, 2), (3, 2)]


def test_ack_is_repeated_and_its_refusals_are_told(serve):
    state, reader = serve(cut, unsure(), acked(5), STALE, problem(409, "offset_out_of_range"))
    assert reader.ack(5) == 5
    assert acks(state) == [(5, 1)] * 3
    with pytest.raises(StaleEpoch):
        reader.ack(5)
    with pytest.raises(OffsetOutOfRange):
        reader.ack(500)


def test_seek_and_unsubscribe_are_sent_once(serve):
    moved = answer(fake.subscriber(position=41, epoch=2))
    gone = raw(b"HTTP/1.1 204 No\r\n\r\n", more=True)
    state, reader = serve(moved, moved, cut, gone, cut)
    assert reader.seek(41).epoch == 2
    reader.seek(datetime(2024, 1, 1, tzinfo=UTC), dry_run=True)
    assert [seen.body for seen in state.seen] == [
        {"offset": 41},
        {"timestamp": "2024-01-01T00:00:00.000000+00:00", "dry_run": True},
    ]
    with pytest.raises(OutcomeUnknown):
        reader.seek(41)
    with pytest.raises(InvalidRequest, match="time zone"):
        reader.seek(NAIVE)
    assert reader.unsubscribe() is None
    with pytest.raises(OutcomeUnknown):
        reader.unsubscribe()
    assert [seen.method for seen in state.seen] == ["POST"] * 3 + ["DELETE"] * 2


def test_consume_drains_and_stops(serve):
    state, reader = serve(fetched(1, 2), acked(2), fetched(3), acked(3), fetched())
    assert [m.offset for m in reader.consume(limit=2, wait=0)] == [1, 2, 3]
    assert acks(state) == [(2, 1), (3, 1)]
    assert waits(state) == [0, 0, 0]
    assert {seen.query["limit"] for seen in state.seen if seen.query} == {"2"}


def test_consume_acks_a_batch_before_it_fetches_the_next(serve):
    state, reader = serve(fetched(1), acked(1), fetched(2), acked(2), fetched())
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
        fetch = QSubscriber.fetch

        def waited(reader: QSubscriber, limit: int, wait: float) -> object:
            batch = fetch(reader, limit, wait)
            self.now += 0.0 if batch else max(wait - early, 0.1)
            return batch

        monkeypatch.setattr(QSubscriber, "fetch", waited)
        monkeypatch.setattr(subscriber, "monotonic", lambda: self.now)


def test_consume_ends_when_nothing_came_for_so_long(serve, monkeypatch):
    Clock(monkeypatch)
    state, reader = serve(fetched(), fetched(1), acked(1), fetched(), fetched(), fetched())
    assert [m.offset for m in reader.consume(wait=25)] == [1]
    # 20 s of nothing, a message, and from then on 25 s again, in polls of at most 20 s.
    assert waits(state) == [20, 5, 20, 5]


def test_consume_goes_on_when_a_server_ends_a_long_poll_early(serve, monkeypatch):
    Clock(monkeypatch, early=6.0)
    state, reader = serve(fetched(), fetched(1), acked(1), *[fetched()] * 200)
    assert [m.offset for m in reader.consume(wait=10)] == [1]
    assert waits(state)[:3] == [10, 6, 10]


def test_consume_without_wait_goes_on_for_ever(serve, monkeypatch):
    Clock(monkeypatch)
    state, reader = serve(*[fetched()] * 30, fetched(1))
    assert next(reader.consume()).offset == 1
    assert waits(state) == [20] * 31


def test_breaking_out_acks_what_came_before(serve):
    state, reader = serve(fetched(1, 2, 3), acked(2))
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


def test_an_exception_acks_what_came_before(serve):
    leave_by_exception(*serve(fetched(1, 2, 3), acked(1)))


def test_closing_acks_what_came_before(serve):
    state, reader = serve(fetched(1, 2, 3), acked(1))
    messages = reader.consume()
    next(messages)
    next(messages)
    messages.close()
    assert acks(state) == [(1, 1)]


def test_leaving_at_the_first_message_acks_nothing(serve):
    state, reader = serve(fetched(1, 2))
    for _ in reader.consume():
        break
    assert acks(state) == []


@pytest.mark.parametrize("failure", [STALE, problem(404, "subscriber_not_found")])
def test_an_ack_that_fails_does_not_hide_the_exception(serve, failure):
    leave_by_exception(*serve(fetched(1, 2, 3), failure))
    _, reader = serve(fetched(1, 2), failure)
    messages = reader.consume()
    next(messages)
    next(messages)
    with pytest.raises(ZeroDivisionError):
        messages.throw(ZeroDivisionError())


def planted_early_ack(reader: QSubscriber, batch: object) -> Iterator[object]:
    """Acknowledge each message before it is handled: at most once, a bug."""
    for message in batch:
        reader.ack(message)
        yield message


def planted_no_ack(reader: QSubscriber, batch: object) -> Iterator[object]:
    """Forget what was done when the loop is left: a bug."""
    yield from batch
    reader.ack(batch[-1])


@pytest.mark.parametrize("bug", [planted_early_ack, planted_no_ack])
def test_control_wrong_acks_are_caught(serve, monkeypatch, bug):
    monkeypatch.setattr(QSubscriber, "_worked_through", bug)
    with pytest.raises(AssertionError):
        leave_by_exception(*serve(fetched(1, 2, 3), acked(1), acked(2)))


def test_a_reset_under_way_is_followed(serve):
    again = fetched(1, 2, epoch=2)
    state, reader = serve(fetched(1, 2), STALE, again, acked(2, epoch=2), fetched())
    assert [m.offset for m in reader.consume(wait=0)] == [1, 2, 1, 2]
    assert acks(state) == [(2, 1), (2, 2)]


def test_a_reset_is_followed_even_behind_an_ack_in_doubt(serve):
    state, reader = serve(fetched(1), cut, STALE, fetched(1, epoch=2), acked(1, epoch=2), fetched())
    assert [m.offset for m in reader.consume(wait=0)] == [1, 1]
    assert acks(state) == [(1, 1), (1, 1), (1, 2)]


def test_consume_outlives_a_restart_of_the_server(serve):
    state, reader = serve(cut, busy(), fetched(1), cut, unsure(), acked(1), busy(), fetched())
    assert [m.offset for m in reader.consume(wait=0)] == [1]
    assert acks(state) == [(1, 1)] * 3


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([fetched(1), problem(404, "subscriber_not_found")], SubscriberNotFound),
        ([problem(404, "subscriber_not_found")], SubscriberNotFound),
        ([problem(410, "offset_out_of_range")], OffsetOutOfRange),
        ([fetched(1), *[cut] * 200], OutcomeUnknown),
    ],
)
def test_other_errors_end_consume(serve, script, expected):
    _, reader = serve(*script, timeout=0.3)
    with pytest.raises(expected):
        list(reader.consume(wait=0))
