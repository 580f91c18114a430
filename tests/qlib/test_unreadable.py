"""A stored message that cannot be read is named, and stands in the way of nothing before it."""

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2
import pytest

from qlib import (
    DefiniteError,
    OutcomeUnknown,
    QPublisher,
    QSubscriber,
    UnreadableAnswer,
    UnreadableMessage,
    received,
    salvage,
)
from tests.qlib.hostile import Step, acked, acks, answer, fetched, http, raw
from tests.server_process import ServerProcess

# A reader that stands still must not be the reason why the test hangs: Python's own limits.
POISON = {"a long number": "1" * 5001, "deep": "[" * 100_000 + "]" * 100_000}


@pytest.fixture
def pub(server: ServerProcess) -> Iterator[QPublisher]:
    with QPublisher(server.url) as publisher:
        yield publisher


@pytest.fixture
def poison(server: ServerProcess, pub: QPublisher, topic: str) -> Callable[[str], None]:
    """Put a message into the log behind the functions' back, as one from before their limits."""

    def store(payload: str) -> None:
        opened = closing(psycopg2.connect(server.settings["DATABASE_URL"]))
        with opened as session, session, session.cursor() as cursor:
            cursor.execute(
                """insert into queue.message (topic_id, "offset", published_at, payload)
                   select topic_id, head + 1, clock_timestamp(), %s::json
                   from queue.topics where topic = %s""",
                (payload, topic),
            )

    return store


def test_a_long_number_from_before_is_named_and_left_behind_when_told(
    server: ServerProcess, pub: QPublisher, topic: str, poison: Callable[[str], None], caplog
) -> None:
    pub.publish_many(topic, ["a", "b"])
    poison(POISON["a long number"])
    pub.publish(topic, "c")
    with QSubscriber(topic, "s", "earliest", url=server.url) as sub:
        assert [m.payload for m in sub.fetch()] == ["a", "b"]
        seen = []
        with pytest.raises(UnreadableMessage, match="offset 3 of topic") as raised:
            for message in sub.consume(wait=0):
                seen.append(message.payload)
        assert seen == ["a", "b"]
        assert (raised.value.offset, raised.value.epoch) == (3, sub.info().epoch)
        assert sub.position == 2
        for read in (lambda: sub.fetch(), lambda: sub.fetch(after=2), lambda: pub.browse(topic, 3)):
            with pytest.raises(UnreadableMessage) as raised:
                read()
            assert raised.value.offset == 3
        assert [m.payload for m in pub.browse(topic)] == ["a", "b"]
        assert caplog.messages == []
        assert [m.payload for m in sub.consume(wait=0, skip_unreadable=True)] == ["c"]
        assert (sub.position, sub.lag) == (4, 0)
        assert len(caplog.messages) == 1 and "leaves a message behind" in caplog.messages[0]


def told(content: bytes, *offsets: int) -> Step:
    """Answer a fetch with these good messages and then one of this payload, and one more."""
    begin, _, end = http_body(*offsets).partition(b"]}")
    comma = b"," if offsets else b""
    one = b'{"offset":%d,"published_at":"2024-02-29T12:00:00.000001Z","payload":%b}'
    at = max(offsets, default=0) + 1
    body = begin + comma + one % (at, content) + b"," + one % (at + 1, b"1") + b"]}" + end
    return raw(http(200, body), more=True)


def http_body(*offsets: int) -> bytes:
    """Return a fetch's answer as our server writes it, without a space."""
    messages = [
        {"offset": n, "published_at": "2024-02-29T12:00:00.000001Z", "payload": n} for n in offsets
    ]
    fields = {"topic": "orders", "subscriber": "billing", "position": 0, "epoch": 7, "head": 9}
    return json.dumps(fields | {"messages": messages}, separators=(",", ":")).encode()


@pytest.mark.parametrize("kind", POISON)
def test_what_python_cannot_read(subscribed, kind):
    bad = POISON[kind].encode()
    state, reader = subscribed(told(bad), told(bad, 1, 2), acked(2), told(bad))
    with pytest.raises(UnreadableMessage, match="offset 1 of topic 'orders'") as raised:
        reader.fetch()
    assert isinstance(raised.value, DefiniteError)
    assert [m.offset for m in reader.fetch()] == [1, 2]
    reader.ack(1)  # the epoch is the newest fetch's, also when there was nothing to read in it
    assert acks(state) == [(1, 7)]
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (copy.offset, copy.epoch, str(copy)) == (1, 7, str(raised.value))


