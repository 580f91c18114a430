"""The one door: what each failure means, what is sent again, and that every wait ends."""

import json
import socket
import threading
from collections.abc import Callable

import pytest
from requests.adapters import HTTPAdapter

from qlib import (
    InvalidRequest,
    MessageTooLarge,
    OutcomeUnknown,
    QueueError,
    TopicNotFound,
    Unavailable,
    connection,
    transport,
)
from qlib.transport import Transport, to_json
from tests.qlib.hostile import (
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
    trickle,
    unsure,
)

GOOD = answer({"value": 7})
WHOLE = http(200, b'{"value":7}')
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


def send(url: str, method: str = "POST", timeout: float = 5.0, **options: object) -> int:
    """Ask for the value; the connections are closed afterwards."""
    door = Transport(url, None, timeout)
    try:
        return door.request(method, ("value",), lambda it: it["value"], **options)
    finally:
        door.close()


def refused_url() -> str:
    """Return the address of a port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let pauses pass at once on the door's clock; the list holds them."""
    pauses: list[float] = []
    real = transport.time.monotonic

    class Clock:
        monotonic = staticmethod(lambda: real() + sum(pauses))
        sleep = staticmethod(pauses.append)

    monkeypatch.setattr(transport, "time", Clock)
    return pauses


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


def test_nobody_listening_is_unavailable_until_somebody_does(clock):
    with pytest.raises(Unavailable):
        send(refused_url(), timeout=1.0)
    assert len(clock) >= 2
    assert sum(clock) < 1.0


def test_an_unknown_name_is_unavailable(monkeypatch):
    def no_such_name(*args: object, **kwargs: object) -> None:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    with pytest.raises(Unavailable):
        send("http://queue.invalid", timeout=0.01)


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


def test_pauses_grow_with_jitter_to_a_limit(monkeypatch):
    monkeypatch.setattr(transport.random, "uniform", lambda low, high: (low, high))
    pauses = transport._pauses()
    spans = [next(pauses) for _ in range(9)]
    assert spans == [(0.0, high) for high in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0)]


def test_retry_after_is_honoured(clock):
    with hostile(busy(after="3"), busy(after="soon"), busy(after="-1"), GOOD) as server:
        assert send(server.url, timeout=30.0) == 7
    assert clock[0] == 3.0
    assert max(clock[1:]) < 0.5


def test_retry_after_beyond_the_timeout_gives_up_at_once(clock):
    with hostile(busy(after="999999999"), GOOD) as server:
        with pytest.raises(Unavailable):
            send(server.url)
        assert (len(server.seen), clock) == (1, [])


def test_the_timeout_bounds_all_attempts_together(clock):
    with hostile(*[busy()] * 500) as server:
        with pytest.raises(Unavailable):
            send(server.url, timeout=20.0)
        assert len(server.seen) == len(clock) + 1 >= 10
    assert 15.0 < sum(clock) < 20.0


def test_a_silent_server_is_left():
    with hostile(hang) as server:
        with pytest.raises(OutcomeUnknown):
            send(server.url, timeout=0.3)
        assert server.finished == []


def answer_trickles(content: bytes) -> None:
    """Check that an answer that would take 2 s is not waited for by one with 0.2 s."""
    with hostile(trickle(content, 2.0 / len(content))) as server:
        with pytest.raises(OutcomeUnknown):
            send(server.url, timeout=0.2)
        assert server.finished == []


SLOW_HEAD = WHOLE.replace(b"HTTP/1.1 200 Whatever", b"HTTP/1.1 200 " + b"x" * 60)
SLOW_BODY = http(200, b'{"value":7' + b" " * 60 + b"}")


@pytest.mark.parametrize("content", [SLOW_HEAD, SLOW_BODY])
def test_a_trickling_answer_is_left(content):
    answer_trickles(content)


def test_control_plain_requests_would_wait_for_a_trickle(monkeypatch):
    monkeypatch.setattr(connection, "BoundedAdapter", HTTPAdapter)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        answer_trickles(SLOW_BODY)


def test_a_connection_is_kept_and_its_time_limit_is_new_each_time():
    with hostile(GOOD, GOOD, GOOD) as server:
        door = Transport(server.url, None, 5.0)
        for _ in range(3):
            assert door.request("GET", ("value",), lambda it: it["value"]) == 7
        door.close()
        assert (len(server.seen), server.accepted) == (3, 1)


