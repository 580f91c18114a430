"""Single messages in the background: order, bounds, and what is said when something fails."""

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from qlib import (
    Buffered,
    Handle,
    InvalidRequest,
    MessageTooLarge,
    NotSent,
    OutcomeUnknown,
    QPublisher,
    QueueError,
    TopicNotFound,
    Unavailable,
    batched,
    numbered,
    pending,
    process,
)
from qlib.batches import Encoded
from qlib.numbered import Numbered
from qlib.pending import Pending
from tests.forked import in_child
from tests.proxy import delaying
from tests.qlib import hostile as fake
from tests.qlib.hostile import Hostile, busy, cut, hang, hostile, problem
from tests.server_process import ROOT, ServerProcess
from tests.waiting import until

LONG = 3600.0  # nothing is sent before it is told to


def accept(state: Hostile, connection: object, seen: fake.Seen) -> bool:
    """Store a batch after those before it, as a server with one publisher would."""
    before = sum(len(other.body["payloads"]) for other in state.seen[:-1])
    return fake.stored(before + 1, len(seen.body["payloads"]))(state, connection, seen)


class Gate:
    """A step that stores a batch, but not before it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, state: Hostile, connection: object, seen: fake.Seen) -> bool:
        assert self.open.wait(fake.PATIENCE)
        return accept(state, connection, seen)


def sent(state: Hostile) -> list[list[object]]:
    return [seen.body["payloads"] for seen in state.seen]


def inside(out: Buffered) -> Pending:
    return out._pending[os.getpid()]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "Buffered" in thread.name]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == []


@contextmanager
def running(act: Callable[[], object]) -> Iterator[list[object]]:
    """Do it in a thread, which must have ended in the end; the list holds what it came to."""
    came: list[object] = []

    def run() -> None:
        try:
            came.append(act())
        except QueueError as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield came
    thread.join(fake.PATIENCE)
    assert not thread.is_alive()


# What is sent


def test_handles_tell_the_offsets(publishing):
    state, publisher = publishing(accept, accept, accept)
    with publisher.buffered("orders", linger=LONG, batch=2) as out:
        handles = [out.publish(number) for number in range(5)]
    assert [handle.result() for handle in handles] == [1, 2, 3, 4, 5]
    assert all(handle.done() for handle in handles)
    assert sent(state) == [[0, 1], [2, 3], [4]]
    assert [seen.body["sequence"] for seen in state.seen] == [1, 2, 3]
    assert {seen.path for seen in state.seen} == {"/topics/orders/messages"}


def test_a_full_batch_is_sent_at_once_and_another_one_after_its_time(publishing):
    state, publisher = publishing(accept, accept)
    with publisher.buffered("orders", linger=LONG, batch=2) as out:
        first, second = out.publish(1), out.publish(2)
        assert (first.result(10), second.result(10)) == (1, 2)
        third = out.publish(3)
        with pytest.raises(TimeoutError):
            third.result(0.01)
        assert not third.done()
        assert len(state.seen) == 1
        out.flush()
        assert third.result(0) == 3
    with publisher.buffered("orders", linger=0) as out:
        state.script.append(accept)
        assert out.publish(4).result(10) == 4


def test_a_batch_is_sent_when_its_first_message_is_so_old(publishing, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(pending, "monotonic", lambda: now[0])
    state, publisher = publishing(accept)
    with publisher.buffered("orders", linger=0.05) as out:
        out.publish(1)
        now[0] += 0.04
        handle = out.publish(2)
        assert not handle.done()
        now[0] += 0.01
        assert handle.result(10) == 2
    assert sent(state) == [[1, 2]]


def test_batches_are_bounded_by_bytes(publishing, monkeypatch):
    monkeypatch.setattr(batched, "BATCH_BYTES", 100)
    state, publisher = publishing(*[accept] * 9)
    rows = ["x" * 30, "é" * 15, "x" * 500, "y", "z"]
    with publisher.buffered("orders", linger=LONG) as out:
        for row in rows:
            out.publish(row)
    assert sent(state) == [rows[:2], [rows[2]], rows[3:]]


def test_columns_are_sent_where_some_message_has_one(publishing):
    state, publisher = publishing(accept, accept, accept)
    with publisher.buffered("orders", linger=LONG) as out:
        out.publish(1)
        out.publish(2, "k")
        out.flush()
        out.publish(3)
        out.flush()
        out.publish(4, None, {"h": 1})
        out.publish(5)
    columns = [
        {name: seen.body[name] for name in ("payloads", "keys", "headers") if name in seen.body}
        for seen in state.seen
    ]
    assert columns == [
        {"payloads": [1, 2], "keys": [None, "k"]},
        {"payloads": [3]},
        {"payloads": [4, 5], "headers": [{"h": 1}, None]},
    ]


def test_a_payload_may_be_changed_when_it_was_taken(publishing):
    state, publisher = publishing(accept)
    row = {"n": [0]}
    with publisher.buffered("orders", linger=LONG) as out:
        for number in range(3):
            row["n"][0] = number
            out.publish(row, headers=row)
        row.clear()
    assert sent(state) == [[{"n": [0]}, {"n": [1]}, {"n": [2]}]]
    assert state.seen[0].body["headers"] == [{"n": [0]}, {"n": [1]}, {"n": [2]}]


def test_nothing_runs_and_nothing_is_sent_for_no_message(publishing):
    state, publisher = publishing()
    with publisher.buffered("orders") as out:
        assert threads() == []
        out.flush()
    assert state.seen == []


def test_a_retry_stores_a_batch_once(publishing):
    state, publisher = publishing(cut, busy(), accept)
    state.script[2] = fake.stored(1, 2)
    with publisher.buffered("orders", linger=LONG) as out:
        handles = [out.publish(1), out.publish(2)]
    assert [handle.result() for handle in handles] == [1, 2]
    assert len({(seen.body["producer"], seen.body["sequence"]) for seen in state.seen}) == 1


# Order


def test_one_batch_is_under_way_at_a_time(publishing):
    gate = Gate()
    state, publisher = publishing(gate, accept, timeout=20.0)
    with publisher.buffered("orders", linger=0, batch=1) as out:
        first, second = out.publish(1), out.publish(2)
        until(lambda: state.seen)
        with pytest.raises(TimeoutError):
            second.result(0.1)
        assert (first.done(), len(state.seen)) == (False, 1)
        gate.open.set()
        assert (first.result(10), second.result(10)) == (1, 2)


def stored_in_order(server: ServerProcess, topic: str, seconds: float = 0.2) -> None:
    with delaying(server.url, seconds) as proxy, QPublisher(proxy.url) as publisher:
        with publisher.buffered(topic, batch=100) as out:
            handles = [out.publish(number) for number in range(450)]
        until(lambda: publisher.topic(topic).head == 450)
        stored = publisher.browse(topic, 1, 1000)
        assert proxy.held >= 2
    assert [message.payload for message in stored] == list(range(450))
    assert [handle.result(0) for handle in handles] == list(range(1, 451))


def test_a_batch_does_not_overtake_the_one_before_it(server, topic):
    stored_in_order(server, topic)


def test_control_a_batch_that_is_sent_early_is_caught(server, topic, monkeypatch):
    early: list[threading.Thread] = []

    store = Numbered.store

    def store_early(numbered: Numbered, topic: str, names: list[str], batch: Encoded) -> range:
        """Take a batch for stored while it is under way: a bug."""
        early.append(threading.Thread(target=store, args=(numbered, topic, names, batch)))
        early[-1].start()
        return range(1, len(batch) + 1)

    monkeypatch.setattr(Numbered, "store", store_early)
    with pytest.raises(AssertionError, match=r"== \[0, 1, 2"):
        stored_in_order(server, topic, 3.0)
    for thread in early:
        thread.join()


def test_threads_share_a_buffer(server, topic):
    together = threading.Barrier(8, timeout=10.0)
    kept: dict[int, list[Handle]] = {}

    with (
        QPublisher(server.url) as publisher,
        publisher.buffered(topic, batch=50, pending=120) as out,
    ):

        def publish(thread: int) -> None:
            together.wait()
            kept[thread] = [out.publish([thread, number]) for number in range(200)]

        started = [threading.Thread(target=publish, args=(n,)) for n in range(8)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        out.flush()
        stored = {m.offset: m.payload for m in publisher.browse(topic, 1, 2000)}
    assert len(stored) == 1600
    for thread, handles in kept.items():
        offsets = [handle.result(0) for handle in handles]
        assert offsets == sorted(offsets)
        assert [stored[offset] for offset in offsets] == [[thread, n] for n in range(200)]


# Bounds


@pytest.mark.parametrize("bound", ["messages", "bytes"])
def test_publish_waits_for_room(publishing, monkeypatch, bound):
    if bound == "bytes":
        monkeypatch.setattr(batched, "BATCH_BYTES", 3)
        monkeypatch.setattr(pending, "_PENDING_BYTES", 3)
    gate = Gate()
    state, publisher = publishing(gate, accept, timeout=20.0)
    most = 3 if bound == "messages" else 1000
    with publisher.buffered("orders", linger=LONG, pending=most) as out:
        for number in range(3):
            out.publish(number)
        with running(lambda: out.publish(3).result(10)) as came:
            until(lambda: state.seen)  # at once: nobody adds to it meanwhile
            assert (sent(state), came) == ([[0, 1, 2]], [])
            gate.open.set()
            until(lambda: inside(out)._filling)
            out.flush()
        assert came == [4]
        assert (inside(out)._count, inside(out)._size) == (0, 0)


def test_a_message_larger_than_what_may_wait_is_sent(publishing, monkeypatch):
    monkeypatch.setattr(batched, "BATCH_BYTES", 30)
    monkeypatch.setattr(pending, "_PENDING_BYTES", 30)
    state, publisher = publishing(accept, accept)
    with publisher.buffered("orders", linger=LONG) as out:
        out.publish("x" * 100)
        assert out.publish("y" * 100).done() is False
    assert sent(state) == [["x" * 100], ["y" * 100]]


def test_handles_that_are_kept_keep_no_messages(publishing):
    _, publisher = publishing(accept)
    with publisher.buffered("orders") as out:
        handle = out.publish("x" * 1000)
    assert handle._batch.payloads == []


@pytest.mark.parametrize("wrong", [0, -1, 10_001, "1", True, 1.0, None])
def test_settings_are_checked(publishing, wrong):
    _, publisher = publishing()
    with pytest.raises(InvalidRequest, match="batch lies between 1 and 10000, not"):
        publisher.buffered("orders", batch=wrong)
    if wrong != 10_001:
        with pytest.raises(InvalidRequest, match="pending is an integer from 1 on, not"):
            publisher.buffered("orders", pending=wrong)
    if wrong not in (0, 1.0, 10_001):
        with pytest.raises(InvalidRequest, match="linger is a number of seconds from 0 on, not"):
            publisher.buffered("orders", linger=wrong)
    with pytest.raises(InvalidRequest, match="a name is"):
        publisher.buffered("a/b")


# Failures


REFUSED = [
    (({1}, None, None), InvalidRequest, "payload is not JSON"),
    ((float("nan"), None, None), InvalidRequest, "payload is not JSON"),
    (("\ud800", None, None), InvalidRequest, "payload is not JSON"),
    (("a\0b", None, None), InvalidRequest, "holds the character U[+]0000"),
    (('"\\\0', None, None), InvalidRequest, "holds the character U[+]0000"),
    (({"a\0": 1}, None, None), InvalidRequest, "holds the character U[+]0000"),
    ((1, "\0", None), InvalidRequest, "holds the character U[+]0000"),
    ((1, 7, None), InvalidRequest, "a key is a text, not 7"),
    ((1, None, [1]), InvalidRequest, "headers are a dict, not "),
    ((1, None, {"h": "\0"}), InvalidRequest, "holds the character U[+]0000"),
    (("x" * 2**20, None, None), MessageTooLarge, "the message is 1048578 bytes"),
    (("x" * (2**20 - 12), None, {"h": 1}), MessageTooLarge, "the message is 1048577 bytes"),
]
TAKEN = [("x" * (2**20 - 6), None, None), ("\\u0000", "\\u0000", {"\\u0000": 1}), (None, "", {})]


def refusals_harm_no_other(server: ServerProcess, topic: str) -> None:
    with QPublisher(server.url) as publisher:
        with publisher.buffered(topic, linger=LONG) as out:
            for taken in TAKEN:
                out.publish(*taken)
            for row, error, text in REFUSED:
                with pytest.raises(error, match=text):
                    out.publish(*row)
        stored = publisher.browse(topic)
    assert [(m.payload, m.key, m.headers) for m in stored] == TAKEN


def test_a_message_that_is_to_blame_is_refused_at_once_and_harms_no_other(server, topic):
    refusals_harm_no_other(server, topic)


def test_control_a_message_that_is_taken_and_then_refused_is_caught(server, topic, monkeypatch):
    monkeypatch.setattr(batched, "_NUL_IN_TEXT", batched.re.compile(b"never"))
    with pytest.raises(BaseException, match="DID NOT RAISE"):
        refusals_harm_no_other(server, topic)


def test_after_a_failed_batch_nothing_is_sent(publishing):
    gate = Gate()

    def refused(state: Hostile, connection: object, seen: fake.Seen) -> bool:
        assert gate.open.wait(fake.PATIENCE)
        return problem(404, "topic_not_found", detail="it is gone")(state, connection, seen)

    state, publisher = publishing(accept, refused, timeout=20.0)
    out = publisher.buffered("orders", linger=LONG, batch=2)
    handles = [out.publish(number) for number in range(7)]
    assert handles[1].result(10) == 2
    gate.open.set()
    with pytest.raises(TopicNotFound, match="it is gone") as raised:
        out.flush()
    assert raised.value.detail.endswith(
        "; of this buffer's messages, 2 are stored, the 2 of this batch are not, and the 3 after"
        " them were not sent"
    )
    assert raised.value.published == range(1, 3)
    assert [handle.result(0) for handle in handles[:2]] == [1, 2]
    for handle in handles[2:4]:
        with pytest.raises(TopicNotFound, match="it is gone"):
            handle.result()
    for act in (*[handle.result for handle in handles[4:]], lambda: out.publish(7)):
        with pytest.raises(NotSent) as later:
            act()
        assert isinstance(later.value.__cause__, TopicNotFound)
        assert later.value.published == range(1, 3)
    with pytest.raises(TopicNotFound):
        out.close()
    out.close()
    assert sent(state) == [[0, 1], [2, 3]]


def test_what_is_in_doubt_is_said(publishing):
    state, publisher = publishing(accept, *[cut] * 500, timeout=0.3)
    out = publisher.buffered("orders", linger=LONG, batch=2)
    handles = [out.publish(number) for number in range(5)]
    with pytest.raises(
        OutcomeUnknown, match="2 are stored, the 2 of this batch may be, and the 1 "
    ):
        out.close()
    with pytest.raises(OutcomeUnknown) as raised:
        handles[3].result()
    numbers = {(seen.body["producer"], seen.body["sequence"]) for seen in state.seen[1:]}
    assert numbers == {(raised.value.producer, raised.value.sequence)}
    assert repr(handles[0]) == "<Handle: offset 1>"
    assert repr(handles[3]).startswith("<Handle: No valid answer came back")
    with pytest.raises(NotSent):
        handles[4].result()


def test_a_block_that_a_failure_breaks_off_ends_with_what_failed(publishing):
    _, publisher = publishing(accept, *[cut] * 500, timeout=0.3)
    with (
        pytest.raises(OutcomeUnknown, match="1 are stored, the 1 of this batch may be") as raised,
        publisher.buffered("orders", linger=0, batch=1, pending=1) as out,
    ):
        while True:
            out.publish(1)
    assert raised.value.published == range(1, 2)
    assert raised.value.__suppress_context__


def test_the_error_of_another_buffer_passes_through_a_block(publishing):
    _, publisher = publishing(accept, problem(404, "topic_not_found"))
    other = publisher.buffered("gone", linger=0)
    with pytest.raises(NotSent), publisher.buffered("orders", linger=0) as out:
        out.publish(1).result(10)
        other.publish(1)
        until(lambda: other._pending[os.getpid()].failure)
        other.publish(2)
    with pytest.raises(TopicNotFound):
        other.close()


def test_an_outage_is_given_up_after_the_timeout(publishing):
    _, publisher = publishing(*[busy()] * 500, timeout=0.3)
    out = publisher.buffered("orders", linger=0, pending=1)
    out.publish(1)
    with pytest.raises(NotSent) as raised:  # it waits for room as long
        out.publish(2)
    assert isinstance(raised.value.__cause__, Unavailable)
    with pytest.raises(Unavailable):
        out.close()


def test_the_same_error_is_raised_anew(publishing):
    _, publisher = publishing(problem(404, "topic_not_found"))
    out = publisher.buffered("orders")
    handle = out.publish(1)
    lengths = []
    for _ in range(3):
        with pytest.raises(TopicNotFound) as raised:
            handle.result()
        lengths.append(len(raised.traceback))
    assert len(set(lengths)) == 1
    with suppress(TopicNotFound):
        out.close()


def test_what_nobody_expected_hangs_nobody(publishing, monkeypatch):
    _, publisher = publishing()

    def broken(*_: object) -> range:
        raise MemoryError

    monkeypatch.setattr(publisher._numbered, "store", broken)
    out = publisher.buffered("orders")
    with pytest.raises(OutcomeUnknown, match="MemoryError") as raised:
        out.publish(1).result(10)
    assert isinstance(raised.value.__cause__, MemoryError)
    with pytest.raises(OutcomeUnknown):
        out.close()


def test_an_error_that_is_kept_keeps_no_frames(publishing):
    _, publisher = publishing(*[cut] * 500, timeout=0.1)
    out = publisher.buffered("orders")
    handle = out.publish("x" * 1000)
    with pytest.raises(OutcomeUnknown):
        out.close()
    errors: list[BaseException | None] = [handle._batch.error]
    for error in errors:
        if error is not None:
            assert error.__traceback__ is None
            errors += [error.__cause__, error.__context__]
    assert len(errors) > 3  # there were some behind it


def test_a_thread_that_cannot_start_is_tried_again(publishing, monkeypatch):
    state, publisher = publishing(accept)

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with publisher.buffered("orders", linger=LONG) as out:
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(RuntimeError, match="can't start"):
                out.publish(1)
            out.flush()
        handle = out.publish(2)
    assert (sent(state), handle.result(0)) == ([[2]], 1)


@pytest.mark.parametrize("wait", [1e10, 1e300])
def test_waits_may_be_longer_than_a_lock_can_wait(publishing, wait):
    state, publisher = publishing(accept)
    with publisher.buffered("orders", linger=wait) as out:
        handle = out.publish(1)
        with running(lambda: handle.result(wait)) as came:
            until(lambda: handle._batch._settled._cond._waiters)
            out.flush()
    assert (sent(state), came) == ([[1]], [1])


def test_the_thread_does_not_die_in_silence(publishing, monkeypatch):
    def broken(_: Pending) -> None:
        raise OverflowError

    monkeypatch.setattr(Pending, "_next", broken)
    state, publisher = publishing()
    out = publisher.buffered("orders", linger=LONG)
    with pytest.raises(OutcomeUnknown, match="OverflowError"):
        out.publish(1).result(10)
    with pytest.raises(NotSent):
        out.publish(2)
    with pytest.raises(OutcomeUnknown, match="the 1 of this batch may be"):
        out.close()
    assert state.seen == []


# Signals


class Interrupted(list[bytes]):
    """Payloads; Ctrl-C comes once, right before or after one is appended."""

    def __init__(self, payloads: list[bytes], when: str) -> None:
        super().__init__(payloads)
        self.when = when

    def append(self, it: bytes) -> None:
        when, self.when = self.when, ""
        if when != "before":
            super().append(it)
        if when:
            raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_message_has_its_own_key_when_ctrl_c_breaks_a_call_off(publishing, when):
    state, publisher = publishing(accept)
    with publisher.buffered("orders", linger=LONG) as out:
        batch = out.publish(0)._batch
        batch.payloads = Interrupted(batch.payloads, when)
        with pytest.raises(KeyboardInterrupt):
            out.publish(1, "one")
        out.publish(2)
        out.publish(3, "three")
    (body,) = (seen.body for seen in state.seen)
    keys = dict(zip(body["payloads"], body["keys"], strict=True))
    assert keys == {0: None, 2: None, 3: "three"} | ({1: "one"} if when == "after" else {})


def test_a_batch_that_ctrl_c_left_full_takes_no_more(publishing):
    state, publisher = publishing(accept, accept)
    with publisher.buffered("orders", linger=LONG, batch=2) as out:
        batch = out.publish(1)._batch
        batch.payloads = Interrupted(batch.payloads, "after")
        with pytest.raises(KeyboardInterrupt):
            out.publish(2)
        out.publish(3)
    assert sent(state) == [[1, 2], [3]]


def test_ctrl_c_while_the_thread_starts_leaves_one_that_sends(publishing, monkeypatch):
    state, publisher = publishing(accept, accept)
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    with publisher.buffered("orders", linger=LONG, batch=1) as out:
        with monkeypatch.context() as signalled:
            signalled.setattr(threading.Thread, "start", interrupted)
            with pytest.raises(KeyboardInterrupt):
                out.publish(1)
        until(lambda: inside(out)._sender)
        first, second = out.publish(2), out.publish(3)
        until(lambda: len(threads()) == 1)
    assert (sent(state), first.result(0), second.result(0)) == ([[2], [3]], 1, 2)


# The end


def test_a_block_that_is_left_by_an_exception_loses_nothing(publishing):
    state, publisher = publishing(accept)
    with (
        pytest.raises(ZeroDivisionError) as raised,
        publisher.buffered("orders", linger=LONG) as out,
    ):
        handle = out.publish(1)
        raise ZeroDivisionError
    assert (sent(state), handle.result(0)) == ([[1]], 1)
    assert not hasattr(raised.value, "__notes__")


def test_an_exception_passes_through_with_a_note_of_what_is_not_stored(publishing):
    _, publisher = publishing(problem(404, "topic_not_found"))
    with (
        pytest.raises(ZeroDivisionError) as raised,
        publisher.buffered("orders", linger=LONG) as out,
    ):
        out.publish(1)
        raise ZeroDivisionError
    (note,) = raised.value.__notes__
    assert note.startswith("Buffered('orders'): There is no topic of this name")
    assert "0 are stored, the 1 of this batch are not, and the 0 after them were not sent" in note


def test_the_end_of_the_block_raises_what_failed(publishing):
    _, publisher = publishing(problem(404, "topic_not_found"))
    with pytest.raises(TopicNotFound), publisher.buffered("orders", linger=LONG) as out:
        out.publish(1)


def test_closing_again_does_nothing_and_a_closed_one_takes_no_message(publishing):
    state, publisher = publishing(accept)
    out = publisher.buffered("orders", linger=LONG)
    out.publish(1)
    out.close()
    out.close()
    out.flush()
    with pytest.raises(InvalidRequest, match=r"Buffered\('orders'\) is closed"):
        out.publish(2)
    assert sent(state) == [[1]]


def test_who_waits_for_room_is_told_that_it_was_closed(publishing):
    gate = Gate()
    state, publisher = publishing(gate, timeout=20.0)
    out = publisher.buffered("orders", linger=0, pending=1)
    out.publish(1)
    with running(lambda: out.publish(2)) as came:
        until(lambda: state.seen and inside(out)._room._waiters)
        with running(out.close):
            until(lambda: came)
            gate.open.set()
    assert isinstance(came[0], InvalidRequest)
    assert sent(state) == [[1]]


def test_buffers_that_are_closed_are_forgotten(publishing):
    _, publisher = publishing(accept)
    with publisher.buffered("orders") as out:
        out.publish(1)
    kept = batched.Batched
    del out
    gc.collect()
    assert [it for it in gc.get_objects() if isinstance(it, kept | Buffered)] == []


def program(state_url: str, body: str) -> subprocess.Popen[str]:
    start = (
        "import os, sys\nfrom qlib import QPublisher\npub = QPublisher(sys.argv[1], timeout=15)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + body, state_url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("end", ["", "sys.exit()", "raise ValueError", "del out"])
def test_what_nobody_closed_is_sent_when_the_interpreter_ends(end):
    unclosed = (
        f"out = pub.buffered('orders', linger=3600)\nfor n in range(3): out.publish(n)\n{end}"
    )
    with hostile(accept) as state:
        _, said = program(state.url, unclosed).communicate(timeout=60)
        assert sent(state) == [[0, 1, 2]]
    assert ("ValueError" in said) == (end == "raise ValueError")


def test_what_cannot_be_sent_when_the_interpreter_ends_is_told():
    unclosed = "out = pub.buffered('orders', linger=3600)\nfor n in range(3): out.publish(n)"
    with hostile(problem(404, "topic_not_found")) as state:
        _, said = program(state.url, unclosed).communicate(timeout=60)
    assert said.startswith("Buffered('orders') was not closed, and not all of it is stored: There")
    assert "0 are stored, the 3 of this batch are not" in said


def test_each_has_its_turn_when_the_interpreter_ends(publishing, monkeypatch, caplog):
    class Broken:
        def close(self) -> None:
            raise RuntimeError("broken")

    class Open(list[object]):
        discard = list.remove

    state, publisher = publishing(accept)
    out = publisher.buffered("orders", linger=LONG)
    out.publish(1)
    monkeypatch.setattr(process, "_open", Open([Broken(), out, Broken()]))
    process._exiting()
    assert sent(state) == [[1]]
    assert [record.message.endswith("stored: broken") for record in caplog.records] == [True] * 2
    monkeypatch.undo()
    process.forget(out)


CHILD = """
from multiprocessing import get_context
heir = pub.buffered('orders', linger=3600)
def work():
    own = pub.buffered('orders', linger=3600)
    {}.publish(1)
