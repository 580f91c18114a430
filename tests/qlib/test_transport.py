"""The one door: what each failure means, what is sent again, and that every wait ends."""

import json
import os
import threading
from collections.abc import Callable
from contextlib import closing

import pytest
import requests
from requests.adapters import HTTPAdapter

from qlib import (
    DefiniteError,
    MessageTooLarge,
    OutcomeUnknown,
    QueueError,
    TopicNotFound,
    Unavailable,
    UnreadableAnswer,
    attempts,
    errors,
    transport,
)
from qlib.connection import FAILURES, Session
from qlib.transport import Transport
from tests.forked import fork_in_c, in_child
from tests.qlib.door import GOOD, WHOLE, send, the_value
from tests.qlib.hostile import (
    Hostile,
    answer,
    busy,
    cut,
    cut_unread,
    hang,
    hostile,
    html,
    http,
    problem,
    raw,
    unsure,
)

# Answers after which nobody knows what happened; each is one request.
UNCLEAR = {
    "not JSON": raw(http(200, b'{"value":'), more=True),
    "not an object": answer([7]),
    "a member missing": answer({}),
    "no body": raw(http(200, b""), more=True),
    "HTML": html(),
    "HTML 502": html(502),
    "not UTF-8": raw(http(200, b'{"value":"\xff"}'), more=True),
    "deep": raw(http(200, b"[" * 100_000), more=True),
    "truncated": raw(WHOLE[:-3]),
    "truncated behind the JSON": raw(http(200, b'{"value":7}  ')[:-1]),
    "truncated chunk": raw(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n{"va'),
    "truncated head": raw(WHOLE[:20]),
    "not HTTP": raw(b"220 smtp ready\r\n"),
    "two lengths": raw(WHOLE.replace(b"\r\n\r\n", b"\r\nContent-Length: 3, 4\r\n\r\n")),
    "gzip bomb": raw(http(200, b"\x1f\x8b", Content_Encoding="gzip"), more=True),
    "cut before reading": cut_unread,
    "cut after reading": cut,
    "redirect": raw(http(302, b"", Location="http://127.0.0.1:1/"), more=True),
    "bad redirect": raw(http(302, b"", Location="http://["), more=True),
    "500": problem(500, "internal"),
    "503 unknown": unsure(),
    "503 of a proxy": html(503),
}


@pytest.mark.parametrize("unclear", UNCLEAR)
def test_unclear_answers_are_unknown_and_a_write_is_not_repeated(unclear):
    with hostile(UNCLEAR[unclear], GOOD) as server:
        with pytest.raises(OutcomeUnknown):
            send(server.url, body=b"{}")
        assert len(server.seen) == 1


@pytest.mark.parametrize("unclear", UNCLEAR)
@pytest.mark.parametrize("options", [{"method": "GET"}, {"body": b"{}", "repeatable": True}])
def test_unclear_answers_are_asked_for_again_where_it_is_safe(unclear, options):
    with hostile(UNCLEAR[unclear], UNCLEAR[unclear], GOOD) as server:
        assert send(server.url, **options) == 7
        assert len(server.seen) == 3


def test_surely_not_done_is_sent_again_always():
    with hostile(busy(), problem(507, "disk_full"), busy(), GOOD) as server:
        assert send(server.url, body=b'{"a":1}') == 7
        assert [seen.raw for seen in server.seen] == [b'{"a":1}'] * 4


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_refusal_is_final(method):
    with hostile(problem(404, "topic_not_found", detail="gone"), GOOD) as server:
        with pytest.raises(TopicNotFound, match="gone"):
            send(server.url, method, repeatable=True)
        assert len(server.seen) == 1


def doubtful_write(method: str, last: Callable[..., bool]) -> type[QueueError]:
    """Return what is raised when an unclear attempt is followed by `last`, for ever."""
    with hostile(cut, *[last] * 50) as server:
        with pytest.raises(QueueError) as raised:
            send(server.url, method, timeout=0.3, repeatable=True)
        assert len(server.seen) >= 2
        return type(raised.value)


LASTS = {"unavailable": busy(), "refused": problem(401, "unauthorized"), "unclear": unsure()}


@pytest.mark.parametrize("last", LASTS)
def test_once_in_doubt_a_write_stays_in_doubt(last):
    assert doubtful_write("POST", LASTS[last]) is OutcomeUnknown


def test_a_read_is_never_in_doubt():
    assert doubtful_write("GET", problem(404, "topic_not_found")) is TopicNotFound
    assert doubtful_write("GET", busy()) is Unavailable


# What came, but from no queue; after everything else of UNCLEAR a read may be asked for again.
BROKEN = {
    *("not JSON", "not an object", "a member missing", "no body", "HTML", "not UTF-8", "deep"),
    *("gzip bomb", "redirect", "bad redirect"),
}


@pytest.mark.parametrize("unclear", UNCLEAR)
def test_a_failed_read_surely_did_nothing(unclear, clock):
    with hostile(*[UNCLEAR[unclear]] * 50) as server:
        with pytest.raises(DefiniteError) as raised:
            send(server.url, "GET")
        assert type(raised.value) is (UnreadableAnswer if unclear in BROKEN else Unavailable)
        assert len(server.seen) >= 2


def test_a_read_that_is_not_answered_surely_did_nothing():
    with hostile(hang) as server, pytest.raises(Unavailable):
        send(server.url, "GET", timeout=0.2)


def test_a_broken_answer_is_told_apart_in_a_write_too():
    for unclear, script in UNCLEAR.items():
        with hostile(script) as server:
            with pytest.raises(OutcomeUnknown) as raised:
                send(server.url)
            assert errors.is_broken(raised.value) is (unclear in BROKEN), unclear


def polled(server: Hostile) -> list[float]:
    """Return what each request was ready to wait for."""
    return [float(seen.query["wait"]) for seen in server.seen]


def repeats_for_what_is_left() -> None:
    """Check what a long poll of 20 s with 30 s of patience asks for when it is repeated."""
    with hostile(cut, busy("14"), busy("20"), busy("11"), GOOD) as server:
        assert send(server.url, "GET", timeout=30.0, wait=20.0) == 7
        first, second, third, fourth, last = polled(server)
        assert first == second == 20.0  # there is time for that
        assert third == 20.0  # 36 s are left, 10 of them for the answer
        assert 5.0 < fourth <= 6.0  # of 16 s
        assert last == 0.0  # of 5 s


def test_a_repeated_long_poll_asks_for_no_more_than_is_left(clock):
    repeats_for_what_is_left()


def test_control_a_long_poll_that_asks_for_all_again_is_caught(clock, monkeypatch):
    monkeypatch.setattr(attempts, "min", lambda *values: values[0], raising=False)
    with pytest.raises(AssertionError):
        repeats_for_what_is_left()


def test_doubt_is_told_with_the_last_answer():
    with hostile(cut, problem(404, "topic_not_found", detail="gone")) as server:
        with pytest.raises(OutcomeUnknown, match="gone") as raised:
            send(server.url, repeatable=True)
        assert isinstance(raised.value.__cause__, TopicNotFound)


def test_control_a_door_that_forgets_the_doubt_is_caught(monkeypatch):
    # The doubt is only told when the last error is a DefiniteError: plant that none is.
    monkeypatch.setattr(attempts, "DefiniteError", OutcomeUnknown)
    with pytest.raises(AssertionError):
        test_once_in_doubt_a_write_stays_in_doubt("unavailable")


def test_control_a_door_that_repeats_everything_is_caught(monkeypatch):
    monkeypatch.setattr(attempts, "Unavailable", QueueError)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_unclear_answers_are_unknown_and_a_write_is_not_repeated("500")


def test_a_connection_is_kept_and_its_time_limit_is_new_each_time():
    with hostile(GOOD, GOOD, GOOD) as server:
        door = Transport(server.url, None, 5.0)
        for _ in range(3):
            assert door.request("GET", ("value",), the_value) == 7
        door.close()
        assert (len(server.seen), server.accepted) == (3, 1)


def test_too_large_a_request_is_not_sent(monkeypatch):
    monkeypatch.setattr(transport, "_LARGEST_REQUEST", 10)
    with hostile(GOOD) as server:
        with pytest.raises(MessageTooLarge):
            send(server.url, body=b"x" * 11)
        assert server.seen == []
        assert send(server.url, body=b"x" * 10) == 7


def test_threads_share_a_door():
    with hostile(*[GOOD] * 80) as server:
        door = Transport(server.url, None, 10.0)
        answers: list[int] = []

        def ask() -> None:
            for _ in range(10):
                answers.append(door.request("GET", ("value",), the_value))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        door.close()
        assert answers == [7] * 80
        assert server.accepted <= 8


def test_json_document_is_what_the_problem_says():
    body = json.dumps({"code": "topic_not_found", "detail": "x", "request_id": "r"}).encode()
    with hostile(raw(http(404, body, "application/problem+json"), more=True)) as server:
        with pytest.raises(TopicNotFound) as raised:
            send(server.url)
        assert (raised.value.status, raised.value.request_id) == (404, "r")


def test_nothing_below_sends_a_request_again() -> None:
    with hostile(cut, GOOD) as server, closing(Session(server.url)) as session:
        with pytest.raises(FAILURES):
            session.exchange("GET", "/value", None, 5.0)
        assert len(server.seen) == 1
    # the control: what asks for three, and only for connecting, so it says, repeats what was read
    with hostile(cut, GOOD) as server, requests.Session() as theirs:
        theirs.mount("http://", HTTPAdapter(max_retries=3))
        assert theirs.get(server.url).json() == {"value": 7}
        assert len(server.seen) == 2


@pytest.mark.parametrize("fork", [os.fork, fork_in_c])
def test_a_forked_child_has_a_session_and_a_name_of_its_own_before_it_asks(fork):
    with hostile() as server:
        door = Transport(server.url, None, 5.0, named=True)
        ours = door._session, door.client
        told = in_child(lambda: (door._session is ours[0], door.client == ours[1]), fork)
        assert told == "(False, False)"
