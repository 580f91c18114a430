"""The reading side against a scripted server: fetch, ack, seek, and what consume promises."""

from datetime import UTC, datetime

import pytest

from qlib import (
    InvalidRequest,
    OffsetOutOfRange,
    OutcomeUnknown,
    QSubscriber,
    StaleEpoch,
)
from tests.qlib import hostile as fake
from tests.qlib.hostile import (
    PATH,
    STALE,
    acked,
    acks,
    answer,
    busy,
    cut,
    fetched,
    hostile,
    problem,
    raw,
    unsure,
)

NAIVE = datetime(2024, 1, 1)


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


def test_info_position_and_lag_are_asked_each_time(subscribed):
    now = [fake.subscriber(position=n, head=10, lag=10 - n) for n in (1, 2, 3)]
    state, reader = subscribed(*map(answer, now))
    assert (reader.info().position, reader.position, reader.lag) == (1, 2, 7)
    assert [(seen.method, seen.path) for seen in state.seen] == [("GET", f"{PATH}/billing")] * 3


def test_fetch(subscribed):
    state, reader = subscribed(fetched(1, 2), fetched(), fetched(6))
    batch = reader.fetch()
    assert [(m.offset, m.payload, m.epoch) for m in batch] == [(1, 10, 1), (2, 20, 1)]
    assert (batch.position, batch.epoch, batch.head) == (0, 1, 99)
    assert reader.fetch(7, wait=2.5) == ()
    reader.fetch(wait=60, after=5)
    assert [seen.query for seen in state.seen] == [
        {"limit": "100", "wait": "0"},
        {"limit": "7", "wait": "2.5"},
        {"limit": "100", "wait": "60", "after": "5", "epoch": "1"},
    ]
    for wait in (-1, 61, float("nan"), float("inf")):
        with pytest.raises(InvalidRequest, match="wait"):
            reader.fetch(wait=wait)
    assert len(state.seen) == 3


def test_fetch_outlives_a_server_that_comes_and_goes(subscribed):
    state, reader = subscribed(cut, busy(), unsure(), fetched(1))
    assert len(reader.fetch()) == 1
    assert len(state.seen) == 4


def test_fetch_of_what_is_gone_tells_the_floor(subscribed):
    _, reader = subscribed(problem(410, "offset_out_of_range", floor=50, head=99))
    with pytest.raises(OffsetOutOfRange) as raised:
        reader.fetch()
    assert (raised.value.floor, raised.value.head) == (50, 99)


def test_ack_carries_the_epoch_of_its_fetch(subscribed):
    state, reader = subscribed(
        acked(1), fetched(1), fetched(1, epoch=2), acked(1), acked(7), acked(3), timeout=5.0
    )
    assert reader.ack(1) == 1  # nothing fetched yet: the epoch of the subscription
    old = reader.fetch()[0]
    new = reader.fetch()[0]
    reader.ack(old)
    assert reader.ack(new) == 7
    reader.ack(3)
    assert acks(state) == [(1, 1), (1, 1), (1, 2), (3, 2)]


def test_ack_is_repeated_and_its_refusals_are_told(subscribed):
    state, reader = subscribed(cut, unsure(), acked(5), STALE, problem(409, "offset_out_of_range"))
    assert reader.ack(5) == 5
    assert acks(state) == [(5, 1)] * 3
    with pytest.raises(StaleEpoch):
        reader.ack(5)
    with pytest.raises(OffsetOutOfRange):
        reader.ack(500)


def test_seek_and_unsubscribe_are_sent_once(subscribed):
    moved = answer(fake.subscriber(position=41, epoch=2))
    gone = raw(b"HTTP/1.1 204 No\r\n\r\n", more=True)
    state, reader = subscribed(moved, moved, cut, gone, cut)
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


def test_what_is_no_offset_or_wait_is_said(subscribed):
    state, subscriber = subscribed()
    asked = len(state.seen)
    for wrong in ([1], "1", True, None):
        with pytest.raises(InvalidRequest, match="ack takes a message or an offset"):
            subscriber.ack(wrong)
    for wrong in (None, "5"):
        with pytest.raises(InvalidRequest, match="wait must lie between 0 and 60"):
            subscriber.fetch(wait=wrong)
    assert len(state.seen) == asked
