"""An answer off a socket: every form that HTTP/1.1 allows is read, and nothing else is."""

from contextlib import closing

import pytest

from qlib import OutcomeUnknown, UnreadableAnswer, received
from qlib.connection import Session
from qlib.transport import Transport
from tests.qlib.door import GOOD, WHOLE, send, the_value
from tests.qlib.hostile import Hostile, hostile, http, raw

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b'{"value":7}'

# Behind these the connection goes on.
KEPT = {
    "plain": WHOLE,
    "no reason": WHOLE.replace(b" Whatever", b""),
    "an empty reason": WHOLE.replace(b" Whatever", b" "),
    "bare newlines": WHOLE.replace(b"\r\n", b"\n"),
    "odd spaces": OK + b"content-LENGTH:\t 11 \r\n\r\n" + BODY,
    "twice the same header": OK + b"Vary: a\r\nVary: b\r\nContent-Length: 11\r\n\r\n" + BODY,
    "an empty header": OK + b"X:\r\nContent-Length: 11\r\n\r\n" + BODY,
    "chunks": CHUNKED + b'4\r\n{"va\r\n7\r\nlue":7}\r\n0\r\n\r\n',
    "chunks with all there is": CHUNKED + b"00b;a=b\r\n" + BODY + b"\r\n000\r\nSum: 1\r\n\r\n",
    "Chunked": CHUNKED.replace(b"chunked", b"Chunked") + b"B \r\n" + BODY + b"\r\n0\r\n\r\n",
    "go on first": b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,
    "hints first": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + WHOLE,
}
# And behind these it does not.
LEFT = {
    "close": http(200, BODY, Connection="close"),
    "Close, among others": http(200, BODY, Connection="x, Close"),
    "HTTP/1.0": WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
}
ENDS_IT = OK + b"Content-Type: application/json\r\n\r\n" + BODY


def twice(server: Hostile) -> list[int]:
    """Ask twice through one door."""
    door = Transport(server.url, None, 5.0)
    try:
        return [door.request("GET", ("value",), the_value) for _ in range(2)]
    finally:
        door.close()


@pytest.mark.parametrize("form", KEPT)
def test_every_form_is_read_and_the_connection_goes_on(form: str) -> None:
    with hostile(raw(KEPT[form], more=True), GOOD) as server:
        assert twice(server) == [7, 7]
        assert server.accepted == 1


@pytest.mark.parametrize("form", LEFT)
def test_a_connection_that_ends_is_left(form: str) -> None:
    with hostile(raw(LEFT[form], more=True), GOOD) as server:
        assert twice(server) == [7, 7]
        assert server.accepted == 2


def test_an_answer_may_end_with_its_connection() -> None:
    with hostile(raw(ENDS_IT), GOOD) as server:
        assert twice(server) == [7, 7]
        assert server.accepted == 2


@pytest.mark.parametrize("cut", [1, None])
def test_what_nobody_asked_for_is_no_answer_to_the_next(cut: int | None) -> None:
    more = http(200, b'{"value":666}')
    with hostile(raw(WHOLE + more[:cut], more=True), GOOD) as server:
        assert twice(server) == [7, 7]
        assert server.accepted == 2


BARE = b"HTTP/1.1 204 No Content\r\n"


@pytest.mark.parametrize(
    ("bare", "connections"),
    [
        (BARE + b"\r\n", 1),
        (BARE + b"Content-Length: 0\r\n\r\n", 1),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 1),
        (BARE + b"Connection: close\r\n\r\n", 2),
        (BARE + b"Content-Length: 11\r\n\r\n", 2),
        (BARE + b"Content-Length: 11\r\n\r\n" + BODY, 2),
        (BARE + b"Transfer-Encoding: chunked\r\n\r\n", 2),
    ],
)
def test_an_answer_that_has_no_body_ends_with_its_head(bare: bytes, connections: int) -> None:
    with hostile(raw(bare, more=True), GOOD) as server, closing(Session(server.url)) as session:
        ended, good = (session.exchange("DELETE", "/value", None, 5.0) for _ in range(2))
        assert (ended.status, ended.content, ended.is_delimited) == (int(bare[9:12]), b"", True)
        assert good.content == BODY.replace(b":", b": ")
        assert server.accepted == connections


UNREAD = {
    "another protocol": b"HTTP/2 200 OK\r\nContent-Length: 11\r\n\r\n" + BODY,
    "a later version": WHOLE.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "a short status": WHOLE.replace(b" 200 ", b" 20 "),
    "a status of letters": WHOLE.replace(b" 200 ", b" abc "),
    "a low status": WHOLE.replace(b" 200 ", b" 099 "),
    "no colon": OK + b"Nonsense\r\nContent-Length: 11\r\n\r\n" + BODY,
    "a space before the colon": OK + b"Content-Length : 11\r\n\r\n" + BODY,
    "a folded line": OK + b"X: a\r\n b\r\nContent-Length: 11\r\n\r\n" + BODY,
    "a line too long": OK + b"X: " + b"x" * 70_000 + b"\r\nContent-Length: 11\r\n\r\n" + BODY,
    "too many lines": OK + b"X: a\r\n" * 200 + b"Content-Length: 11\r\n\r\n" + BODY,
    "a signed length": OK + b"Content-Length: +11\r\n\r\n" + BODY,
    "a negative length": OK + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length with a digit of Unicode": OK + b"Content-Length: \xb2\r\n\r\n" + BODY,
    "an empty length": OK + b"Content-Length:\r\n\r\n" + BODY,
    "another coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY,
    "a signed chunk": CHUNKED + b"+b\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk of another base": CHUNKED + b"0xb\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk too long": CHUNKED + b"a\r\n" + BODY + b"\r\n0\r\n\r\n",
    "no last chunk": CHUNKED + b"b\r\n" + BODY + b"\r\n",
    "cut behind the last chunk": CHUNKED + b"b\r\n" + BODY + b"\r\n0\r\n",
    "cut behind the head": OK + b"Content-Length: 11\r\n\r\n",
    "cut in the head": OK + b"Content-Length: 11\r\n",
    "cut in the head of what has no body": BARE + b"X: a\r\n",
    "hints only": b"HTTP/1.1 103 Early Hints\r\n\r\n",
}


@pytest.mark.parametrize("form", UNREAD)
def test_no_other_form_is_read(form: str) -> None:
    with hostile(raw(UNREAD[form]), GOOD) as server:
        with pytest.raises(OutcomeUnknown, match="the connection failed"):
            send(server.url)
        assert send(server.url) == 7


def endless(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Check that no more than the longest answer is read of this one, and that it is told."""
    monkeypatch.setattr(received, "LARGEST", 2**16)
    with hostile(raw(content), raw(content)) as server:
        with pytest.raises(OutcomeUnknown, match="longer"):
            send(server.url)
        with pytest.raises(UnreadableAnswer, match="longer"):
            send(server.url, "GET")


FILLER = b" " * 2**18
ENDLESS = {
    "by its length": http(200, BODY + FILLER),
    "until the end": ENDS_IT + FILLER,
    "in one chunk": CHUNKED + b"%x\r\n" % 2**40 + BODY + FILLER,
    "in many chunks": CHUNKED + (b"400\r\n" + FILLER[:1024] + b"\r\n") * 200,
}


@pytest.mark.parametrize("form", ENDLESS)
def test_no_form_has_an_endless_answer(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    endless(monkeypatch, ENDLESS[form])


def test_control_an_answer_that_has_room_is_not_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.fail.Exception):
        endless(monkeypatch, http(200, BODY + FILLER[: 2**15]))
