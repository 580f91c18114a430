"""The publishing side against a scripted server: routes, batches, numbering and doubt."""

import os
import threading
from datetime import UTC, datetime

import pytest

import qlib
from qlib import InvalidRequest, OutcomeUnknown, QPublisher, Reset, Unavailable
from qlib.numbered import Numbered, _Producer
from tests.forked import in_child
from tests.qlib import hostile as fake
from tests.qlib.hostile import answer, busy, cut, hostile, stored, unsure
from tests.waiting import until


def test_topics(publishing):
    made = fake.topic(description="every order")
    state, publisher = publishing(
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
def test_lists_are_paged_to_the_end(publishing, what):
    names = [f"n{number:04}" for number in range(2000)]
    make = getattr(fake, what)
    pages = [names[:1000], names[1000:], []]
    state, publisher = publishing(
        *(answer({f"{what}s": [make(name) for name in page]}) for page in pages)
    )
    found = publisher.topics() if what == "topic" else publisher.subscribers("orders")
    assert "<table>" in found._repr_html_()
    assert [getattr(one, what) for one in found] == names
    assert [seen.query for seen in state.seen] == [
        {"limit": "1000"},
        {"limit": "1000", "after": "n0999"},
        {"limit": "1000", "after": "n1999"},
    ]


def test_browse(publishing):
    page = {"topic": "orders", "floor": 1, "head": 9, "messages": [fake.message(3, "x")]}
    state, publisher = publishing(answer(page), answer(page))
    batch = publisher.browse("orders", 3, limit=1)
    assert [(m.offset, m.payload, m.epoch) for m in batch] == [(3, "x", None)]
    assert (batch.head, batch.position) == (9, None)
    publisher.browse("orders")
    assert [seen.query for seen in state.seen] == [{"offset": "3", "limit": "1"}, {"limit": "100"}]


def test_reset_to_a_position_or_a_time(publishing):
    done = answer({"topic": "orders", "offset": 0, "subscribers": 3})
    state, publisher = publishing(done, done)
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
def test_acts_that_cannot_be_repeated_are_sent_once(publishing, act):
    state, publisher = publishing(cut, answer(fake.topic()))
    with pytest.raises(OutcomeUnknown) as raised:
        ONCE[act](publisher)
    assert len(state.seen) == 1
    assert (raised.value.producer, raised.value.sequence) == (None, None)


def test_publish(publishing):
    state, publisher = publishing(stored(41), stored(42))
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


def check_retry_is_identical(publishing) -> None:
    state, publisher = publishing(cut, busy(), unsure(), stored(7))
    assert publisher.publish("orders", {"id": "é"}) == 7
    assert len(state.seen) == 4
    assert len({seen.raw for seen in state.seen}) == 1
    assert '{"id":"é"}'.encode() in state.seen[0].raw
    assert state.seen[0].body["sequence"] == 1


def test_a_retried_publish_is_the_same_to_the_byte(publishing):
    check_retry_is_identical(publishing)


def test_control_a_publish_without_retry_is_caught(publishing, monkeypatch):
    request = qlib.publisher.Transport.request

    def never_again(
        self: object, *args: object, repeatable: bool = False, **rest: object
    ) -> object:
        return request(self, *args, **rest)

    monkeypatch.setattr(qlib.publisher.Transport, "request", never_again)
    with pytest.raises(OutcomeUnknown):
        check_retry_is_identical(publishing)


def test_an_unknown_publish_can_be_repeated_by_hand(publishing):
    state, publisher = publishing(*[cut] * 200, timeout=0.2)
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


def test_a_publish_that_was_never_taken_is_not_in_doubt(publishing):
    _, publisher = publishing(*[busy()] * 200, timeout=0.2)
    with pytest.raises(Unavailable):
        publisher.publish("orders", 1)


@pytest.mark.parametrize("offsets", [(1, 2), (1, 0), ("1", "1"), (None, None), (1.0, 1.0)])
def test_offsets_that_cannot_be_are_an_unclear_answer(publishing, offsets):
    nonsense = answer({"first_offset": offsets[0], "last_offset": offsets[1]})
    state, publisher = publishing(nonsense, stored(1))
    assert publisher.publish("orders", 1) == 1
    assert len(state.seen) == 2


def check_numbers_are_distinct(publishing) -> None:
    state, publisher = publishing(*[stored(1)] * 400, timeout=20.0)
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


def test_threads_number_their_publishes_apart(publishing):
    check_numbers_are_distinct(publishing)


def test_control_a_number_given_twice_is_caught(publishing, monkeypatch):
    number = Numbered._number
    monkeypatch.setattr(
        Numbered, "_number", lambda self, it: (number(self, it)[0], number(self, it)[1] // 4)
    )
    with pytest.raises(AssertionError):
        check_numbers_are_distinct(publishing)


def check_a_child_has_a_name_of_its_own(publishing) -> None:
    state, publisher = publishing(stored(1), stored(2), stored(3))
    publisher.publish("orders", 1)
    with publisher._numbered._producer[os.getpid()]._lock:  # as another thread may at that moment
        assert in_child(lambda: publisher.publish("orders", 1)) == "2"
    assert publisher.publish("orders", 1) == 3
    first, second, third = (seen.body for seen in state.seen)
    assert first["producer"] == third["producer"] != second["producer"]
    assert [first["sequence"], third["sequence"]] == [1, 2]
    assert state.accepted == 2


def test_a_forked_child_publishes_under_its_own_name_and_connection(publishing):
    check_a_child_has_a_name_of_its_own(publishing)


def test_control_a_child_under_its_parents_name_is_caught(publishing, monkeypatch):
    def go_on(producer: _Producer) -> _Producer:
        producer._lock = threading.Lock()
        return producer

    monkeypatch.setattr(_Producer, "anew", go_on)
    with pytest.raises(AssertionError):
        check_a_child_has_a_name_of_its_own(publishing)


def test_repr_shows_no_token():
    publisher = QPublisher("http://127.0.0.1:1", "secret")
    assert repr(publisher) == "QPublisher('http://127.0.0.1:1')"


def test_a_publisher_closes_its_connections():
    with hostile(stored(1)) as server:
        with QPublisher(server.url) as publisher:
            publisher.publish("orders", 1)
        # The server's thread leaves its connection once the client has closed it.
        until(lambda: not server.connections)
