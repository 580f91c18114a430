"""Every bound of a connection, and of all of them together: held at its limit, and missed where it is none."""

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from types import SimpleNamespace

import pytest

from server.http.bounds import MAX_BODY, NEVER, Bounds
from server.http.request import Bodies, Received
from tests.server.small import MIB, Small, answer, asked, ended, get, post, small
from tests.server.test_connection import problem
from tests.waiting import until

NONE = 1e9  # as good as no bound
SOON = 0.05
SLOW = 4096  # bytes that a slow reader's kernel takes
PING = get("/ping")


@contextmanager
def opened(
    server: Small, *data: bytes, receives: int | None = None
) -> Iterator[list[socket.socket]]:
    """Open a connection for each of the data, and close them in the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(server.connect(one, receives=receives))) for one in data]


def gone(server: Small) -> bool:
    """Whether no connection is left."""
    return not server.server.connections


def test_as_many_connections_as_there_may_be_and_a_word_to_some_more() -> None:
    with small(connections=3, spare=2) as server:
        with opened(server, *[PING] * 3) as kept:
            assert [answer(one)[0] for one in kept] == [200] * 3
            with opened(server, *[PING] * 2) as more:
                for one in more:
                    assert problem(answer(one)) == (503, "unavailable")
                    assert ended(one)
                until(lambda: len(server.server.connections) == 5)
                with opened(server, b"") as (last,):
                    assert ended(last)
            kept[0].sendall(PING)
            assert answer(kept[0])[0] == 200
        until(lambda: gone(server))
        assert asked(server, PING)[0] == 200
        assert server.events == ["refused - unavailable"] * 2


HEADS = {
    "bytes of one header": get("/ping", "X: " + "x" * 1000),
    "bytes of all headers": get("/ping", *[f"X{n}: {'x' * 120}" for n in range(9)]),
    "bytes of one name": get("/ping", "x" * 1000 + ": x"),
    "bytes of the target": get("/ping?" + "x" * 1000),
    "lines": get("/ping", *["X: x"] * 10),
}


@pytest.mark.parametrize("pieces", [100_000, 100])
@pytest.mark.parametrize("name", HEADS)
def test_a_head_has_so_many_bytes_and_lines(name: str, pieces: int) -> None:
    data = HEADS[name]
    with small(head=1000, lines=10) as server:
        for before in (b"", PING):
            with opened(server, before) as (one,):
                assert not before or answer(one)[0] == 200
                for at in range(0, len(data), pieces):
                    one.sendall(data[at : at + pieces])
                assert problem(answer(one)) == (431, "head_too_large")
                assert ended(one)
        fits = get("/ping", *[f"X{n}: x" for n in range(8)])
        assert asked(server, fits + b"x" * 2000)[0] == 400  # it is what follows that is refused
        assert asked(server, fits)[0] == 200
        assert asked(server, post(b"x" * 5000, *["X: x"] * 8))[2] == b"5000"
    with small() as server:  # the control
        assert asked(server, data)[0] == 200


def test_a_head_is_not_charged_for_what_came_before_it() -> None:
    """A client that sends one request behind the other ends a body and begins a head in one packet."""
    with small() as server, opened(server, post(b"", length=200_000)) as (one,):
        until(lambda: any(other.deadline == NEVER for other in server.server.connections))
        (connection,) = server.server.connections
        for data in (b"x" * 200_000 + PING[:-2], PING[-2:] + post(b"x" * 200_000)[:-1]):
            server.loop.call(connection.data_received, data)
        assert answer(one)[2] == b"200000"
        assert answer(one)[2] == b"pong"
        one.sendall(b"x")
        assert answer(one)[2] == b"200000"


def test_a_head_that_never_ends_is_not_kept() -> None:
    with small(linger=SOON) as server, opened(server, b"GET / HTTP/1.1\r\nX: ") as (one,):

        def cut_off() -> bool:
            try:
                one.sendall(b"x" * 100_000)
            except ConnectionError:
                return True
            return False

        until(cut_off)
        assert server.events == ["refused - head_too_large"]


DAWDLERS = [b"", b"\r\n", b"G", b"GET /ping HTTP/1.1\r\nHost: loc", PING + PING[:-2]]


@pytest.mark.parametrize("data", DAWDLERS)
def test_a_head_has_its_time(data: bytes) -> None:
    with small(head_time=SOON) as server, opened(server, data) as (one,):
        if data.startswith(PING):
            assert answer(one)[0] == 200
        if data.strip():
            assert problem(answer(one)) == (408, "too_slow")
        assert ended(one)


def test_a_head_that_comes_byte_by_byte_has_no_more_time() -> None:
    with small(head_time=0.5) as server, opened(server, b"GET /ping HTTP/1.1\r\nX: ") as (one,):

        def dribble() -> bool:
            one.sendall(b"x")
            return "refused - too_slow" in server.events

        until(dribble)
        assert problem(answer(one)) == (408, "too_slow")


def test_half_a_head_behind_a_long_poll_is_refused_after_it() -> None:
    with small(head_time=SOON) as server, opened(server, get("/wait") + PING[:-2]) as (one,):
        until(lambda: server.places == 4)
        server.loop.call(lambda: None)
        with opened(server, PING[:-2]) as (other,):
            assert problem(answer(other)) == (408, "too_slow")  # by now its time is up, too
        server.open_gate()
        assert answer(one)[2] == b"woken"
        assert problem(answer(one)) == (408, "too_slow")
        assert ended(one)


@pytest.mark.parametrize("bound", ["head_time", "body_time", "idle"])
def test_without_these_bounds_they_would_stay(bound: str) -> None:
    """The control of those around it."""
    data = {"head_time": PING[:-2], "body_time": post(b"x", length=2), "idle": PING}
    with small(**{bound: NONE}) as server, opened(server, data[bound]):
        until(lambda: server.server.connections)
        with pytest.raises(AssertionError):
            until(lambda: gone(server), 0.5)
    with small(**{bound: SOON}) as server, opened(server, data[bound]) as (one,):
        until(lambda: one.recv(4096) == b"")


def test_a_body_has_its_time() -> None:
    with small(body_time=SOON) as server:
        for size in (0, 1, 99):
            with opened(server, post(b"x" * size, length=100)) as (one,):
                got = answer(one)
                assert problem(got) == (408, "too_slow") and got[1]["connection"] == "close"
                assert ended(one)
        with opened(server, post(b"x", path="/early", length=100)) as (one,):
            assert answer(one)[2] == b"early"
            assert ended(one)  # the rest is not waited for any longer than that
        assert asked(server, post(b"x" * 100))[2] == b"100"
    assert server.server.bodies.held == 0


def test_all_bodies_together_have_so_many_bytes() -> None:
    with small(bodies=1000) as server:
        with opened(server, *[post(b"x" * 300, length=301)] * 3) as held:
            until(lambda: server.server.bodies.held == 900)
            with opened(server, post(b"x" * 101) + PING) as (one,):
                assert problem(answer(one)) == (503, "unavailable")
                assert answer(one)[2] == b"pong"  # the connection is still good
            assert asked(server, post(b"x" * 97))[2] == b"97"
            for one in held:
                one.sendall(b"x")
                assert answer(one)[2] == b"301"
        until(lambda: server.server.bodies.held == 0)
        assert asked(server, post(b"x" * 1000))[2] == b"1000"
    half = [post(b"x" * 300, length=301)] * 3
    with small(bodies=1001) as server, opened(server, *half):  # the control
        until(lambda: server.server.bodies.held == 900)
        assert asked(server, post(b"x" * 101))[2] == b"101"


def test_the_largest_bodies_come_in_side_by_side() -> None:
    largest = post(b"x" * MAX_BODY)
    with small() as server:
        with opened(server, *[largest[:-1]] * 8) as eight:
            until(lambda: server.server.bodies.held == 8 * (MAX_BODY - 1), 30.0)
            assert problem(asked(server, largest)) == (503, "unavailable")
            for one in eight:
                one.sendall(largest[-1:])
                assert answer(one)[2] == b"%d" % MAX_BODY
        until(lambda: server.server.bodies.held == 0)


@pytest.mark.parametrize("parts", [[b"x" * MIB], [b"x" * MIB, b"y"]])
def test_a_body_is_handed_out_and_not_kept_but_counted(parts: list[bytes]) -> None:
    source = SimpleNamespace(bounds=Bounds(), bodies=Bodies(2 * MIB), go_on=None)
    length = sum(map(len, parts))
    received = Received(source, "POST", "/", {"content-length": str(length)}, keep=True)
    before = [sys.getrefcount(part) for part in parts]
    for part in parts:
        received.take(part)
    del part
    received.end()
    asyncio.run(received.arrival())
    assert [sys.getrefcount(part) for part in parts] > before  # the control
    assert asyncio.run(received.body()) == b"".join(parts)
    assert [sys.getrefcount(part) for part in parts] == before
    assert source.bodies.held == length
    received.answer()
    assert source.bodies.held == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
def test_only_what_somebody_may_want_takes_room(method: str) -> None:
    data = get("/wait", "Content-Length: 900", method=method) + b"x" * 900
    with small(bodies=1000) as server, opened(server, data) as (one,):
        until(lambda: server.places == 4)
        kept = method == "POST"
        assert server.server.bodies.held == 900 * kept
        assert asked(server, post(b"x" * 101))[0] == (503 if kept else 200)
        server.open_gate()
        assert answer(one, head=method == "HEAD")[0] == 200
        one.sendall(PING)  # and what follows is understood
        assert answer(one)[2] == b"pong"


def test_what_is_only_announced_takes_no_room() -> None:
    with small(bodies=MIB) as server, opened(server, *[post(b"x", length=16 * MIB)] * 100):
        until(lambda: server.server.bodies.held == 100)
        assert asked(server, post(b"x" * 1000))[2] == b"1000"


def test_so_many_requests_may_be_under_way_on_a_connection() -> None:
    with small(pipelined=4) as server:
        with opened(server, PING * 4) as (one,):
            assert [answer(one)[0] for _ in range(4)] == [200] * 4
        with opened(server, get("/wait")) as (one,):
            until(lambda: server.places == 4)
            one.sendall(PING * 4)
            until(lambda: not server.server.connections or server.places == 4)
            server.open_gate()
            assert answer(one)[2] == b"woken"
            assert problem(answer(one)) == (400, "bad_request")
            assert ended(one)


def test_an_idle_connection_is_closed() -> None:
    with small(idle=SOON) as server, opened(server, PING) as (one,):
        assert answer(one)[0] == 200
        assert ended(one)


def big(size: int) -> bytes:
    """Ask for an answer of that size."""
    return get(f"/big?{size}")


def hurry(one: socket.socket) -> None:
    """Let a slow reader's kernel take more."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)


