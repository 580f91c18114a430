"""The way straight over a connection: it is what `requests` would do, and TLS is as strict."""

import socket
from pathlib import Path

import pytest

from qlib import MessageTooLarge, OutcomeUnknown, Unavailable
from qlib.connection import Session
from qlib.transport import Transport
from tests.qlib.door import GOOD, WHOLE, send, the_value
from tests.qlib.hostile import Seen, hostile, raw, refuse_unread, trickle
from tests.qlib.tls import serving_tls


def told(seen: Seen) -> tuple[str, str, dict[str, str], bytes]:
    return seen.method, seen.target, seen.headers, seen.raw


@pytest.mark.parametrize("base", ["", "/a/b", "/a b", "/a/../é", "/%7e"])
@pytest.mark.parametrize(
    ("method", "body"), [("GET", None), ("POST", b'{"a":1}'), ("POST", b""), ("DELETE", None)]
)
def test_a_request_is_the_one_that_requests_would_send(
    base: str, method: str, body: bytes | None
) -> None:
    with hostile(GOOD, GOOD) as server:
        url = server.url + base
        with Session(url, "secret", "me") as session:
            ours = session.exchange(method, "/topics/a-b?limit=7&wait=0.5", body, 5.0)
            theirs = session.request(
                method, f"{url}/topics/a-b", params={"limit": 7, "wait": "0.5"}, data=body
            )
        assert (ours.status, ours.content) == (theirs.status_code, theirs.content)
        assert told(server.seen[0]) == told(server.seen[1])
        assert server.seen[0].headers["queue-client"] == "me"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://queue.example", b"queue.example"),
        ("http://queue.example:80", b"queue.example"),
        ("https://queue.example:443", b"queue.example"),
        ("https://queue.example:80", b"queue.example:80"),
        ("http://QUEUE.example:8008", b"queue.example:8008"),
        ("http://[::1]:8008", b"[::1]:8008"),
        ("http://[fe80::1%25lo]:8008", b"[fe80::1]:8008"),
    ],
)
def test_the_host_has_its_name(url: str, host: bytes) -> None:
    with Session(url) as session:
        assert session._way.head.startswith(b"Host: " + host + b"\r\n")


def test_the_zone_of_an_address_is_as_the_system_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolving(host: str, *args: object) -> None:
        asked.append(host)
        raise socket.gaierror("no such zone")

    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    with pytest.raises(Unavailable):
        send("http://[fe80::1%25lo]:8008", timeout=0.01)
    assert set(asked) == {"fe80::1%lo"}


def test_a_connection_that_the_server_left_is_not_used_again() -> None:
    with hostile(raw(WHOLE), GOOD) as server:
        door = Transport(server.url, None, 5.0)
        assert door.request("POST", ("value",), the_value) == 7
        kept = door._session._way.pool.pool.get()
        kept.sock.settimeout(5)
        assert kept.sock.recv(1, socket.MSG_PEEK) == b""  # it has heard of it
        door._session._way.pool.pool.put(kept)
        assert door.request("POST", ("value",), the_value) == 7
        door.close()
        assert (server.accepted, len(server.seen)) == (2, 2)


def test_a_door_that_was_closed_opens_again() -> None:
    with hostile(GOOD, GOOD) as server:
        door = Transport(server.url, None, 5.0)
        for _ in range(2):
            assert door.request("GET", ("value",), the_value) == 7
            door.close()
        assert server.accepted == 2


def test_an_answer_that_comes_before_all_is_sent_counts() -> None:
    with hostile(refuse_unread, GOOD) as server:
        with pytest.raises(MessageTooLarge):
            send(server.url, body=b"x" * 2**24)
        assert send(server.url) == 7


def test_tls_is_spoken_and_trusted_by_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, bundle = serving_tls(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    with hostile(GOOD, GOOD, tls=context) as server:
        door = Transport(server.url, None, 5.0)
        for _ in range(2):
            assert door.request("POST", ("value",), the_value, body=b"x" * 2**20) == 7
        door.close()
        assert (server.accepted, [len(seen.raw) for seen in server.seen]) == (1, [2**20] * 2)


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = serving_tls(tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with hostile(GOOD, tls=context) as server:
        with pytest.raises(Unavailable, match="certificate is not trusted"):
            send(server.url, timeout=0.2)
        assert server.seen == []


def test_a_certificate_for_another_host_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, bundle = serving_tls(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    with hostile(GOOD, tls=context) as server:
        with pytest.raises(Unavailable, match="certificate is not trusted.*localhost"):
            send(server.url.replace("127.0.0.1", "localhost"), timeout=0.2)
        assert server.seen == []


def test_an_answer_by_tls_has_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, bundle = serving_tls(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    with hostile(trickle(WHOLE, 2.0 / len(WHOLE)), tls=context) as server:
        with pytest.raises(OutcomeUnknown):
            send(server.url, timeout=0.4)
        assert server.finished == []
