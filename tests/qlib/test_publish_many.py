"""Many messages at once: batches, what was published when one fails, and laziness."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qlib import InvalidRequest, OutcomeUnknown, QPublisher, TopicNotFound, sending
from qlib import batches as batching
from qlib.values import encoder
from tests.proxy import delaying
from tests.qlib import hostile as fake
from tests.qlib.hostile import Hostile, cut, hostile, problem, stored
from tests.server_process import ROOT, ServerProcess
from tests.waiting import until


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


def reads_a_batch_ahead(publishing, patience: float = 10.0) -> None:
    drawn: list[int] = []
    drawn_at_answer: list[int] = []

    def rows() -> Iterator[int]:
        for number in range(4000):
            drawn.append(number)
            yield number

    def late(state: Hostile, connection: object, seen: fake.Seen) -> bool:
        ahead = min(1000 * (len(state.seen) + 1) + 1, 4000)
        with suppress(AssertionError):
            until(lambda: len(drawn) >= ahead, patience)
        drawn_at_answer.append(len(drawn))
        return accept(state, connection, seen)

    state, publisher = publishing(late, late, late, late)
    assert publisher.publish_many("orders", rows()) == range(1, 4001)
    assert drawn_at_answer == [2001, 3001, 4000, 4000]
    assert sum((seen.body["payloads"] for seen in state.seen), []) == list(range(4000))


def test_publish_many_reads_a_batch_ahead_and_no_more(publishing):
    reads_a_batch_ahead(publishing)


def test_control_a_batch_that_is_waited_for_first_is_caught(publishing, monkeypatch):
    monkeypatch.setattr(sending, "_HEAD_START", None)
    with pytest.raises(AssertionError, match="1001, 2001, 3001, 4000"):
        reads_a_batch_ahead(publishing, patience=0.1)


def test_rows_are_drawn_and_encoded_where_the_call_is(publishing):
    where: set[threading.Thread] = set()

    def plain(value: object) -> str:
        where.add(threading.current_thread())
        return "plain"

    def rows() -> Iterator[object]:
        for _ in range(2500):
            where.add(threading.current_thread())
            yield object()

    state, _ = publishing(accept, accept, accept)
    with QPublisher(state.url, default=plain) as publisher:
        assert publisher.publish_many("orders", rows()) == range(1, 2501)
    assert where == {threading.current_thread()}


def stored_in_order(server: ServerProcess, topic: str, seconds: float = 0.2) -> None:
    with delaying(server.url, seconds) as proxy, QPublisher(proxy.url) as publisher:
        publisher.publish_many(topic, range(3500))
        stored = until(
            lambda: publisher.topic(topic).head == 3500 and publisher.browse(topic, 1, 3500)
        )
        assert proxy.held >= 2
    assert [message.payload for message in stored] == list(range(3500))


def test_a_batch_does_not_overtake_the_one_before_it(server, topic):
    stored_in_order(server, topic)


def test_control_a_batch_that_is_sent_early_is_caught(server, topic, monkeypatch):
    monkeypatch.setattr(sending._Line, "_settle", lambda *_: None)  # the last one overtakes

    with pytest.raises(AssertionError, match=r"== \[0, 1, 2"):
        stored_in_order(server, topic, 3.0)


def reused(numbers: Iterable[int]) -> Iterator[dict[str, list[int]]]:
    """Yield one and the same object, changed each time."""
    row: dict[str, list[int]] = {"n": [0]}
    for number in numbers:
        row["n"][0] = number
        yield row


def each_row_is_kept(publishing, rows: Callable[[Iterable[int]], Iterable[object]]) -> None:
    state, publisher = publishing(accept)
    publisher.publish_many("orders", rows(range(250)), keys=["k"] * 250)
    assert state.seen[0].body["payloads"] == [{"n": [number]} for number in range(250)]


def test_a_generator_may_use_one_object_for_all_rows(publishing):
    each_row_is_kept(publishing, reused)


def test_control_rows_encoded_after_the_next_is_drawn_are_caught(publishing):
    with pytest.raises(AssertionError):
        each_row_is_kept(publishing, lambda numbers: list(reused(numbers)))


VALUES = st.sampled_from([1, "é", "x" * 50, None, {"a": [1, {}]}, "y" * 150, "\ud800", {1}, [","]])
COLUMNS = st.lists(st.lists(VALUES, max_size=12), min_size=1, max_size=3)


def encoded(columns: dict[str, Iterable[Any]]) -> tuple[dict[str, list[Any]], str]:
    """Return what all the batches hold, checked against the limits, and the error at the end."""
    held: dict[str, list[Any]] = {name: [] for name in columns}
    try:
        for batch in batching.split(batching.rows(columns, encoder())):
            body = batching.body(list(columns), batch, {})
            assert 1 <= len(batch) <= batching._MOST_MESSAGES
            overhead = sum(len(name) + 6 for name in columns) + len(columns) * len(batch)
            assert len(batch) == 1 or len(body) <= batching._MOST_BYTES + overhead
            for name, values in json.loads(body).items():
                assert len(values) == len(batch)
                held[name] += values
    except InvalidRequest as error:
        return held, str(error)
    return held, ""


def lists_make_what_iterators_make(columns: list[list[Any]]) -> None:
    named = dict(zip(["payloads", "keys", "headers"], columns, strict=False))
    with pytest.MonkeyPatch.context() as limits:
        for name, limit in (("_MOST_MESSAGES", 6), ("_MOST_BYTES", 120), ("_TOGETHER", 4)):
            limits.setattr(batching, name, limit)
        held, error = encoded(named)
        other, its_error = encoded({name: iter(column) for name, column in named.items()})
    assert error == its_error
    both = [list(zip(*it.values(), strict=True)) for it in (held, other)]
    rows = list(zip(*columns, strict=False))
    # Before an error, either may have sent a batch more than the other.
    assert all(it == rows[: len(it)] and (error or len(it) == len(rows)) for it in both)


@given(COLUMNS)
def test_lists_make_the_messages_that_iterators_make(columns):
    lists_make_what_iterators_make(columns)


def test_control_rows_that_change_places_are_caught(monkeypatch):
    monkeypatch.setattr(batching, "_together", lambda some, to_json: [])
    lists_make_what_iterators_make([[1, 2]])
    monkeypatch.setattr(batching, "_together", lambda some, to_json: [(2, (b"2,1",))])
    with pytest.raises(AssertionError):
        lists_make_what_iterators_make([[1, 2]])


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
    assert raised.value.__notes__ == ["publish_many had stored 1000 messages, offsets 1 to 1000"]
    assert len(state.seen) == 2


def test_a_refusal_of_a_later_batch_tells_where_it_begins(publishing):
    refusal = problem(422, "invalid_message", detail="message 100 is odd")
    _, publisher = publishing(accept, accept, refusal, refusal)
    with pytest.raises(InvalidRequest) as raised:
        publisher.publish_many("orders", range(3000))
    assert raised.value.detail == ("message 100 is odd; message 0 of this batch is payloads[2000]")
    assert raised.value.args == (raised.value.detail,)
    with pytest.raises(InvalidRequest) as raised:
        publisher.publish_many("orders", range(3000))
    assert raised.value.detail == "message 100 is odd"


@pytest.mark.parametrize(
    ("rows", "note"), [(1500, "1000 messages, offsets 1 to 1000"), (7, "nothing")]
)
def test_an_exception_of_a_generator_tells_what_was_published(publishing, rows, note):
    def broken() -> Iterator[int]:
        yield from range(rows)
        raise ZeroDivisionError

    state, publisher = publishing(accept)
    with pytest.raises(ZeroDivisionError) as raised:
        publisher.publish_many("orders", broken())
    assert raised.value.__notes__ == [f"publish_many had stored {note}"]
    assert len(state.seen) == rows // 1000


def test_an_exception_of_a_generator_waits_for_the_batch_under_way(publishing):
    raising = threading.Event()

    def broken() -> Iterator[int]:
        yield from range(1500)
        raising.set()
        raise ZeroDivisionError

    def late(state: Hostile, connection: object, seen: fake.Seen) -> bool:
        assert raising.wait(10)
        return accept(state, connection, seen)

    _, publisher = publishing(late)
    with pytest.raises(ZeroDivisionError) as raised:
        publisher.publish_many("orders", broken())
    stored = "publish_many had stored 1000 messages, offsets 1 to 1000"
    assert raised.value.__notes__ == [stored]


def test_an_error_of_the_batch_under_way_comes_first(publishing):
    raising = threading.Event()

    def broken() -> Iterator[object]:
        yield from range(1500)
        raising.set()
        yield object()

    def late(state: Hostile, connection: object, seen: fake.Seen) -> bool:
        assert raising.wait(10)
        return problem(404, "topic_not_found")(state, connection, seen)

    _, publisher = publishing(late)
    with pytest.raises(TopicNotFound) as raised:
        publisher.publish_many("orders", broken())
    assert raised.value.published == range(0)
    assert isinstance(raised.value.__context__, InvalidRequest)


def test_a_failed_batch_is_told_before_the_next_one_is_full(publishing):
    def slow() -> Iterator[int]:
        yield from range(1001)
        until(lambda: "qlib.publish_many" not in {t.name for t in threading.enumerate()})
        yield 1001
        pytest.fail("it goes on drawing")

    _, publisher = publishing(problem(404, "topic_not_found"))
    with pytest.raises(TopicNotFound):
        publisher.publish_many("orders", slow())


PROGRAM = """
import sys
from qlib import QPublisher
QPublisher(sys.argv[1]).publish_many("orders", range(int(sys.argv[2])))
"""


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (3000, "1000 messages, offsets 1 to 1000"),
        (2000, "1000 messages, offsets 1 to 1000"),
        (1, "nothing"),
    ],
)
def test_ctrl_c_does_not_wait_for_the_batch_under_way(rows, note):
    steps = [accept] * (rows > 1)
    with hostile(*steps, fake.hang) as state:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, state.url, str(rows)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: len(state.seen) == len(steps) + 1)
            program.send_signal(signal.SIGINT)
            _, said = program.communicate(timeout=20)
        finally:
            program.kill()
            program.wait()
        assert state.finished == []
    assert program.returncode == -signal.SIGINT
    assert said.splitlines()[-2:] == [
        "KeyboardInterrupt",
        f"publish_many had stored {note}; the batch under way may be stored, too",
    ]


@pytest.mark.parametrize("rows", [1, 1500])
def test_ctrl_c_at_an_answer_leaves_no_batch_out(rows):
    class Interrupted(list[range]):
        def append(self, it: range) -> None:
            raise KeyboardInterrupt

    line = sending._Line(lambda batch: range(len(batch)))
    line.stored = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        line.store([(1, (b"1",))] * rows)
    line.end()
    assert line.is_in_doubt


def test_a_thread_that_cannot_start_leaves_nothing_behind(publishing, monkeypatch):
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    state, publisher = publishing(accept, accept)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="can't start") as raised:
            publisher.publish_many("orders", range(1500))
    assert raised.value.__notes__ == ["publish_many had stored nothing"]
    assert publisher.publish_many("orders", range(1500)) == range(1, 1501)


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


@pytest.mark.parametrize("payloads", [None, "hello", b"hello", {"id": 1}, 5, np.array(3)])
def test_what_is_no_list_of_messages_is_not_taken_apart(publishing, payloads):
    state, publisher = publishing()
    with pytest.raises(InvalidRequest, match="payloads must be a list"):
        publisher.publish_many("orders", payloads)
    with pytest.raises(InvalidRequest, match="keys must be a list"):
        publisher.publish_many("orders", [1], keys="k")
    assert state.seen == []
