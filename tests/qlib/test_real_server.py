"""The client against the real server: every method once, and through restarts."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import psycopg2
import pytest

from qlib import (
    InvalidRequest,
    MessageTooLarge,
    OffsetOutOfRange,
    QPublisher,
    QSubscriber,
    SequenceConflict,
    SubscriberNotFound,
    TopicExists,
    TopicNotFound,
    Unauthorized,
)
from tests.server_process import ServerProcess, serving
from tests.waiting import until


@pytest.fixture
def pub(server: ServerProcess) -> Iterator[QPublisher]:
    with QPublisher(server.url) as publisher:
        yield publisher


def test_a_topic_from_making_to_deleting(pub: QPublisher, topic: str) -> None:
    with pytest.raises(TopicExists):
        pub.create_topic(topic)
    made = pub.create_topic(f"{topic}-2", "what for")
    assert (made.topic, made.description, made.floor, made.head, made.subscribers) == (
        f"{topic}-2",
        "what for",
        1,
        0,
        0,
    )
    assert datetime.now(UTC) - made.created_at < timedelta(minutes=1)
    assert {topic, f"{topic}-2"} <= {known.topic for known in pub.topics()}
    pub.delete_topic(topic)
    with pytest.raises(TopicNotFound):
        pub.topic(topic)
    with pytest.raises(TopicNotFound):
        pub.publish(topic, 1)


def test_lists_longer_than_a_page_come_whole(
    pub: QPublisher, server: ServerProcess, topic: str
) -> None:
    names = [f"s{number:04}" for number in range(1001)]
    opened = closing(psycopg2.connect(server.settings["DATABASE_URL"]))
    with opened as session, session, session.cursor() as cursor:
        cursor.execute("select queue.subscribe(%s, name) from unnest(%s) name", (topic, names))
    assert [s.subscriber for s in pub.subscribers(topic)] == names


def test_messages_come_back_as_they_were(
    pub: QPublisher, server: ServerProcess, topic: str
) -> None:
    payloads = [None, True, 0, -1.5, 2**70, 'é\n"\\', [], {"a": {"b": [1, None]}}]
    keys = [None, "k", "", "é", None, None, None, None]
    headers = [None, {}, {"h": 1}, None, None, None, None, {"n": None}]
    assert pub.publish_many(topic, payloads, keys, headers) == range(1, 9)
    with QSubscriber(topic, "s", "earliest", url=server.url) as sub:
        batch = sub.fetch()
    for read in (batch, pub.browse(topic)):
        assert [m.payload for m in read] == payloads
        assert [m.key for m in read] == keys
        assert [m.headers for m in read] == headers
        assert [m.offset for m in read] == list(range(1, 9))


def test_starts_and_seeks_by_position_and_time(
    pub: QPublisher, server: ServerProcess, topic: str
) -> None:
    pub.publish_many(topic, [1, 2, 3])
    third = pub.browse(topic, 3)[0].published_at
    pub.publish(topic, 4)

    def starting(name: str, start: str | int | datetime) -> QSubscriber:
        return QSubscriber(topic, name, start, url=server.url)

    starts: dict[str, str | int | datetime] = {
        "latest": "latest",
        "earliest": "earliest",
        "two": 2,
        "time": third,
    }
    positions = {}
    for name, start in starts.items():
        with starting(name, start) as sub:
            positions[name] = sub.position
    assert positions == {"latest": 4, "earliest": 0, "two": 2, "time": 0}  # one batch, one time
    with starting("two", "earliest") as sub:
        assert sub.position == 2  # it was there already
        assert sub.seek(third + timedelta(microseconds=1), dry_run=True).position == 3
        assert sub.position == 2
        before = sub.info().epoch
        assert sub.seek(3).epoch == before + 1
        assert pub.reset_topic(topic, 1, dry_run=True).subscribers == 4
        assert sub.position == 3
        with pytest.raises(OffsetOutOfRange) as refusal:
            sub.seek(5)
        assert (refusal.value.floor, refusal.value.head) == (1, 4)
        sub.unsubscribe()
        with pytest.raises(SubscriberNotFound):
            sub.fetch()


def test_refusals_have_their_class(pub: QPublisher, topic: str) -> None:
    with pytest.raises(MessageTooLarge):
        pub.publish(topic, "x" * 2**20)
    with pytest.raises(InvalidRequest):
        pub.publish(topic, "\0")
    assert pub.publish(topic, "a", sequence=900) == 1
    assert pub.publish(topic, "a", sequence=900) == 1
    with pytest.raises(SequenceConflict):
        pub.publish(topic, "b", sequence=900)
    assert pub.topic(topic).head == 1


def test_a_token_opens_the_door(start_server: Callable[..., ServerProcess]) -> None:
    server = start_server(queue_token="secret")
    with QPublisher(server.url) as stranger, pytest.raises(Unauthorized):
        stranger.topics()
    with QPublisher(server.url, "secret") as friend:
        assert friend.topics() == []


def test_a_stream_of_messages_survives_kill_9_of_the_server(
    directory: Path, tmp_path: Path
) -> None:
    server = ServerProcess(tmp_path / "log", "--data", str(directory))
    seen: list[int] = []
    with serving(server), QPublisher(server.url) as pub:
        pub.create_topic("t")
        sub = QSubscriber("t", "s", "earliest", url=server.url)

        def read() -> None:
            for message in sub.consume(limit=50):
                seen.append(message.payload)
                if message.payload == 2999:
                    return

        reader = Thread(target=read)
        reader.start()
        offsets: list[int] = []
        for start in range(0, 3000, 500):
            if start == 1000:
                until(lambda: len(seen) > 100)
                os.kill(server.pid, signal.SIGKILL)
                server.wait()
                server.start()  # and go on at once: the client waits for it
            offsets += pub.publish_many("t", range(start, start + 500))
        reader.join(60)
        assert not reader.is_alive()
        sub.close()
        assert offsets == list(range(1, 3001))  # numbered: a retry stores nothing twice
        assert [m.payload for m in pub.browse("t", limit=10000)] == list(range(3000))
    assert sorted(set(seen)) == list(range(3000))