def test_an_endless_answer_is_cut_off(monkeypatch):
    monkeypatch.setattr(transport, "_LARGEST_ANSWER", 2**20)
    huge = raw(http(200, b'{"value":7}' + b" " * 2**23), more=True)
    with hostile(huge, GOOD) as server, pytest.raises(OutcomeUnknown, match="longer"):
        send(server.url)
    monkeypatch.undo()
    with hostile(huge) as server:
        assert send(server.url) == 7


def test_too_large_a_request_is_not_sent(monkeypatch):
    monkeypatch.setattr(transport, "_LARGEST_REQUEST", 10)
    with hostile(GOOD) as server:
        with pytest.raises(MessageTooLarge):
            send(server.url, body=b"x" * 11)
        assert server.seen == []
        assert send(server.url, body=b"x" * 10) == 7


def test_headers_and_no_cookies(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    cookie = answer({"value": 7}, Set_Cookie="a=b")
    with hostile(cookie, GOOD) as server:
        door = Transport(server.url, "secret", 5.0)
        for _ in range(2):
            door.request("POST", ("value",), lambda it: it["value"], body=b"{}")
        door.close()
        for seen in server.seen:
            assert seen.headers["authorization"] == "Bearer secret"
            assert seen.headers["content-type"] == "application/json"
            assert seen.headers["accept-encoding"] == "identity"
            assert "cookie" not in seen.headers


def test_settings_come_from_arguments_then_the_environment(monkeypatch):
    monkeypatch.delenv("QUEUE_URL", raising=False)
    assert Transport(None, None, 1.0).url == "http://127.0.0.1:8008"
    with hostile(GOOD, GOOD) as server:
        monkeypatch.setenv("QUEUE_URL", server.url + "/")
        monkeypatch.setenv("QUEUE_TOKEN", "from-env")
        assert send(None) == 7
        assert server.seen[0].headers["authorization"] == "Bearer from-env"
        monkeypatch.setenv("QUEUE_URL", "http://127.0.0.1:1")
        assert send(server.url) == 7


def test_certificates_are_verified(monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    assert connection.Session(None).verify is True
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/own.pem")
    assert connection.Session(None).verify == "/etc/own.pem"


@pytest.mark.parametrize(
    "settings",
    [
        ("ftp://host", None, 1.0),
        ("host:8008", None, 1.0),
        ("http://", None, 1.0),
        ("http://[", None, 1.0),
        ("http://host:99999", None, 1.0),
        ("http://user:word@host", None, 1.0),
        ("http://host/?a=b", None, 1.0),
        ("http://host", "two\nlines", 1.0),
        ("http://host", "naïve", 1.0),
        ("http://host", None, 0.0),
        ("http://host", None, float("nan")),
    ],
)
def test_unusable_settings_are_refused(settings):
    with pytest.raises(InvalidRequest) as raised:
        Transport(*settings)
    assert "word" not in str(raised.value)
    assert "lines" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("a/b", "a%2Fb"),
        ("../x", "..%2Fx"),
        ("%2e%2e", "%252e%252e"),
        ("a?b#c", "a%3Fb%23c"),
        ("é", "%C3%A9"),
        ("\r\nX: y", "%0D%0AX%3A%20y"),
        ("...", "..."),
    ],
)
def test_names_are_encoded(name, sent):
    with hostile(GOOD) as server:
        door = Transport(server.url, None, 5.0)
        door.request("GET", ("topics", name), lambda it: it["value"])
        door.close()
        assert server.seen[0].target == f"/topics/{sent}"


@pytest.mark.parametrize("name", ["", ".", "..", "\ud800", None, 7])
def test_names_that_no_url_can_carry_are_refused(name):
    with hostile(GOOD) as server:
        door = Transport(server.url, None, 5.0)
        with pytest.raises(InvalidRequest):
            door.request("GET", ("topics", name), lambda it: it["value"])
        assert server.seen == []


def test_json_is_compact_and_keeps_the_text():
    assert to_json({"a": [1, None, "é\u2028"]}, "it") == '{"a":[1,null,"é\u2028"]}'.encode()
    circle: list[object] = []
    circle.append(circle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (
        float("nan"),
        float("inf"),
        "\ud800",
        {1, 2},
        object(),
        b"",
        circle,
        deep,
        10**5000,
    ):
        with pytest.raises(InvalidRequest, match=r"payloads\[3\] is not JSON"):
            to_json(value, "payloads[3]")


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
