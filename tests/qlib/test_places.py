"""Where a subscriber begins and goes, and that making what is there already can be asked for."""

import threading
import typing
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from qlib import InvalidRequest, OutcomeUnknown, QPublisher, QSubscriber, TopicExists
from qlib.places import beginning, instant, target
from tests.qlib import hostile as fake
from tests.qlib.hostile import answer, busy, cut, hostile, problem, unsure
from tests.server_process import ServerProcess

EAST = timezone(timedelta(hours=14))
# What is no place in the log, for a start, a seek and a reset alike.
NOWHERE = [None, True, 1.0, "now", "Latest", b"latest", "", [0], {"timestamp": 0}, date(2024, 1, 1)]
NOWHERE += [datetime(2024, 1, 1), datetime.min.replace(tzinfo=EAST), pd.NaT, np.datetime64("2024")]
NOWHERE += [datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))), float("nan"), np.True_]


@pytest.fixture
def pub(server: ServerProcess) -> Iterator[QPublisher]:
    with QPublisher(server.url) as publisher:
        yield publisher


def test_a_time_is_told_in_utc():
    moment = datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert instant(moment) == "2024-01-01T00:00:00.000000+00:00"
    assert instant(pd.Timestamp("2024-01-01T02:00:00.000001234+02:00")).endswith(".000001+00:00")
    assert target(moment, "a seek") == {"timestamp": instant(moment)}
    assert target(7, "a seek") == target(np.int32(7), "a seek") == {"offset": 7}
    assert [beginning(start) for start in ("latest", "earliest", np.uint8(3))] == [
        "latest",
        "earliest",
        3,
    ]


@pytest.mark.parametrize("nowhere", NOWHERE, ids=repr)
def test_what_is_no_place_is_said(subscribed, nowhere):
    state, reader = subscribed()
    with QPublisher(state.url) as publisher:
        for act in (
            lambda: reader.seek(nowhere),
            lambda: publisher.reset_topic("orders", nowhere),
            lambda: QSubscriber("orders", "billing", nowhere, url=state.url),
        ):
            with pytest.raises(InvalidRequest, match="time zone|told in UTC|latest.*earliest"):
                act()
    assert state.seen == []


def test_start_is_typed_exactly():
    places = Literal["latest", "earliest"] | int | datetime
    assert typing.get_type_hints(QSubscriber.__init__)["start"] == places
    assert typing.get_type_hints(QSubscriber.seek)["to"] == places
    assert typing.get_type_hints(QPublisher.reset_topic)["to"] == places


def test_a_seek_and_a_reset_to_either_end(
    server: ServerProcess, pub: QPublisher, topic: str
) -> None:
    with QSubscriber(topic, "s", url=server.url) as sub:
        for count in range(3):  # an empty log has two ends as well
            assert sub.seek("latest").position == sub.seek("latest", dry_run=True).position == count
            assert sub.seek("earliest").position == 0
            assert pub.reset_topic(topic, "latest").offset == sub.position == count
            assert pub.reset_topic(topic, "earliest", dry_run=True).offset == 0
            assert sub.position == count
            assert pub.reset_topic(topic, "earliest").offset == sub.position == 0
            pub.publish(topic, count)


def test_the_times_of_year_1_and_9999_are_the_ends(
    server: ServerProcess, pub: QPublisher, topic: str
) -> None:
    pub.publish_many(topic, range(3))
    with QSubscriber(topic, "s", url=server.url) as sub:
        assert sub.seek(datetime.min.replace(tzinfo=UTC)).position == 0
        assert sub.seek(datetime.max.replace(tzinfo=UTC)).position == 3


def test_created_tells_whether_the_start_counted(
    server: ServerProcess, pub: QPublisher, topic: str
) -> None:
    for created in (True, False):
        with QSubscriber(topic, "s", url=server.url) as sub:
            assert sub.created is created
    sub.unsubscribe()
    with QSubscriber(topic, "s", url=server.url) as sub, QSubscriber(topic, url=server.url) as two:
        assert sub.created is two.created is True


@pytest.mark.parametrize(
    ("script", "created"),
    [
        ([busy(), answer(fake.subscriber(), 201)], True),
        ([busy(), answer(fake.subscriber(), 200)], False),
        ([cut, answer(fake.subscriber(), 201)], True),
        ([unsure(), answer(fake.subscriber(), 200)], None),  # the first attempt may have made it
    ],
)
def test_created_says_when_nobody_knows(script, created):
    with hostile(*script) as server, QSubscriber("orders", "billing", url=server.url) as reader:
        assert reader.created is created


def test_a_topic_that_is_there_may_do(pub: QPublisher, topic: str) -> None:
    with pytest.raises(TopicExists):
        pub.create_topic(topic)
    pub.publish(topic, 1)
    found = pub.create_topic(topic, "another description", exist_ok=True)
    assert (found.head, found.description) == (1, None)
    assert pub.create_topic(f"{topic}-new", "its own", exist_ok=True).description == "its own"


EXISTS, GONE = problem(409, "topic_exists"), problem(404, "topic_not_found")


@pytest.mark.parametrize(
    ("script", "asked"),
    [
        ([cut, answer(fake.topic(), 201)], 2),
        ([cut, EXISTS, answer(fake.topic())], 3),  # the first attempt made it, or somebody else
        ([EXISTS, GONE, answer(fake.topic(), 201)], 3),  # deleted at that moment
        ([EXISTS, GONE, EXISTS, answer(fake.topic())], 4),
    ],
)
def test_it_is_asked_for_until_it_is_there(publishing: Callable, script, asked) -> None:
    state, publisher = publishing(*script)
    assert publisher.create_topic("orders", exist_ok=True).topic == "orders"
    assert len(state.seen) == asked


def test_without_exist_ok_nothing_changes(publishing: Callable) -> None:
    state, publisher = publishing(cut, EXISTS)
    with pytest.raises(OutcomeUnknown):
        publisher.create_topic("orders")
    with pytest.raises(TopicExists):
        publisher.create_topic("orders")
    assert len(state.seen) == 2


def test_all_who_make_it_at_once_have_it(server: ServerProcess, topic: str) -> None:
    names: list[str] = []
    start = threading.Barrier(6)

    def make() -> None:
        with QPublisher(server.url) as publisher:
            start.wait(10)
            for n in range(10):
                names.append(publisher.create_topic(f"{topic}-{n}", exist_ok=True).topic)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 60
    assert len(set(names)) == 10
