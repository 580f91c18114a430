"""What goes over one connection: requests in whatever pieces, answers in order, leaving, and the end."""

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import msgspec
import pytest

from tests.server.small import MIB, Small, answer, asked, ended, get, post, small
from tests.waiting import until

PIPELINE = get("/ping") + post(b"hello world!") + post(b"e" * 300) + get("/ping?2") + post(b"abc")
ANSWERS = [b"pong", b"12", b"300", b"pong", b"3"]


@pytest.fixture
def server() -> Iterator[Small]:
    """A small server whose bodies are all given back in the end, and which has gone on to its end."""
    with small() as one:
        yield one
        until(lambda: not one.server.bodies.held)


def problem(got: tuple[int, dict[str, str], bytes]) -> tuple[int, Any]:
    """Expect a problem; return its status and code."""
    status, headers, body = got
    assert headers["content-type"] == "application/problem+json"
    told = msgspec.json.decode(body)
    assert told["status"] == status and set(told) >= {"title", "detail", "request_id"}
    return status, told["code"]


def test_requests_may_come_in_any_pieces(server: Small) -> None:
    chance = random.Random(7)
    for _ in range(100):
        cuts = sorted(chance.sample(range(1, len(PIPELINE)), chance.randint(0, 12)))
        with closing(server.connect()) as one:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for begin, end in zip([0, *cuts], [*cuts, len(PIPELINE)], strict=True):
                one.sendall(PIPELINE[begin:end])
            assert [answer(one)[2] for _ in ANSWERS] == ANSWERS
    with closing(server.connect()) as one:
        for byte in PIPELINE:
            one.sendall(bytes([byte]))
        assert [answer(one)[2] for _ in ANSWERS] == ANSWERS


def test_an_answer_waits_for_the_one_before_it(server: Small) -> None:
    with closing(server.connect(get("/wait") + post(b"abc") + get("/ping"))) as one:
        until(lambda: server.events == ["waits"])
        assert asked(server, get("/ping"))[0] == 200
        assert server.events == ["waits"]  # what is behind it has not begun
        server.open_gate()
        assert [answer(one)[2] for _ in range(3)] == [b"woken", b"3", b"pong"]


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (get("/seen/%41%c3%bf%2f?a=%20&b"), "GET /seen/A\xc3\xbf/ a=%20&b {'host': 'localhost'}"),
        (get("/seen/a?"), "GET /seen/a  {'host': 'localhost'}"),
        (get("http://other/seen/b?c=d"), "GET /seen/b c=d {'host': 'localhost'}"),
        (get("/seen", "X: 1", "x: 2", "Y:"), "'x': '1,2', 'y': ''}"),
        (get("/seen", "X: \N{LATIN SMALL LETTER E WITH ACUTE}"), "'x': '\xc3\xa9'}"),
        (b"\r\n\r\n" + get("/seen"), "GET /seen  "),
        (get("/seen", method="PROPFIND"), "PROPFIND /seen"),
    ],
)
def test_what_a_request_says(server: Small, data: bytes, seen: str) -> None:
    status, _, body = asked(server, data)
    assert status == 200 and seen in body.decode()


def test_an_answer_to_head_has_no_body(server: Small) -> None:
    with closing(server.connect(get("/ping", method="HEAD") + get("/ping"))) as one:
        assert answer(one, head=True)[1]["content-length"] == "4"
        assert answer(one)[2] == b"pong"


@pytest.mark.parametrize("data", [b"GET /ping HTTP/1.0\r\n\r\n", get("/ping", "Connection: close")])
def test_some_connections_end_with_their_answer(server: Small, data: bytes) -> None:
    with closing(server.connect(data)) as one:
        _, headers, body = answer(one)
        assert (headers["connection"], body) == ("close", b"pong")
        assert ended(one)


