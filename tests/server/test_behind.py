"""Flask behind the loop: what a view sees, threads that are few, and the coroutine of a client that has left."""

import asyncio
import gc
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from flask import Flask, Response, request

from server.http.app import RECEIVED, Run
from server.http.behind import Behind
from server.http.reply import Reply
from server.http.request import Received
from tests.server.small import Small, answer, asked, get, post, small, text
from tests.server.test_connection import leave, problem
from tests.waiting import until


class Views:
    """A Flask application whose views hand coroutines back, and what became of these."""

    def __init__(self) -> None:
        self.waiting = 0
        self.cancelled = 0
        self.most = 0
        self.seen: dict[str, Any] = {}
        self.threads: set[str] = set()
        self.gate = asyncio.Event()
        self.asked = 0
        self.behind: Behind | None = None

    def app(self, run: Run) -> Flask:
        app = Flask("views", static_folder=None)

        @app.before_request
        def count() -> None:
            self.asked += 1
            self.threads.add(threading.current_thread().name)

        @app.route("/wait", methods=["GET", "POST"])
        def wait() -> Response:
            return response(run(self.wait()))

        @app.route("/body", methods=["POST", "DELETE"])
        def body() -> Response:
            return response(run(self.body(request.environ[RECEIVED])))

        @app.route("/unread", methods=["POST"])
        def unread() -> str:
            return "unread"

        @app.route("/environ/<path:rest>", methods=["GET"])
        def environ(rest: str) -> str:
            self.seen = dict(request.environ)
            return "seen"

        @app.route("/stream")
        def stream() -> Response:
            return Response(iter(["a", "b"]))

        @app.route("/empty")
        def empty() -> Response:
            return Response(status=204)

        @app.route("/boom")
        def boom() -> str:
            raise RuntimeError("boom")

        app.config["PROPAGATE_EXCEPTIONS"] = True
        return app

    async def wait(self) -> Reply:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
        return text(b"woken")

    async def body(self, received: Any) -> Reply:
        return text(b"%d" % len(await received.body()))


def response(reply: Reply) -> Response:
    """Return Flask's response of a reply."""
    return Response(reply.body, reply.status, reply.headers)


def trusts(received: Received) -> bool:
    """Tell whether a request has the token."""
    return received.header("authorization") != "wrong"


@contextmanager
def behind(
    patience: float = 20.0, threads: int = 8, **bounds: float
) -> Iterator[tuple[Small, Views]]:
    """Serve the views."""
    made: list[Behind] = []
    views: list[Views] = []

    async def application(received: Any) -> Reply:
        if not made:
            views.append(Views())
            made.append(Behind(views[0].app, trusts, patience=patience, threads=threads))
            views[0].behind = made[0]
        return await made[0](received)

    with small(application, **bounds) as server:
        asked(server, get("/nowhere"))
        try:
            yield server, views[0]
        finally:
            server.loop.call(views[0].gate.set)
            server.loop.run(made[0].close())
    assert not [one for one in threading.enumerate() if one.name.startswith("flask")]


def test_what_a_view_sees() -> None:
    with behind() as (server, views):
        sent = get(
            "/environ/a%2fb/%41%c3%a9?x=%20", "X-A: 1", "X-A: 2", "X_A: 3", "content-length: 0",
            "Content-Type: text/x", "Content_Length: 5",
        )  # fmt: skip
        assert asked(server, sent)[2] == b"seen"
        expected = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/environ/a/b/A\xc3\xa9",
            "QUERY_STRING": "x=%20",
            "HTTP_X_A": "1,2",
            "HTTP_HOST": "localhost",
            "CONTENT_LENGTH": "0",
            "CONTENT_TYPE": "text/x",
        }
        assert expected.items() <= views.seen.items()
        assert {name for name in views.seen if name.startswith("HTTP_")} == {
            "HTTP_X_A",
            "HTTP_HOST",
        }


def test_answers_are_flasks() -> None:
    with behind() as (server, _), closing(server.connect()) as one:
        for data, expected in [
            (get("/stream"), (200, b"ab")),
            (get("/empty"), (204, b"")),
            (post(b"hello"), (200, b"5")),
            (get("/stream"), (200, b"ab")),
        ]:
            one.sendall(data)
            status, headers, body = answer(one)
            assert (status, body) == expected
            assert ("content-length" in headers) == (status != 204)
        one.sendall(get("/nowhere") + get("/boom"))
        assert answer(one)[0] == 404
        assert problem(answer(one)) == (500, "internal")
        one.sendall(get("/unread", method="HEAD") + get("/stream", method="HEAD") + get("/empty"))
        assert [answer(one, head=True)[0] for _ in range(3)] == [405, 200, 204]