def stalls(server: Small) -> bool:
    """Whether an answer has been begun and stays unread."""
    return any(one.unread > MIB for one in server.server.connections)


def test_no_answer_is_made_while_the_one_before_it_is_unread() -> None:
    with small() as server, opened(server, big(8 * MIB) * 5, receives=SLOW) as (one,):
        until(lambda: stalls(server))
        assert asked(server, PING)[0] == 200
        assert server.events == ["big"]
        (connection,) = [other for other in server.server.connections if other.unread]
        assert connection.unread <= 8 * MIB + MIB
        hurry(one)
        for _ in range(5):
            assert len(answer(one)[2]) == 8 * MIB
        assert server.events == ["big"] * 5


def is_dropped(server: Small) -> None:
    """Expect one who does not read to be dropped, and its answer with it."""
    with opened(server, big(8 * MIB), receives=SLOW):
        until(lambda: stalls(server))
        until(lambda: gone(server), 2.0)


def test_who_does_not_read_is_dropped() -> None:
    with small(stall=SOON) as server:
        is_dropped(server)
    with small(stall=NONE) as server, pytest.raises(AssertionError):  # the control
        is_dropped(server)


def test_who_reads_slowly_is_not() -> None:
    with small(stall=0.3) as server, opened(server, big(8 * MIB), receives=65_536) as (one,):
        received = 0
        until(lambda: stalls(server))

        def read() -> bool:
            nonlocal received
            received += len(one.recv(100_000))
            return received > 8 * MIB

        until(read, 60)