@pytest.mark.parametrize("other", ["h2c", "websocket"])
def test_who_would_rather_speak_another_protocol_may_speak_this_one(
    server: Small, other: str
) -> None:
    wish = ("Connection: Upgrade", f"Upgrade: {other}")
    with closing(server.connect(post(b"hello", *wish) + get("/ping", *wish) + get("/ping"))) as one:
        assert [answer(one)[2] for _ in range(3)] == [b"5", b"pong", b"pong"]
    with closing(server.connect(post(b"hello", *wish)[:-2])) as one:
        one.sendall(b"lo")  # the body comes later
        assert answer(one)[2] == b"5"
        for byte in post(b"hello", *wish):
            one.sendall(bytes([byte]))
        assert answer(one)[2] == b"5"


REFUSED = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another version": b"GET /ping HTTP/9.9\r\nHost: a\r\n\r\n",
    "a version of 1": b"GET /ping HTTP/1.2\r\nHost: a\r\n\r\n",
    "no version": b"GET /ping\r\n\r\n",
    "no host": b"GET /ping HTTP/1.1\r\n\r\n",
    "two hosts": get("/ping", "Host: evil.test"),
    "proxy": get("localhost:80", method="CONNECT"),
    "no path": get("ping"),
    "bytes in the path": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "folding": get("/ping", "X: a", " b"),
    "NUL": get("/ping", "X: a\0b"),
    "bare CR": get("/ping", "X: a\rb"),
    "bare LF": b"GET /ping HTTP/1.1\nHost: a\n\n",
    "no colon": get("/ping", "X"),
    "a space before the colon": get("/ping", "X : a"),
    "length and chunks": post(b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
    "chunks and length": get("/body", "Transfer-Encoding: chunked", "Content-Length: 5", method="POST"),
    "two lengths": post(b"hello", "Content-Length: 6"),
    "two lengths alike": post(b"hello", "Content-Length: 5"),
    "an unknown coding": get("/body", "Transfer-Encoding: xchunked", method="POST"),
    "no coding": get("/body", "Transfer-Encoding:", method="POST"),
    "two codings": get("/body", "Transfer-Encoding: gzip, chunked", method="POST"),
    **{
        f"length {text}": get("/body", f"Content-Length: {text}", method="POST") + b"hello"
        for text in ("-5", "+5", "5, 5", "0x5", "5 5", "9" * 30, "", "1_0", "5.0")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request_is_refused_and_ends_the_connection(server: Small, name: str) -> None:
    with closing(server.connect(REFUSED[name])) as one:
        got = answer(one)
        assert problem(got) == (400, "bad_request")
        assert got[1]["connection"] == "close"
        assert ended(one)
    assert server.events == ["refused - bad_request"]  # and nothing was carried out


@pytest.mark.parametrize("behind", [b"garbage\r\n\r\n", b"}", get("/ping", "Host: evil.test")])
@pytest.mark.parametrize("before", [b"", post(b"abc")])
def test_what_is_followed_by_garbage_at_once_is_not_carried_out(
    server: Small, behind: bytes, before: bytes
) -> None:
    """Its length may be a lie: half of what was meant would be stored."""
    with closing(server.connect(before + post(b"hello") + behind)) as one:
        assert problem(answer(one)) == (400, "bad_request")
        assert ended(one)
    assert server.events == ["refused - bad_request"]


def test_what_has_begun_before_garbage_comes_is_finished_and_the_rest_is_not(server: Small) -> None:
    with closing(server.connect(get("/wait"))) as one:
        until(lambda: server.events == ["waits"])
        one.sendall(post(b"hello") + b"garbage\r\n\r\n")
        one.sendall(post(b"hello"))
        server.open_gate()
        assert answer(one)[2] == b"woken"
        assert problem(answer(one)) == (400, "bad_request")
        assert ended(one)
    assert server.events == ["waits", "woken", "refused - bad_request"]


@pytest.mark.parametrize("length", [False, True])
def test_a_body_that_is_too_large_or_of_unknown_length(server: Small, length: bool) -> None:
    if length:
        data = post(b"x", length=16 * MIB + 1)
        expected = (413, "body_too_large")
    else:
        data = (
            get("/body", "Transfer-Encoding: chunked", method="POST") + b"5\r\nhello\r\n0\r\n\r\n"
        )
        expected = (411, "length_required")
    assert problem(asked(server, data)) == expected
    assert problem(asked(server, get("/body", method="POST"))) == (411, "length_required")
    assert asked(server, post(b"x" * 16 * MIB))[2] == b"%d" % (16 * MIB)


CHUNKED = get("/body", "Transfer-Encoding: chunked", method="POST")


def test_a_body_in_chunks_is_the_last_of_its_connection(server: Small) -> None:
    with closing(server.connect(post(b"abc") + CHUNKED + b"0\r\n\r\n" + get("/ping"))) as one:
        assert answer(one)[2] == b"3"  # in order
        got = answer(one)
        assert problem(got) == (411, "length_required")
        assert got[1]["connection"] == "close"
        assert ended(one)
    for rest in (b"no chunk", b"0\r\nX: " + b"x" * 16 * MIB):  # nobody looks at it
        assert problem(asked(server, CHUNKED + rest)) == (411, "length_required")


def test_headers_behind_a_body_are_not_those_of_the_request(server: Small) -> None:
    seen = get("/seen", "Transfer-Encoding: chunked", method="POST")
    late = b"0\r\nX-Late: 1\r\nTransfer-Encoding: x\r\n\r\n"
    told = b"{'host': 'localhost', 'transfer-encoding': 'chunked'}"
    assert asked(server, seen + late)[2].endswith(told)


def test_an_early_answer_is_heard_by_who_sends_all_of_the_body_first(server: Small) -> None:
    body = b"x" * 16 * MIB
    for _ in range(5):
        assert asked(server, post(body, path="/early"))[2] == b"early"
        assert asked(server, post(body, "Connection: close", path="/early"))[2] == b"early"
        assert asked(server, post(body * 3, path="/body"))[0] == 413
        # what is wrong with the bytes themselves is heard, too
        assert asked(server, b"garbage\r\n\r\n" + body)[0] == 400
    with closing(server.connect(post(b"x" * 50, path="/early", length=100))) as one:
        assert answer(one)[2] == b"early"
        one.sendall(b"x" * 50 + get("/ping"))  # the connection is still good
        assert answer(one)[2] == b"pong"


def test_a_body_is_waited_for_when_the_client_asks_first(server: Small) -> None:
    head = post(b"", "Expect: 100-continue", length=5)
    with closing(server.connect(head)) as one:
        assert one.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        one.sendall(b"hello" + get("/ping"))
        assert [answer(one)[2] for _ in range(2)] == [b"5", b"pong"]
    assert asked(server, head + b"hello")[2] == b"5"  # it did not wait
    early = post(b"", "Expect: 100-continue", path="/early", length=5)
    with closing(server.connect(early)) as one:
        _, headers, body = answer(one)
        assert (body, headers["connection"]) == (b"early", "close")  # will the body follow, or not?
        assert ended(one)


@pytest.mark.parametrize("path", ["/boom", "/bad_reply", "/nowhere"])
def test_a_failure_is_an_answer(server: Small, path: str) -> None:
    with closing(server.connect(get(path) + get("/ping"))) as one:
        assert problem(answer(one)) == (500, "internal")
        assert answer(one)[2] == b"pong"
    assert server.events == ["refused GET internal"]


def test_what_is_given_up_does_not_hang(server: Small) -> None:
    with closing(server.connect(get("/given_up") + get("/ping"))) as one:
        assert ended(one)


LEAVING = ["close", "reset", "half", "more behind", "later"]


@pytest.mark.parametrize("how", LEAVING)
def test_a_place_is_free_as_soon_as_its_client_has_left(server: Small, how: str) -> None:
    with ExitStack() as opened:
        leavers = [opened.enter_context(closing(server.connect())) for _ in range(5)]
        for one in leavers:
            if how == "later":
                one.sendall(get("/ping"))
                assert answer(one)[0] == 200
            one.sendall(get("/wait"))
        until(lambda: server.places == 0)
        assert asked(server, get("/wait"))[0] == 503  # the control
        for one in leavers:
            if how == "more behind":
                one.sendall(post(b"abc") + get("/ping"))
            leave(one, half=how == "half", reset=how == "reset")
        sixth = opened.enter_context(closing(server.connect()))
        until(lambda: server.places == 5, 1.0)
        sixth.sendall(get("/wait"))
        until(lambda: server.places == 4, 1.0)
        server.open_gate()
        assert answer(sixth)[2] == b"woken"
    assert server.events.count("woken") == 1


def leave(one: socket.socket, *, half: bool = False, reset: bool = False) -> None:
    """End a connection from the client's side."""
    if half:
        one.shutdown(socket.SHUT_WR)
        return
    if reset:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def test_a_write_whose_client_has_left_is_carried_out(server: Small) -> None:
    one = server.connect(post(b"abc", path="/wait"))
    until(lambda: server.places == 4)
    one.close()
    until(lambda: not server.server.connections)
    server.open_gate()
    until(lambda: server.events == ["waits", "woken"])


@pytest.mark.parametrize(
    ("data", "event"), [(post(b"x", length=2), "refused POST bad_request"), (post(b"xy"), "body 2")]
)
def test_a_write_whose_client_leaves_before_it_has_begun_comes_to_an_end(
    server: Small, data: bytes, event: str
) -> None:
    with closing(server.connect()):
        until(lambda: server.server.connections)
        (connection,) = server.server.connections

        def at_once() -> None:
            connection.data_received(data)
            connection.eof_received()
            connection.abort()

        server.loop.call(at_once)
        until(lambda: server.events)
        until(lambda: not server.server.bodies.held)
    assert server.events == [event]  # what is whole is carried out


@pytest.mark.parametrize("half", [True, False])
def test_a_cut_body_is_never_taken_for_a_whole_one(server: Small, half: bool) -> None:
    with ExitStack() as opened:
        for size in (0, 1, 99_999):
            one = opened.enter_context(closing(server.connect(post(b"x" * size, length=100_000))))
            until(lambda: server.server.bodies.held == size)  # noqa: B023
            leave(one, half=half)
            until(lambda: not server.server.connections)
            assert server.server.bodies.held == 0
    assert server.events == []


def test_at_the_end_what_is_in_flight_is_answered_and_nothing_new_begun() -> None:
    with small() as server, ExitStack() as opened:
        waiting, behind, half, idle, body = (
            opened.enter_context(closing(server.connect(data)))
            for data in (
                get("/wait"), get("/wait") + get("/ping"), get("/ping")[:-2], get("/ping"), post(b"x", length=2),
            )
        )  # fmt: skip
        assert answer(idle)[0] == 200
        until(lambda: server.places == 3 and server.server.bodies.held == 1)
        server.end()
        assert ended(idle) and ended(half)
        until(lambda: "stop" in server.events)
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        body.sendall(b"x")
        server.open_gate()
        for one, expected in ((body, b"2"), (waiting, b"woken"), (behind, b"woken")):
            _, headers, got = answer(one)
            assert (got, headers["connection"]) == (expected, "close")
            assert ended(one)
        server.done.result(10)


@pytest.mark.parametrize("path", ["body", "early", "big"])
def test_at_the_end_who_dawdles_is_not_waited_for_long(path: str) -> None:
    """Half a body, the rest of one that was answered early, and an answer that nobody reads."""
    sent = get(f"/big?{8 * MIB}") if path == "big" else post(b"x", path=f"/{path}", length=2)
    # the times of who dawdles without an end are longer than this test waits
    with small(grace=60.0, ending=0.05) as server, closing(server.connect(sent, receives=4096)):
        until(lambda: server.server.connections)
        until(lambda: path != "big" or "big" in server.events)
        until(lambda: path != "body" or server.server.bodies.held)
        server.end()
        server.done.result(15)


def test_who_comes_at_the_end_is_turned_away_at_once(server: Small) -> None:
    assert asked(server, get("/ping"))[0] == 200  # the control
    server.loop.call(setattr, server.server, "ending", True)
    with closing(server.connect(get("/ping"))) as one:  # taken from the kernel just before
        assert ended(one)


def test_what_takes_too_long_at_the_end_is_cut_off() -> None:
    with small(grace=0.1) as server, closing(server.connect(get("/wait"))) as one:
        until(lambda: server.places == 4)
        server.end()
        assert ended(one)
        server.done.result(10)
        until(lambda: server.places == 5)
