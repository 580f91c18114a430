"""The door by itself: who leaves, what is large, and the two ways in which a request is seen."""

import asyncio
import json
import logging
import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest
from flask import Response
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from server.engines import Ack, Acked, Batch, Engine, Fetch, Fetched, Published
from server.engines.errors import Busy, EngineError, Unavailable
from server.http import decoding, door, metrics
from server.http.app import RECEIVED, Environ, create_app
from server.http.errors import Problem, problem
from server.http.hot import HotRoutes
from server.http.reply import Reply
from tests.loop import looping
from tests.server.applications import opened

DEEP = 64


class Empty:
    """An engine that has nothing, and takes everything."""

    def __init__(self) -> None:
        self.published: list[Batch] = []

    async def fetch(self, topic: str, fetches: list[Fetch]) -> list[Fetched]:
        return [Fetched(0, 0, 0, "")] * len(fetches)

    async def ack(self, topic: str, acks: list[Ack]) -> list[Acked]:
        raise AssertionError("nobody acks")

    async def publish(self, topic: str, batches: list[Batch]) -> list[Published]:
        self.published += batches
        return [Published(1, 1, False)] * len(batches)


class Asked:
    """A request as it came in."""

    given_up = False

    def __init__(
        self, method: str, path: str, query: str = "", sent: bytes | Problem = b"", **more: str
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self._sent = sent
        self._headers = {"host": "localhost:1", "content-type": "application/json", **more}

    def header(self, name: str) -> str | None:
        return self._headers.get(name)

    async def body(self) -> bytes:
        if isinstance(self._sent, Problem):
            raise self._sent
        return self._sent


async def nobody(request: Any) -> Reply:
    raise AssertionError("this is hot")


def hot(engine: Empty) -> HotRoutes:
    made: Engine = engine  # type: ignore[assignment]
    return HotRoutes(opened(made), nobody)


def counted(line: str) -> float:
    """Return a sample of what was counted."""
    text = generate_latest(metrics._COUNTED).decode()
    found = [one.split()[-1] for one in text.splitlines() if one.startswith(line + " ")]
    return float(found[0]) if found else 0.0


def test_who_leaves_is_counted_and_told_as_such(caplog: pytest.LogCaptureFixture) -> None:
    left = 'queue_requests_total{operation="fetch",status="left"}'
    answered = 'queue_request_seconds_count{operation="fetch"}'

    async def check() -> None:
        application = hot(Empty())
        ask = Asked("GET", "/topics/t/subscribers/s/messages", "wait=60")
        task = asyncio.ensure_future(application(ask))
        wakeups = application._door._context.wakeups
        async with asyncio.timeout(20):
            while not wakeups.waiting:
                await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert wakeups.waiting == 0

    before = counted(left), counted(answered)
    with caplog.at_level(logging.DEBUG, "server.requests"):
        asyncio.run(check())
    assert (counted(left), counted(answered)) == (before[0] + 1, before[1])
    line = caplog.records[-1]
    assert line.levelno == logging.DEBUG
    assert " method=GET route=/topics/<topic>/subscribers/<subscriber>/messages" in line.message
    assert " status=left code=- " in line.message


@pytest.mark.parametrize("size", [100, door._LARGE + 100])
def test_a_large_body_is_taken_apart_off_the_loop(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[bool] = []
    taken = door._taken

    def noting(*given: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return taken(*given)

    monkeypatch.setattr(door, "_taken", noting)
    engine = Empty()
    text = json.dumps("x" * size)
    sent = b'{"payloads": [%b]}' % text.encode()
    reply = asyncio.run(hot(engine)(Asked("POST", "/topics/t/messages", sent=sent)))
    assert reply.status == 201
    assert engine.published == [Batch(f"[{text}]", 1)]
    assert threads == [size < door._LARGE]
    refused = asyncio.run(hot(engine)(Asked("POST", "/topics/t/messages", sent=sent[:-1])))
    assert refused.status == 400


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (EngineError("topic_not_found", "there is no topic", topic="t"), 404, None),
        (Unavailable("gone"), 503, "none"),
        (Unavailable("lost", outcome="unknown"), 503, "unknown"),
        (Busy("held"), 503, "none"),
        (Unavailable("full", code="disk_full"), 507, "none"),
        (EngineError("internal", "its log says more"), 500, None),
        (RuntimeError("insides"), 500, None),
    ],
)
def test_what_an_engine_raises_is_an_answer(
    error: Exception, status: int, outcome: str | None
) -> None:
    told = problem(error)
    assert told.status == status
    answer = json.loads(told.body("id"))
    assert answer.get("outcome") == outcome
    assert "insides" not in answer["detail"]
    assert answer.get("topic") == ("t" if status == 404 else None)
    assert problem(told) is told


def test_flask_answers_for_the_loop() -> None:
    """Hooks run, and the body is the one that was read on the loop, or what kept it from being read."""
    engine: Engine = Empty()  # type: ignore[assignment]
    with looping() as loop:
        app = create_app(opened(engine), loop.run)
        hooks: list[str] = []
        app.before_request(lambda: hooks.append("before"))

        @app.after_request
        def after(response: Response) -> Response:
            hooks.append("after")
            return response

        client = app.test_client()
        path = "/topics/t/messages"
        assert client.post(path, json={"payloads": [1]}).status_code == 201
        assert hooks == ["before", "after"]
        length = {"CONTENT_TYPE": "application/json"}
        for sent, status in (
            (b'{"payloads": [1]}', 201),
            (Problem("body_too_large", "too large"), 413),
            (Problem("too_slow", "too late"), 408),
        ):
            received = {RECEIVED: Asked("POST", path, sent=sent)}
            assert client.post(path, environ_overrides=received).status_code == status
        without = client.post(path, environ_overrides={**length, "CONTENT_LENGTH": None})
        assert without.status_code in (400, 411)
        assert client.get("/nowhere", headers={"Host": "evil.test"}).status_code == 421
        assert client.get("/nowhere").get_json()["code"] == "not_found"


def test_flask_answers_nobody_when_the_client_has_left(caplog: pytest.LogCaptureFixture) -> None:
    engine: Engine = Empty()  # type: ignore[assignment]

    def left(coroutine: Any) -> Reply:
        coroutine.close()
        raise CancelledError

    async def make() -> Any:
        return create_app(opened(engine), left)

    app = asyncio.run(make())
    assert app.test_client().get("/health").status_code == 503
    assert caplog.text == ""


def test_an_environ_is_a_request() -> None:
    one = Environ(
        {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/p",
            "QUERY_STRING": "a=1",
            "CONTENT_TYPE": "text/plain",
            "HTTP_CONTENT_TYPE": "evil",
            "HTTP_QUEUE_CLIENT": "c",
        }
    )
    assert (one.method, one.path, one.query) == ("GET", "/p", "a=1")
    names = ("content-type", "queue-client", "content-length", "host")
    assert [one.header(name) for name in names] == ["text/plain", "c", None, None]


def test_hosts_that_are_remembered_are_bounded() -> None:
    async def check() -> None:
        application = hot(Empty())
        for n in range(1000):
            ask = Asked("GET", "/topics/t/subscribers/s/messages", host=f"evil{n}.test")
            assert (await application(ask)).status == 421
            ask = Asked("GET", "/topics/t/subscribers/s/messages", host=f"localhost:{n}")
            assert (await application(ask)).status == 200
        assert application._door._is_ours.cache_info().currsize == door._HOSTS

    asyncio.run(check())


def depth(value: object) -> int:
    """Return how deep a value is nested."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


texts = st.text(st.sampled_from('[]{}",:\\ a'), max_size=5)
beside = texts | st.sampled_from([None, [], {}, [[], {}], {"[": [1]}])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), beside, texts), min_size=DEEP - 4, max_size=DEEP + 4))
def test_nesting_is_measured_as_a_reader_would(levels: Any) -> None:
    value: Any = None
    for is_list, other, name in levels:
        value = [other, value, other] if is_list else {f"x{name}": value, "y": other}
    text = json.dumps(value).encode()
    assert decoding._too_deep(text) is (depth(value) > DEEP)