def test_the_last_answer_of_a_connection_is_dropped_like_any_other() -> None:
    last = get(f"/big?{MIB}", "Connection: close")
    with small(stall=SOON, linger=SOON) as server, opened(server, last, receives=SLOW):
        until(lambda: server.events == ["big"])
        until(lambda: gone(server))


def test_who_leaves_an_answer_unread_is_dropped_too() -> None:
    with small(stall=SOON) as server, opened(server, big(8 * MIB), receives=SLOW) as (one,):
        until(lambda: stalls(server))
        one.shutdown(socket.SHUT_WR)
        until(lambda: gone(server))


def unread_in_all(server: Small) -> int:
    """Return how much of its answers the server holds."""
    return sum(one.unread for one in server.server.connections)


def bound_in_all(server: Small) -> None:
    """Expect four answers to be dropped of ten that nobody reads, the oldest ones."""
    with opened(server, *[b""] * 10, receives=SLOW) as readers:
        for n, one in enumerate(readers, 1):
            one.sendall(big(8 * MIB))
            until(lambda: server.events.count("big") == n)  # noqa: B023
            until(lambda: server.loop.call(unread_in_all, server) <= 50 * MIB, 3.0)
        until(lambda: len(server.server.connections) == 6)
        for one in readers[4:]:
            hurry(one)
            assert len(answer(one)[2]) == 8 * MIB


def test_all_unread_answers_together_have_so_many_bytes() -> None:
    with small(unread_in_all=50 * MIB, sweep=60.0) as server:
        bound_in_all(server)
    with small(unread_in_all=NONE) as server, pytest.raises(AssertionError):  # the control
        bound_in_all(server)


def test_many_dawdlers_keep_nobody_waiting() -> None:
    with small(head_time=NONE) as server, opened(server, *[PING[:-2]] * 500):
        until(lambda: len(server.server.connections) == 500)
        assert asked(server, PING)[0] == 200


def test_a_look_at_the_times_that_fails_ends_the_server() -> None:
    """Without it nothing would be bounded, and nobody would see it."""
    with small() as server:
        broken: Callable[[float], None] = lambda now: 1 / 0  # type: ignore[assignment, return-value]  # noqa: E731
        with opened(server, b""):
            until(lambda: server.server.connections)
            (one,) = server.server.connections
            one.sweep = broken  # type: ignore[method-assign]
            with pytest.raises(ZeroDivisionError):
                server.done.result(20)
            server.done.result = lambda timeout=None: None  # type: ignore[method-assign]