def test_too_long_a_message(subscribed, monkeypatch):
    monkeypatch.setattr(received, "LARGEST", 2**20)
    monkeypatch.setattr(salvage, "LARGEST", 2**20)
    long = b'"' + b"\xc3\xa9" * 2**20 + b'"'
    state, reader = subscribed(told(long), told(long, 1, 2))
    with pytest.raises(UnreadableMessage, match="offset 1 .* longer than 1048576 bytes"):
        reader.fetch()
    assert len(state.seen) == 1  # it would be as long again
    assert [m.offset for m in reader.fetch()] == [1, 2]


def test_skipping_follows_a_reset(subscribed, caplog):
    bad = POISON["a long number"].encode()
    stale = answer({"status": 409, "code": "stale_epoch"}, 409)
    state, reader = subscribed(told(bad), stale, fetched(1, epoch=8))
    assert next(reader.consume(skip_unreadable=True)).offset == 1
    assert acks(state) == [(1, 7)]


BROKEN = {
    "a stray server": b"<html>" + b"[" * 100_000,
    "deep all over": b"[" * 100_000,
    "no messages": b'{"messages":' + b"[" * 100_000,
    "our head, then HTML": http_body().replace(b"]}", b"<html>"),
    "no JSON in a message": http_body(1, 2).replace(b'"payload":2', b'"payload":nonsense'),
    "cut short": http_body(1, 2)[:-9],
    "behind the messages": http_body(1, 2)[:-1] + b',"more":' + b"[" * 100_000 + b"}",
    "another topic's number": http_body(1).replace(b'"position":0', b'"position":' + b"1" * 5001),
    "not UTF-8": http_body(1, 2).replace(b'"payload":2', b'"payload":"\xff"'),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_nothing_is_skipped_because_something_else_answered(subscribed, kind, clock):
    script = [raw(http(200, BROKEN[kind]), more=True)] * 50
    state, reader = subscribed(*script)
    with pytest.raises(UnreadableAnswer) as raised:
        list(reader.consume(skip_unreadable=True))
    assert not isinstance(raised.value, UnreadableMessage)
    assert acks(state) == []


def test_control_a_salvage_that_trusts_everybody_is_caught(subscribed, monkeypatch, clock):
    def trusting(content: bytes, whole: bool) -> None:
        error = UnreadableMessage("whatever it is")
        error.offset, error.epoch = 1, 1
        raise error

    monkeypatch.setattr("qlib.subscriber.salvaged", trusting)
    with pytest.raises(OutcomeUnknown):  # of an ack, which nobody asked for
        test_nothing_is_skipped_because_something_else_answered(subscribed, "a stray server", clock)


def hired(server: ServerProcess, topic: str, **settings: object) -> QSubscriber:
    return QSubscriber(topic, "kitchen", "earliest", url=server.url, backoff=0, **settings)


def test_a_lease_ends_before_what_cannot_be_read(
    server: ServerProcess, pub: QPublisher, topic: str, poison: Callable[[str], None]
) -> None:
    pub.publish(topic, "a")
    poison(POISON["a long number"])
    with hired(server, topic) as cook:
        lease = cook.lease(5)
        assert [m.payload for m in lease] == ["a"]
        lease.ack(1)
        lease.nack(untried=True)
        with pytest.raises(UnreadableMessage, match="offset 2") as raised:
            cook.lease(5)
        assert raised.value.offset == 2


@pytest.mark.parametrize("ordered", [False, True])
def test_work_goes_on_around_what_cannot_be_read_and_it_ends_among_the_dead(
    server: ServerProcess, pub: QPublisher, topic: str, poison: Callable, ordered: bool, caplog
) -> None:
    pub.publish_many(topic, ["a", "b"], keys=["k", "l"])
    poison(POISON["a long number"])
    pub.publish_many(topic, ["c", "d"], keys=["k", "l"])
    seen: list[tuple[object, int]] = []
    with hired(server, topic, max_attempts=2, ordered=ordered) as cook:
        cook.work(lambda message: seen.append((message.payload, message.attempt)), wait=1)
        assert seen == [("a", 1), ("b", 1), ("c", 1), ("d", 1)]
        assert (cook.lag, cook.leases()) == (0, [])
        assert cook.remove_dead([3]) == 1
    assert [line for line in caplog.messages if "cannot read offset 3" in line] == caplog.messages
    assert len(caplog.messages) == 2  # once an attempt


def test_an_answer_that_is_no_lease_is_not_salvaged() -> None:
    good = b'{"topic":"t","subscriber":"s","lease":"1-1","expires_at":"2024-02-29T12:00:00Z",'
    assert salvage.salvaged_lease(b"<html>", whole=True) is None
    assert salvage.salvaged_lease(good + b'"messages":[{"offset":1,', whole=True) is None
    cut = salvage.salvaged_lease(good + b'"messages":[{"offset":1,"payl', whole=False)
    assert cut is not None and cut.unreadable is not None and cut.unreadable[0] == 1
