"""The publishing side against a scripted server: routes, batches, numbering and doubt."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

import qlib
from qlib import InvalidRequest, OutcomeUnknown, QPublisher, Reset, TopicNotFound, Unavailable
from qlib import batches as batching
from tests.qlib import hostile as fake
from tests.qlib.hostile import Hostile, Step, answer, busy, cut, hostile, problem, stored, unsure
from tests.waiting import until


def accept(state: Hostile, connection: object, seen: fake.Seen) -> bool:
    """Store a batch after those before it, as a server with one publisher would."""
    before = sum(len(other.body["payloads"]) for other in state.seen[:-1])
    return stored(before + 1, len(seen.body["payloads"]))(state, connection, seen)


@pytest.fixture
def serve() -> Iterator[object]:
    """Return a function that starts a scripted server and a publisher for it."""
    opened: list[object] = []

    def start(*script: Step, timeout: float = 5.0) -> tuple[Hostile, QPublisher]:
        server = hostile(*script)
        state = server.__enter__()
        opened.append(server)
        publisher = QPublisher(state.url, timeout=timeout)
        opened.append(publisher)
        return state, publisher

    yield start
    for thing in reversed(opened):
        thing.__exit__(None, None, None)


def test_all_is_exactly_this():
    assert qlib.__all__ == sorted(qlib.__all__)
    assert qlib.__all__ == [
        "Batch",
        "DefiniteError",
        "IndefiniteError",
        "InvalidRequest",
        "Message",
        "MessageTooLarge",
        "OffsetOutOfRange",
        "OutcomeUnknown",
        "QPublisher",
        "QSubscriber",
        "QueueError",
        "Reset",
        "SequenceConflict",
        "StaleEpoch",
        "Subscriber",
        "SubscriberNotFound",
        "Topic",
        "TopicExists",
        "TopicNotFound",
        "Unauthorized",
        "Unavailable",
    ]
    for name in qlib.__all__:
        assert getattr(qlib, name).__doc__


def loaded_by(statement: str) -> set[str]:
    """Return the modules, by their top-level names, that a statement loads in a fresh Python."""
    script = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, timeout=60, text=True
    ).stdout
    return {name if name.startswith("qlib.lab") else name.split(".")[0] for name in json.loads(out)}


def test_the_core_loads_only_requests():
    heavy = {"pandas", "matplotlib", "numpy", "psycopg2", "flask", "server", "qlib.lab"}
    modules = loaded_by("import qlib")
    assert {"qlib", "requests"} <= modules
    assert not modules & heavy
    assert loaded_by("import qlib, psycopg2") & heavy == {"psycopg2"}  # the check can fail


def test_topics(serve):
    made = fake.topic(description="every order")
    state, publisher = serve(
        answer(made, 201),
        answer(made),
        answer({"topics": [made]}),
        fake.raw(b"HTTP/1.1 204 No\r\n\r\n"),
    )
    assert publisher.create_topic("orders", "every order").description == "every order"
    assert publisher.topic("orders").topic == "orders"
    assert [found.topic for found in publisher.topics()] == ["orders"]
    assert publisher.delete_topic("orders") is None
    assert [(seen.method, seen.path) for seen in state.seen] == [
        ("POST", "/topics"),
        ("GET", "/topics/orders"),
        ("GET", "/topics"),
        ("DELETE", "/topics/orders"),
    ]
    assert state.seen[0].body == {"topic": "orders", "description": "every order"}


@pytest.mark.parametrize("what", ["topic", "subscriber"])
def test_lists_are_paged_to_the_end(serve, what):
    names = [f"n{number:04}" for number in range(2000)]
    make = getattr(fake, what)
    pages = [names[:1000], names[1000:], []]
    state, publisher = serve(
        *(answer({f"{what}s": [make(name) for name in page]}) for page in pages)
    )
    found = publisher.topics() if what == "topic" else publisher.subscribers("orders")
    assert [getattr(one, what) for one in found] == names
    assert [seen.query for seen in state.seen] == [
        {"limit": "1000"},
        {"limit": "1000", "after": "n0999"},
        {"limit": "1000", "after": "n1999"},
    ]


def test_browse(serve):
    page = {"topic": "orders", "floor": 1, "head": 9, "messages": [fake.message(3, "x")]}
    state, publisher = serve(answer(page), answer(page))
    batch = publisher.browse("orders", 3, limit=1)
    assert [(m.offset, m.payload, m.epoch) for m in batch] == [(3, "x", None)]
    assert (batch.head, batch.position) == (9, None)
    publisher.browse("orders")
    assert [seen.query for seen in state.seen] == [{"offset": "3", "limit": "1"}, {"limit": "100"}]


def test_reset_to_a_position_or_a_time(serve):
    done = answer({"topic": "orders", "offset": 0, "subscribers": 3})
    state, publisher = serve(done, done)
    assert publisher.reset_topic("orders", 0) == Reset("orders", 0, 3)
    publisher.reset_topic("orders", datetime(2024, 1, 1, tzinfo=UTC), dry_run=True)
    assert [seen.path for seen in state.seen] == ["/topics/orders/reset"] * 2
    assert [seen.body for seen in state.seen] == [
        {"offset": 0},
        {"timestamp": "2024-01-01T00:00:00.000000+00:00", "dry_run": True},
    ]
    with pytest.raises(InvalidRequest, match="time zone"):
        publisher.reset_topic("orders", datetime(2024, 1, 1))
    assert len(state.seen) == 2


ONCE = {
    "create_topic": lambda publisher: publisher.create_topic("orders"),
    "delete_topic": lambda publisher: publisher.delete_topic("orders"),
    "reset_topic": lambda publisher: publisher.reset_topic("orders", 0),
}


@pytest.mark.parametrize("act", ONCE)
def test_acts_that_cannot_be_repeated_are_sent_once(serve, act):
    state, publisher = serve(cut, answer(fake.topic()))
    with pytest.raises(OutcomeUnknown) as raised:
        ONCE[act](publisher)
    assert len(state.seen) == 1
    assert (raised.value.producer, raised.value.sequence) == (None, None)


def test_publish(serve):
    state, publisher = serve(stored(41), stored(42))
    assert publisher.publish("orders", {"id": 1}) == 41
    assert publisher.publish("orders", None, key="c", headers={"a": [1]}) == 42
    first, second = (seen.body for seen in state.seen)
    assert state.seen[0].path == "/topics/orders/messages"
    assert first == {"payloads": [{"id": 1}], "producer": first["producer"], "sequence": 1}
    assert second == {
        "payloads": [None],
        "keys": ["c"],
        "headers": [{"a": [1]}],
        "producer": first["producer"],
        "sequence": 2,
    }


def check_retry_is_identical(serve) -> None:
    state, publisher = serve(cut, busy(), unsure(), stored(7))
    assert publisher.publish("orders", {"id": "é"}) == 7
    assert len(state.seen) == 4
    assert len({seen.raw for seen in state.seen}) == 1
    assert '{"id":"é"}'.encode() in state.seen[0].raw
    assert state.seen[0].body["sequence"] == 1


def test_a_retried_publish_is_the_same_to_the_byte(serve):
    check_retry_is_identical(serve)


def test_control_a_publish_without_retry_is_caught(serve, monkeypatch):
    request = qlib.publisher.Transport.request

    def never_again(
        self: object, *args: object, repeatable: bool = False, **rest: object
    ) -> object:
        return request(self, *args, **rest)

    monkeypatch.setattr(qlib.publisher.Transport, "request", never_again)
    with pytest.raises(OutcomeUnknown):
        check_retry_is_identical(serve)


def test_an_unknown_publish_can_be_repeated_by_hand(serve):
    state, publisher = serve(*[cut] * 200, timeout=0.2)
    with pytest.raises(OutcomeUnknown) as raised:
        publisher.publish("orders", 1)
    unknown = raised.value
    asked = len(state.seen)
    assert unknown.producer == state.seen[0].body["producer"]
    assert unknown.sequence == 1
    state.script[:] = [stored(5), stored(6)]
    assert publisher.publish("orders", 1, sequence=unknown.sequence) == 5
    assert state.seen[asked].raw == state.seen[0].raw
    publisher.publish("orders", 2)
    assert state.seen[-1].body["sequence"] == 2


def test_a_publish_that_was_never_taken_is_not_in_doubt(serve):
    _, publisher = serve(*[busy()] * 200, timeout=0.2)
    with pytest.raises(Unavailable):
        publisher.publish("orders", 1)


@pytest.mark.parametrize("offsets", [(1, 2), (1, 0), ("1", "1"), (None, None), (1.0, 1.0)])
def test_offsets_that_cannot_be_are_an_unclear_answer(serve, offsets):
    nonsense = answer({"first_offset": offsets[0], "last_offset": offsets[1]})
    state, publisher = serve(nonsense, stored(1))
    assert publisher.publish("orders", 1) == 1
    assert len(state.seen) == 2


def test_publish_many_in_batches_by_count(serve):
    state, publisher = serve(accept, accept, accept)
    assert publisher.publish_many("orders", range(2500)) == range(1, 2501)
    assert [len(seen.body["payloads"]) for seen in state.seen] == [1000, 1000, 500]
    assert sum((seen.body["payloads"] for seen in state.seen), []) == list(range(2500))
    assert [seen.body["sequence"] for seen in state.seen] == [1, 2, 3]


def test_publish_many_in_batches_by_bytes(serve, monkeypatch):
    monkeypatch.setattr(batching, "_MOST_BYTES", 100)
    state, publisher = serve(*[accept] * 9)
    rows = ["x" * 40, "é" * 20, "x" * 500, "y", "z"]
    assert publisher.publish_many("orders", rows) == range(1, 6)
    assert [seen.body["payloads"] for seen in state.seen] == [rows[:2], [rows[2]], rows[3:]]


def test_publish_many_between_other_publishers(serve):
    _, publisher = serve(stored(1, 1000), stored(1501, 2))
    offsets = publisher.publish_many("orders", range(1002))
    assert offsets == (*range(1, 1001), 1501, 1502)


def test_publish_many_of_nothing_sends_nothing(serve):
    state, publisher = serve()
    assert publisher.publish_many("orders", []) == range(0)
    assert publisher.publish_many("orders", iter(()), keys=[], headers=iter([])) == range(0)
    assert state.seen == []


def test_publish_many_reads_a_generator_as_it_sends(serve):
    drawn: list[int] = []
    drawn_at_request: list[int] = []

    def rows() -> Iterator[int]:
        for number in range(3000):
            drawn.append(number)
            yield number

    def note(state: Hostile, connection: object, seen: fake.Seen) -> bool:
        drawn_at_request.append(len(drawn))
        return accept(state, connection, seen)

    _, publisher = serve(note, note, note)
    publisher.publish_many("orders", rows())
    assert drawn_at_request == [1001, 2001, 3000]


def test_publish_many_with_keys_and_headers(serve):
    state, publisher = serve(accept)
    publisher.publish_many("orders", [1, 2], keys=iter(["a", None]), headers=[None, {"h": 1}])
    assert state.seen[0].body["keys"] == ["a", None]
    assert state.seen[0].body["headers"] == [None, {"h": 1}]


@pytest.mark.parametrize(
    "columns", [([1, 2], ["a"], None), ([1], ["a", "b"], None), ([1], None, [])]
)
def test_columns_of_different_lengths_are_refused(serve, columns):
    state, publisher = serve(accept)
    with pytest.raises(InvalidRequest, match="differ in length"):
        publisher.publish_many("orders", *columns)
    assert state.seen == []


def test_a_failed_batch_tells_what_was_published(serve):
    state, publisher = serve(accept, problem(404, "topic_not_found"))
    with pytest.raises(TopicNotFound) as raised:
        publisher.publish_many("orders", range(3000))
    assert raised.value.published == range(1, 1001)
    assert len(state.seen) == 2


def test_a_batch_in_doubt_tells_what_was_published(serve):
    _, publisher = serve(accept, *[cut] * 200, timeout=0.2)
    with pytest.raises(OutcomeUnknown) as raised:
        publisher.publish_many("orders", range(3000))
    assert (raised.value.published, raised.value.sequence) == (range(1, 1001), 2)


def test_a_row_that_is_not_json_is_named(serve):
    state, publisher = serve(accept)
    rows = [*range(1500), float("nan")]
    with pytest.raises(InvalidRequest, match=r"payloads\[1500\] is not JSON") as raised:
        publisher.publish_many("orders", rows)
    assert raised.value.published == range(1, 1001)
    assert len(state.seen) == 1
    for payload in (float("inf"), "\ud800", {1, 2}):
        with pytest.raises(InvalidRequest, match=r"payloads\[0\]"):
            publisher.publish("orders", payload)
    with pytest.raises(InvalidRequest, match=r"headers\[0\]"):
        publisher.publish("orders", 1, headers={"a": object()})
    assert len(state.seen) == 1


def check_numbers_are_distinct(serve) -> None:
    state, publisher = serve(*[stored(1)] * 400, timeout=20.0)
    together = threading.Barrier(8, timeout=10.0)

    def publish() -> None:
        together.wait()
        for _ in range(50):
            publisher.publish("orders", 1)

    threads = [threading.Thread(target=publish) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bodies = [seen.body for seen in state.seen]
    assert len({body["producer"] for body in bodies}) == 1
    assert sorted(body["sequence"] for body in bodies) == list(range(1, 401))


def test_threads_number_their_publishes_apart(serve):
    check_numbers_are_distinct(serve)


def test_control_a_number_given_twice_is_caught(serve, monkeypatch):
    number = QPublisher._number
    monkeypatch.setattr(
        QPublisher, "_number", lambda self, it: (number(self, it)[0], number(self, it)[1] // 4)
    )
    with pytest.raises(AssertionError):
        check_numbers_are_distinct(serve)


def test_a_forked_child_publishes_under_its_own_name_and_connection(serve, monkeypatch):
    state, publisher = serve(stored(1), stored(2))
    publisher.publish("orders", 1)
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    parents = publisher._transport._session
    publisher.publish("orders", 1)
    parents.close()
    first, second = (seen.body for seen in state.seen)
    assert first["producer"] != second["producer"]
    assert state.accepted == 2


def test_repr_shows_no_token():
    publisher = QPublisher("http://127.0.0.1:1", "secret")
    assert repr(publisher) == "QPublisher('http://127.0.0.1:1')"


def test_a_publisher_closes_its_connections():
    with hostile(stored(1)) as server:
        with QPublisher(server.url) as publisher:
            publisher.publish("orders", 1)
        # The server's thread leaves its connection once the client has closed it.
        until(lambda: not server.connections)