def test_a_body_that_cannot_be_read_is_told_where_it_is_asked_for() -> None:
    with behind(body_time=0.05) as (server, _):
        for path, unread in (("/body", False), ("/unread", True)):
            for data, expected in [
                (get(path, "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n", 411),
                (post(b"", path=path, length=17 * 2**20), 413),
                (post(b"x", path=path, length=2), 408),
            ]:
                assert asked(server, data)[0] == (200 if unread else expected)
        until(lambda: not server.server.bodies.held)


def test_a_body_is_whole_before_a_thread_is_taken() -> None:
    with behind(threads=1) as (server, views), ExitStack() as opened:
        before = views.asked
        slow = [
            opened.enter_context(closing(server.connect(post(b"x" * n, length=50))))
            for n in range(20)
        ]
        until(lambda: server.server.bodies.held == sum(range(20)))
        assert asked(server, get("/stream"))[2] == b"ab"
        assert views.asked == before + 1
        slow[7].sendall(b"x" * 43)
        assert answer(slow[7])[2] == b"50"


def test_the_body_of_a_stranger_is_not_waited_for() -> None:
    with behind() as (server, views):
        stranger = post(b"x", "Authorization: wrong", path="/unread", length=2)
        assert asked(server, stranger)[0] == 200
        before = views.asked
        with closing(server.connect(post(b"x", path="/unread", length=2))) as known:
            until(lambda: server.server.bodies.held)
            assert views.asked == before
            known.sendall(b"y")
            assert answer(known)[0] == 200


def test_so_many_threads_and_a_bounded_wait_for_one() -> None:
    with behind(patience=0.05) as (server, views), ExitStack() as opened:
        held = [opened.enter_context(closing(server.connect(get("/wait")))) for _ in range(8)]
        until(lambda: views.waiting == 8)
        assert problem(asked(server, get("/stream"))) == (503, "unavailable")
        server.loop.call(views.gate.set)
        assert [answer(one)[2] for one in held] == [b"woken"] * 8
        assert asked(server, get("/stream"))[2] == b"ab"
        assert views.most == 8 == len(views.threads)


def test_a_thread_does_not_keep_its_last_answer() -> None:
    def held() -> list[Reply]:
        return [one for one in gc.get_objects() if type(one) is Reply and one.body == b"woken"]

    with behind() as (server, views):
        with closing(server.connect(get("/wait"))) as one:
            until(lambda: views.waiting == 1)
            server.loop.call(views.gate.set)
            assert answer(one)[2] == b"woken"
        control = text(b"woken")
        assert held()
        del control
        until(lambda: not held())


@pytest.mark.parametrize("half", [True, False])
def test_when_a_client_leaves_its_coroutine_is_cancelled_and_its_thread_is_free(half: bool) -> None:
    with behind(threads=5) as (server, views), ExitStack() as opened:
        leavers = [opened.enter_context(closing(server.connect(get("/wait")))) for _ in range(5)]
        until(lambda: views.waiting == 5)
        for one in leavers:
            leave(one, half=half)
        until(lambda: views.waiting == 0, 1.0)
        assert views.cancelled == 5
        assert asked(server, get("/stream"))[2] == b"ab"  # the sixth


def test_a_write_is_carried_out_though_its_client_has_left() -> None:
    with behind() as (server, views):
        with closing(server.connect(post(b"x", path="/wait"))):
            until(lambda: views.waiting == 1)
        until(lambda: not server.server.connections)
        assert (views.waiting, views.cancelled) == (1, 0)
        server.loop.call(views.gate.set)
        until(lambda: views.waiting == 0)
        assert views.cancelled == 0


def test_what_takes_too_long_at_the_end_is_given_up() -> None:
    with behind(grace=0.05) as (server, views), ExitStack() as opened:
        opened.enter_context(closing(server.connect(post(b"x", path="/wait"))))
        until(lambda: views.waiting == 1)
        server.end()
        server.done.result(10)
        assert views.behind
        server.loop.run(views.behind.close())
        until(lambda: (views.waiting, views.cancelled) == (0, 1))
