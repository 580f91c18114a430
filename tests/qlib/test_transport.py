"""The one door: what each failure means, what is sent again, and that every wait ends."""

import json
import threading
from collections.abc import Callable

import pytest

from qlib import (
    MessageTooLarge,
    OutcomeUnknown,
    QueueError,
    TopicNotFound,
    Unavailable,
    transport,
)
from qlib.transport import Transport
from tests.qlib.door import GOOD, WHOLE, send
from tests.qlib.hostile import (
    answer,
    busy,
    cut,
    cut_unread,
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


def test_doubt_is_told_with_the_last_answer():
    with hostile(cut, problem(404, "topic_not_found", detail="gone")) as server:
        with pytest.raises(OutcomeUnknown, match="gone") as raised:
            send(server.url, repeatable=True)
        assert isinstance(raised.value.__cause__, TopicNotFound)


def test_control_a_door_that_forgets_the_doubt_is_caught(monkeypatch):
    # The doubt is only told when the last error is a DefiniteError: plant that none is.
    monkeypatch.setattr(transport, "DefiniteError", OutcomeUnknown)
    with pytest.raises(AssertionError):
        test_once_in_doubt_a_write_stays_in_doubt("unavailable")


def test_control_a_door_that_repeats_everything_is_caught(monkeypatch):
    monkeypatch.setattr(transport, "Unavailable", QueueError)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_unclear_answers_are_unknown_and_a_write_is_not_repeated("500")


def test_a_connection_is_kept_and_its_time_limit_is_new_each_time():
    with hostile(GOOD, GOOD, GOOD) as server:
        door = Transport(server.url, None, 5.0)
        for _ in range(3):
            assert door.request("GET", ("value",), lambda it: it["value"]) == 7
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
                answers.append(door.request("GET", ("value",), lambda it: it["value"]))

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
