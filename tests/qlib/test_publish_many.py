"""Many messages at once: batches, what was published when one fails, and laziness."""

from collections.abc import Iterator

import pytest

from qlib import InvalidRequest, OutcomeUnknown, TopicNotFound
from qlib import batches as batching
from tests.qlib import hostile as fake
from tests.qlib.hostile import Hostile, cut, problem, stored


def accept(state: Hostile, connection: object, seen: fake.Seen) -> bool:
    """Store a batch after those before it, as a server with one publisher would."""
    before = sum(len(other.body["payloads"]) for other in state.seen[:-1])
    return stored(before + 1, len(seen.body["payloads"]))(state, connection, seen)


def test_publish_many_in_batches_by_count(publishing):
    state, publisher = publishing(accept, accept, accept)
    assert publisher.publish_many("orders", range(2500)) == range(1, 2501)
    assert [len(seen.body["payloads"]) for seen in state.seen] == [1000, 1000, 500]
    assert sum((seen.body["payloads"] for seen in state.seen), []) == list(range(2500))
    assert [seen.body["sequence"] for seen in state.seen] == [1, 2, 3]


def test_publish_many_in_batches_by_bytes(publishing, monkeypatch):
    monkeypatch.setattr(batching, "_MOST_BYTES", 100)
    state, publisher = publishing(*[accept] * 9)
    rows = ["x" * 40, "é" * 20, "x" * 500, "y", "z"]
    assert publisher.publish_many("orders", rows) == range(1, 6)
    assert [seen.body["payloads"] for seen in state.seen] == [rows[:2], [rows[2]], rows[3:]]


def test_publish_many_between_other_publishers(publishing):
    _, publisher = publishing(stored(1, 1000), stored(1501, 2))
    offsets = publisher.publish_many("orders", range(1002))
    assert offsets == (*range(1, 1001), 1501, 1502)


def test_publish_many_of_nothing_sends_nothing(publishing):
    state, publisher = publishing()
    assert publisher.publish_many("orders", []) == range(0)
    assert publisher.publish_many("orders", iter(()), keys=[], headers=iter([])) == range(0)
    assert state.seen == []


def test_publish_many_reads_a_generator_as_it_sends(publishing):
    drawn: list[int] = []
    drawn_at_request: list[int] = []

    def rows() -> Iterator[int]:
        for number in range(3000):
            drawn.append(number)
            yield number

    def note(state: Hostile, connection: object, seen: fake.Seen) -> bool:
        drawn_at_request.append(len(drawn))
        return accept(state, connection, seen)

    _, publisher = publishing(note, note, note)
    publisher.publish_many("orders", rows())
    assert drawn_at_request == [1001, 2001, 3000]


def test_publish_many_with_keys_and_headers(publishing):
    state, publisher = publishing(accept)
    publisher.publish_many("orders", [1, 2], keys=iter(["a", None]), headers=[None, {"h": 1}])
    assert state.seen[0].body["keys"] == ["a", None]
    assert state.seen[0].body["headers"] == [None, {"h": 1}]


@pytest.mark.parametrize(
    "columns", [([1, 2], ["a"], None), ([1], ["a", "b"], None), ([1], None, [])]
)
def test_columns_of_different_lengths_are_refused(publishing, columns):
    state, publisher = publishing(accept)
    with pytest.raises(InvalidRequest, match="differ in length"):
        publisher.publish_many("orders", *columns)
    assert state.seen == []


def test_a_failed_batch_tells_what_was_published(publishing):
    state, publisher = publishing(accept, problem(404, "topic_not_found"))
    with pytest.raises(TopicNotFound) as raised:
        publisher.publish_many("orders", range(3000))
    assert raised.value.published == range(1, 1001)
    assert len(state.seen) == 2


def test_a_batch_in_doubt_tells_what_was_published(publishing):
    _, publisher = publishing(accept, *[cut] * 200, timeout=0.2)
    with pytest.raises(OutcomeUnknown) as raised:
        publisher.publish_many("orders", range(3000))
    assert (raised.value.published, raised.value.sequence) == (range(1, 1001), 2)


def test_a_row_that_is_not_json_is_named(publishing):
    state, publisher = publishing(accept)
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


@pytest.mark.parametrize("payloads", [None, "hello", b"hello", {"id": 1}, 5])
def test_what_is_no_list_of_messages_is_not_taken_apart(publishing, payloads):
    state, publisher = publishing()
    with pytest.raises(InvalidRequest, match="payloads must be a list"):
        publisher.publish_many("orders", payloads)
    with pytest.raises(InvalidRequest, match="keys must be a list"):
        publisher.publish_many("orders", [1], keys="k")
    assert state.seen == []
