"""Whose a message is: an ack takes what its own subscriber fetched, and nothing else."""

import copy
import pickle
from collections.abc import Iterator

import numpy as np
import pytest

from qlib import InvalidRequest, Message, QPublisher, QSubscriber, subscriber
from tests.qlib.hostile import acked, acks, fetched
from tests.server_process import ServerProcess


@pytest.fixture
def pub(server: ServerProcess) -> Iterator[QPublisher]:
    with QPublisher(server.url) as publisher:
        yield publisher


def refuses_foreign_messages(server: ServerProcess, pub: QPublisher, topic: str) -> None:
    """Check that acks of messages that are not billing's move nothing, and say why."""
    other = f"{topic}-other"
    pub.create_topic(other)
    for name in (topic, other):
        pub.publish_many(name, range(5))

    def reader(name: str, subscriber: str) -> QSubscriber:
        return QSubscriber(name, subscriber, "earliest", url=server.url)

    with reader(topic, "billing") as billing, reader(topic, "kitchen") as kitchen:
        with reader(other, "billing") as namesake:
            foreign = {
                f"of topic '{other}', and this subscriber reads '{topic}'": namesake.fetch(3),
                "by 'kitchen', not by 'billing'": kitchen.fetch(3),
                f"of topic '{other}'": pub.browse(other, limit=3),
                "browsed and not fetched; acknowledge its offset": pub.browse(topic, limit=3),
            }
        for why, batch in foreign.items():
            for message in (batch[-1], copy.copy(batch[-1]), pickle.loads(pickle.dumps(batch))[-1]):
                with pytest.raises(InvalidRequest, match=why):
                    billing.ack(message)
                assert billing.position == 0
        own = pickle.loads(pickle.dumps(billing.fetch(3)))  # as a worker process gets it
        assert billing.ack(own[-1]) == 3


def test_a_foreign_message_is_refused(server: ServerProcess, pub: QPublisher, topic: str) -> None:
    refuses_foreign_messages(server, pub, topic)


def test_control_an_ack_of_the_offset_alone_is_caught(
    server: ServerProcess, pub: QPublisher, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offset_alone(reader: QSubscriber, message: Message) -> tuple[int, int]:
        return message.offset, reader._epoch

    monkeypatch.setattr(subscriber.QSubscriber, "_place", offset_alone)
    with pytest.raises(pytest.fail.Exception):
        refuses_foreign_messages(server, pub, topic)


def test_another_server_of_the_same_queue_is_no_stranger(subscribed) -> None:
    _, here = subscribed(fetched(1, 2))
    there, reader = subscribed(acked(2))
    assert reader.ack(here.fetch()[-1]) == 2
    assert acks(there) == [(2, 1)]


def test_what_is_neither_a_message_nor_an_offset(subscribed) -> None:
    state, reader = subscribed(fetched(1, 2), *[acked(2)] * 3)
    batch = reader.fetch()
    asked = len(state.seen)
    for wrong in (
        batch,
        batch[:1],
        [1],
        "1",
        b"1",
        True,
        np.True_,
        None,
        1.0,
        np.float64(1),
        object,
    ):
        with pytest.raises(
            InvalidRequest, match=r"takes a message or an offset; of a batch, batch"
        ):
            reader.ack(wrong)
    assert len(state.seen) == asked
    for offset in (2, np.int64(2), np.uint8(2)):
        assert reader.ack(offset) == 2
    assert acks(state) == [(2, 1)] * 3