child = get_context('fork').Process(target=work)
child.start()
child.join()
"""


@pytest.mark.parametrize("out", ["own", "heir"])
def test_what_nobody_closed_is_sent_when_a_process_of_multiprocessing_ends(out):
    with hostile(accept) as state:
        _, said = program(state.url, CHILD.format(out)).communicate(timeout=60)
        assert (sent(state), said) == ([[1]], "")


BLOCKED = """
with pub.buffered("orders", linger=0, pending=1) as out:
    out.publish(1)
    {}
"""


@pytest.mark.parametrize(
    "blocked", ["out.publish(2)", "out.flush()", "out.publish(2).result()", ""]
)
def test_ctrl_c_ends_every_wait(blocked):
    with hostile(hang) as state:
        running = program(state.url, BLOCKED.format(blocked or "pass"))
        try:
            until(lambda: state.seen)
            while running.poll() is None:  # one in the block, one in the flush at its end
                running.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    running.wait(0.2)
            _, said = running.communicate(timeout=20)
        finally:
            running.kill()
            running.wait()
        assert state.finished == []
    assert said.splitlines()[-2:] == [
        "KeyboardInterrupt",
        "Buffered('orders'): messages without an answer: 1",
    ]


# Forks


def test_a_childs_buffer_is_empty_and_the_parents_stays_the_parents(publishing):
    gate = Gate()
    state, publisher = publishing(gate, accept, accept, timeout=20.0)
    with publisher.buffered("orders", linger=LONG, batch=2) as out:
        handles = [out.publish(number) for number in range(3)]
        until(lambda: state.seen)  # a batch under way, and one that lingers
        assert in_child(lambda: (out.flush(), out.close(), len(threads()))) == "(None, None, 0)"
        told = in_child(lambda: [type(failure(handle)).__name__ for handle in handles])
        assert told == str(["OutcomeUnknown"] * 3)
        gate.open.set()
    assert [handle.result(0) for handle in handles] == [1, 2, 3]
    assert sent(state) == [[0, 1], [2]]


def failure(handle: Handle) -> BaseException | None:
    assert handle.done()
    try:
        handle.result()
    except QueueError as error:
        return error
    return None


def test_a_child_publishes_what_is_its_own(publishing):
    state, publisher = publishing(accept, accept)
    with publisher.buffered("orders", linger=LONG) as out:
        mine = out.publish("parent's")

        def publish() -> int:
            with out:
                its = out.publish("child's")
            return its.result(0)

        assert in_child(publish) == "1"
    assert mine.result(0) == 2
    assert sent(state) == [["child's"], ["parent's"]]
    assert len({seen.body["producer"] for seen in state.seen}) == 2


FORKED_IN_C = """
import ctypes
out = pub.buffered("orders", linger=3600)
handle = out.publish("parent's")
pub.publish("orders", 0)
child = ctypes.PyDLL(None).fork()
if not child:
    {}
    os._exit(0)
