"""The way straight over a connection: it is what `requests` would do, and TLS is as strict."""

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Event, Thread

import pytest
import requests

from qlib import InvalidRequest, MessageTooLarge, OutcomeUnknown, Unavailable, connection
from qlib.connection import Session
from qlib.transport import Transport
from tests.forked import in_child
from tests.qlib.door import GOOD, WHOLE, send, the_value
from tests.qlib.hostile import (
    Hostile,
    Seen,
    hostile,
    http,
    raw,
    read_slowly,
    refuse_unread,
    trickle,
)
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
        with closing(Session(url, "secret", "me")) as session, requests.Session() as other:
            other.headers = session._session.headers
            other.trust_env = False
            ours = session.exchange(method, "/topics/a-b?limit=7&wait=0.5", body, 5.0)
            theirs = other.request(
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
    with closing(Session(url)) as session:
        assert session._found().head.startswith(b"Host: " + host + b"\r\n")


def test_the_zone_of_an_address_is_as_the_system_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def resolving(host: str, *args: object) -> None:
        asked.append(host)
        raise socket.gaierror("no such zone")

    monkeypatch.setattr(socket, "getaddrinfo", resolving)
    with pytest.raises(Unavailable):
        send("http://[fe80::1%25lo]:8008", timeout=0.01)
    assert set(asked) == {"fe80::1%lo"}


def kept(door: Transport) -> socket.socket:
    """Return the socket that the next request goes through."""
    idle = door._session._found().pool.pool
    connection = idle.get()
    idle.put(connection)
    connection.sock.settimeout(5)
    return connection.sock


def test_a_connection_that_the_server_left_is_not_used_again() -> None:
    with hostile(raw(WHOLE), GOOD) as server:
        door = Transport(server.url, None, 5.0)
        assert door.request("POST", ("value",), the_value) == 7
        assert kept(door).recv(1, socket.MSG_PEEK) == b""  # it has heard of it
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


def beside_a_close(session: Session, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Have the session closed that often between a request's way to the pool and its connection."""
    real = connection._Pool._get_conn

    def closed_first(pool: connection._Pool, *args: object) -> object:
        nonlocal times
        if times:
            times -= 1
            session.close()
        return real(pool, *args)

    monkeypatch.setattr(connection._Pool, "_get_conn", closed_first)


def test_a_request_beside_a_close_is_sent_by_a_new_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile(GOOD, GOOD) as server, closing(Session(server.url)) as session:
        beside_a_close(session, monkeypatch, 1)
        for _ in range(2):
            assert session.exchange("POST", "/value", b"{}", 5.0).status == 200
        assert (server.accepted, len(server.seen)) == (1, 2)


def test_what_is_closed_again_and_again_surely_sends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with hostile(GOOD) as server:
        door = Transport(server.url, None, 0.2)
        beside_a_close(door._session, monkeypatch, 10**9)
        with pytest.raises(Unavailable):
            door.request("POST", ("value",), the_value)
        assert server.seen == []


def test_a_lock_that_a_fork_leaves_held_hangs_nobody() -> None:
    with hostile(GOOD, GOOD) as server:
        door = Transport(server.url, None, 5.0)
        assert door.request("POST", ("value",), the_value) == 7
        way = door._session._found()
        with getattr(way.pool.pool, "mutex", nullcontext()), door._session._lock:
            del way
            assert in_child(lambda: door.request("POST", ("value",), the_value)) == "7"
        door.close()
        assert server.accepted == 2


class Broken:
    """A socket whose server has read it all, and is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: bytes) -> int:
        self._sock.sendall(data)
        raise BrokenPipeError(errno.EPIPE, "gone")

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)


def test_a_connection_that_did_not_take_all_is_not_used_again() -> None:
    with hostile(GOOD, GOOD, GOOD) as server:
        door = Transport(server.url, None, 5.0)
        assert door.request("POST", ("value",), the_value) == 7
        idle = door._session._found().pool.pool
        broken = idle.get()
        broken.sock = Broken(broken.sock)
        idle.put(broken)
        assert [door.request("POST", ("value",), the_value) for _ in range(2)] == [7, 7]
        door.close()
        assert (server.accepted, len(server.seen)) == (2, 3)


@contextmanager
def accepting(act: Callable[[socket.socket], object]) -> Iterator[str]:
    """Do this to each connection that is made; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    with listener.accept()[0] as accepted, suppress(OSError):
                        act(accepted)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def reset(sock: socket.socket) -> None:
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


GREETINGS: dict[str, Callable[[socket.socket], object]] = {
    "a reset": reset,
    "an end": lambda sock: sock.recv(2**16),
    "another protocol": lambda sock: (sock.sendall(b"220 smtp ready\r\n"), sock.recv(2**16)),
    "silence": lambda sock: [None for _ in iter(lambda: sock.recv(2**16), b"")],
}


@pytest.mark.parametrize("greeting", GREETINGS)
def test_without_a_handshake_surely_nothing_was_sent(greeting: str) -> None:
    with accepting(GREETINGS[greeting]) as url, pytest.raises(Unavailable, match="nothing was"):
        send(url, timeout=0.2)


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list of seconds that have passed on the session's clock, beside those that have."""
    seconds: list[float] = []
    real = connection.monotonic
    monkeypatch.setattr(connection, "monotonic", lambda: real() + sum(seconds))
    return seconds


def test_without_time_after_connecting_surely_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch, passed: list[float]
) -> None:
    real = connection._Connection.connect

    def slowly(self: connection._Connection) -> None:
        real(self)
        passed.append(100.0)

    monkeypatch.setattr(connection._Connection, "connect", slowly)
    with hostile() as server:
        with pytest.raises(Unavailable, match="no time left"):
            send(server.url, timeout=0.2)
        assert server.seen == []


def test_a_handshake_has_what_time_is_left(
    monkeypatch: pytest.MonkeyPatch, passed: list[float]
) -> None:
    real = connection.HTTPConnection._new_conn

    def slowly(self: connection._Connection) -> socket.socket:
        sock = real(self)
        passed.append(3.0)
        return sock

    monkeypatch.setattr(connection.HTTPConnection, "_new_conn", slowly)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = connection._Connection(*listener.getsockname())
        ours.deadline = connection.monotonic() + 5.0
        with ours._new_conn() as sock:
            assert 0.0 < sock.gettimeout() <= 2.0


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_bundle_that_is_none_is_told(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _ = serving_tls(tmp_path)
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    with hostile(GOOD, tls=context) as server, hostile(GOOD) as plain:
        with pytest.raises(InvalidRequest, match=r"\$REQUESTS_CA_BUNDLE"):
            send(server.url)
        assert server.seen == []
        assert send(plain.url) == 7


@pytest.mark.parametrize("secure", [False, True])
def test_what_comes_late_behind_an_answer_is_no_answer_to_the_next(
    secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, bundle = serving_tls(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    more = Event()

    def late(state: Hostile, connection: socket.socket, seen: Seen) -> bool:
        connection.sendall(WHOLE)
        assert more.wait(5)
        connection.sendall(b"\r" + http(200, b'{"value":666}'))
        return True

    with hostile(late, GOOD, tls=context if secure else None) as server:
        door = Transport(server.url, None, 5.0)
        assert door.request("GET", ("value",), the_value) == 7
        more.set()
        # of a record of TLS the rest is deciphered then, and no longer in the socket
        assert kept(door).recv(1, 0 if secure else socket.MSG_PEEK) == b"\r"
        assert door.request("GET", ("value",), the_value) == 7
        door.close()
        assert server.accepted == 2


def test_a_request_by_tls_has_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, bundle = serving_tls(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    with hostile(read_slowly, tls=context) as server:
        with pytest.raises(OutcomeUnknown):
            send(server.url, timeout=0.4, body=b"x" * 2**24)
        assert server.finished == []


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
