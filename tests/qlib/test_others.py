"""A reader hears of another one under its name while both are at work, once, and not of itself."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from qlib import QPublisher, QSubscriber, others
from tests.qlib.hostile import answer, fetched, hostile, message, subscriber
from tests.server_process import ROOT, ServerProcess

Told = list[str]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], Told]:
    """Return what was warned of so far, for the test to look at."""
    return lambda: [line for line in caplog.messages if "another reader fetches" in line]


def reader(server: ServerProcess, topic: str) -> QSubscriber:
    return QSubscriber(topic, "billing", "earliest", url=server.url)


def two_at_work(server: ServerProcess, topic: str) -> None:
    with reader(server, topic) as one, reader(server, topic) as two:
        for _ in range(5):
            one.fetch()
            two.fetch()


def test_two_at_work_are_told_once_each(server: ServerProcess, topic: str, told) -> None:
    two_at_work(server, topic)
    assert len(told()) == 2
    assert f"as subscriber 'billing' of topic '{topic}', too" in told()[0]
    assert told()[0].endswith("or let them share it: sub.work or sub.lease")


def test_two_that_consume_are_told(server: ServerProcess, topic: str, told) -> None:
    with QPublisher(server.url) as pub:
        pub.publish_many(topic, range(10))
    with reader(server, topic) as one, reader(server, topic) as two:
        first, second = one.consume(1), two.consume(1)
        for _ in range(4):
            assert [next(first), next(second)]
        assert len(told()) == 2


def test_a_reader_that_was_started_again_is_alone(server: ServerProcess, topic: str, told) -> None:
    for _ in range(5):
        with reader(server, topic) as one:
            for _ in range(3):
                one.fetch()
    assert told() == []


def test_control_without_looking_at_when_it_began_it_would_be_told(
    server: ServerProcess, topic: str, told, monkeypatch
) -> None:
    monkeypatch.setattr(others, "monotonic", lambda: float("-inf"))
    with pytest.raises(AssertionError):
        test_a_reader_that_was_started_again_is_alone(server, topic, told)


def test_threads_that_share_one_are_one(server: ServerProcess, topic: str, told) -> None:
    with reader(server, topic) as one:
        threads = [
            threading.Thread(target=lambda: [one.fetch() for _ in range(5)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert told() == []


def test_readers_of_other_names_and_topics_are_no_matter(
    server: ServerProcess, topic: str, told
) -> None:
    with QPublisher(server.url) as pub:
        pub.create_topic(f"{topic}-2")
    kitchen = QSubscriber(topic, "kitchen", url=server.url)
    with reader(server, topic) as one, kitchen as two, reader(server, f"{topic}-2") as three:
        for _ in range(4):
            for each in (one, two, three):
                each.fetch()
    assert told() == []


FORKS = """
import os, sys
from qlib import QSubscriber
reader = QSubscriber(sys.argv[1], "billing", "earliest")
reader.fetch()
told, tell = os.pipe()
go, start = os.pipe()
child = os.fork()
if child == 0:
    for _ in range(3):  # in turn with its parent
        os.read(go, 1)
        reader.fetch()
        os.write(tell, b"x")
    os._exit(0)
for _ in range(3):
    os.write(start, b"x")
    os.read(told, 1)
    reader.fetch()
os.waitpid(child, 0)
"""


def test_a_forked_child_is_another_reader(server: ServerProcess, topic: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, topic],
        env={**os.environ, "QUEUE_URL": server.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("another reader fetches") == 2  # the parent and the child


def test_only_a_subscriber_gives_its_name_and_always_the_same() -> None:
    with hostile(*[answer(subscriber(), 201), fetched(), fetched()] * 2) as server:
        for _ in range(2):
            with QSubscriber("orders", "billing", url=server.url) as one:
                one.fetch()
                one.fetch()
        names = [seen.headers["queue-client"] for seen in server.seen]
        assert len(set(names[:3])) == len(set(names[3:])) == 1
        assert len(set(names)) == 2
    with hostile(answer({"topic": "t", "floor": 1, "head": 1, "messages": [message(1)]})) as server:
        with QPublisher(server.url) as pub:
            pub.browse("t")
        assert "queue-client" not in server.seen[0].headers


@pytest.mark.parametrize(
    ("header", "count"),
    [("0.5", 1), *((odd, 0) for odd in ("soon", "-1", "nan", "1e9", "", "9999", "1,2"))],
)
def test_what_is_no_number_of_seconds_is_nothing(header, count, told, monkeypatch) -> None:
    monkeypatch.setattr(others, "monotonic", lambda: float("-inf"))  # any number would be told
    body = {"topic": "orders", "subscriber": "billing", "position": 0, "epoch": 1, "head": 0}
    odd = answer({**body, "messages": []}, Queue_Other_Client=header)
    script = [answer(subscriber(), 201), odd, odd]
    with hostile(*script) as server, QSubscriber("orders", "billing", url=server.url) as one:
        one.fetch()
        one.fetch()
    assert len(told()) == count