os.waitpid(child, 0)
out.close()
"""
ACTS = {
    "out.publish(1), out.flush()": [1],
    "out.publish(1), out.close()": [1],
    "out.flush(), out.close()": None,
    "out.close()": None,
    "pub.publish('orders', 1)": [1],
}


def a_fork_in_c_is_noticed(act: str) -> None:
    with hostile(accept, accept, accept) as state:
        running = program(state.url, FORKED_IN_C.format(act))
        try:
            _, said = running.communicate(timeout=20)
        finally:
            running.kill()
            running.wait()
        childs = [ACTS[act]] if ACTS[act] else []
        assert (sent(state), said) == ([[0], *childs, ["parent's"]], "")
        names = [seen.body["producer"] for seen in state.seen]
    assert names[0] == names[-1]
    assert names.count(names[0]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("act", ACTS)
def test_a_fork_that_calls_no_hook_is_noticed(act):
    a_fork_in_c_is_noticed(act)


def a_child_waits_for_no_lock(publishing) -> None:
    state, publisher = publishing(accept, accept)
    with publisher.buffered("orders", linger=LONG) as out:
        handle = out.publish(1)
        producer = publisher._numbered._producer[os.getpid()]
        with inside(out)._lock, handle._batch._settled._cond, producer._lock:  # as others may
            assert in_child(lambda: (failure(handle), out.publish(2), out.flush())).endswith(
                "None)"
            )
    assert sent(state) == [[2], [1]]


def test_a_child_waits_for_no_lock_that_another_thread_held(publishing):
    a_child_waits_for_no_lock(publishing)


@pytest.mark.parametrize("kind", [Pending, numbered._Producer])
def test_control_a_child_that_goes_on_with_the_locks_is_caught(publishing, monkeypatch, kind):
    from tests import forked

    monkeypatch.setattr(forked, "PATIENCE", 0.5)
    monkeypatch.setattr(kind, "anew", lambda it: it)
    with pytest.raises(AssertionError):
        a_child_waits_for_no_lock(publishing)


def test_a_fork_is_safe_while_others_publish(server, topic):
    with QPublisher(server.url) as publisher:
        stop = threading.Event()
        with publisher.buffered(topic, batch=10) as out:

            def publish() -> int:
                count = 0
                while not stop.is_set():
                    out.publish(["parent", count := count + 1])
                return count

            with running(publish) as came:
                for number in range(20):
                    told = in_child(lambda n=number: (out.publish(["child", n]), out.flush())[1])
                    assert told == "None"
                stop.set()
        stored = [
            m.payload
            for first in range(1, publisher.topic(topic).head + 1, 1000)
            for m in publisher.browse(topic, first, 1000)
        ]
    assert [n for who, n in stored if who == "child"] == list(range(20))
    assert [n for who, n in stored if who == "parent"] == list(range(1, int(str(came[0])) + 1))
