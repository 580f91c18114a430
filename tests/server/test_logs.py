"""The log has a line for each request that was refused or failed, and nothing of what was sent."""

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from server import logs
from server.engines.postgres.engine import PostgresEngine
from tests.server.answers import ok, refused
from tests.server.applications import application
from tests.server.raw import request, send
from tests.server_process import ServerProcess

SECRET = "s3cret-4711"
TOKEN = "t0ken-4711"
LINE = re.compile(
    r"^\S+ \S+ (?P<level>[A-Z]+) server\.requests: request_id=(?P<request_id>\S+) method=(?P<method>\S+) "
    r"route=(?P<route>\S+) status=(?P<status>\d+) code=(?P<code>\S+) ms=(?P<ms>\d+\.\d)$",
    re.M,
)
MESSAGES, FETCH = "/topics/<topic>/messages", "/topics/<topic>/subscribers/<subscriber>/messages"


def lines(server: ServerProcess) -> list[dict[str, str]]:
    """Return the lines about requests."""
    return [found.groupdict() for found in LINE.finditer(server.log)]


@pytest.fixture(params=["server", "tests.flask_alone"])
def start(
    request: pytest.FixtureRequest, start_server: Callable[..., ServerProcess]
) -> Callable[..., ServerProcess]:
    """Start servers with hot routes, or without."""
    return lambda **settings: start_server(program=request.param, **settings)


def test_a_refused_request_has_a_line_that_its_answer_leads_to(
    start: Callable[..., ServerProcess],
) -> None:
    server = start()
    ok(server.call("POST", "/topics", {"topic": "t"}), 201)
    cases: list[tuple[str, str, Any, str, str]] = [
        ("POST", "/topics/none/messages", {"payloads": [1]}, MESSAGES, "topic_not_found"),
        ("GET", "/topics/t/subscribers/s/messages", None, FETCH, "subscriber_not_found"),
        ("POST", "/topics", {"topic": "t"}, "/topics", "topic_exists"),
        ("GET", "/topics/t/messages?limit=0", None, MESSAGES, "invalid_request"),
        ("GET", "/nowhere", None, "-", "not_found"),
        ("PUT", "/topics/t", {}, "-", "method_not_allowed"),
    ]
    for method, path, body, route, code in cases:
        problem = server.call(method, path, body).json()
        assert problem["code"] == code
        expected = {
            "level": "INFO",
            "request_id": problem["request_id"],
            "method": method,
            "route": route,
            "status": str(problem["status"]),
            "code": code,
        }
        assert expected.items() <= lines(server)[-1].items()
        assert float(lines(server)[-1]["ms"]) < 60_000
    assert len(lines(server)) == len(cases)  # and none for what succeeded


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["-", "not_found", "unavailable", "internal"]),
        ("info", ["not_found", "unavailable", "internal"]),
        ("warning", ["unavailable", "internal"]),
        ("error", ["internal"]),
    ],
)
def test_the_level_chooses(
    level: str, written: list[str], start: Callable[..., ServerProcess], connect: Any
) -> None:
    server = start(queue_log_level=level, queue_long_polls="0")
    ok(server.call("POST", "/topics", {"topic": "t"}), 201)
    ok(server.call("POST", "/topics/t/subscribers", {"subscriber": "s"}), 201)
    with connect() as session, session.cursor() as cursor:
        cursor.execute("alter function queue.list_topics rename to gone")
    ok(server.call("GET", "/topics/t/messages"))
    server.call("GET", "/nowhere")
    refused(server.call("GET", "/topics/t/subscribers/s/messages?wait=1"), "unavailable")
    assert server.call("GET", "/topics").status_code == 500
    codes = [line["code"] for line in lines(server)]
    assert (codes[-len(written) :] if level == "debug" else codes) == written
    assert {"code": "internal", "level": "ERROR"}.items() <= lines(server)[-1].items()


def test_nothing_that_was_sent_is_written(start: Callable[..., ServerProcess]) -> None:
    server = start(queue_token=TOKEN, queue_log_level="debug")
    auth = {"Authorization": f"Bearer {TOKEN}"}
    ok(server.call("POST", "/topics", {"topic": SECRET}, headers=auth), 201)
    bodies: list[Any] = [
        {"payloads": [SECRET], "keys": [SECRET], "headers": [{SECRET: SECRET}], "producer": SECRET},
        {"payloads": [{SECRET: SECRET}], "keys": [SECRET], "headers": [{SECRET: SECRET}]},
        {"payloads": [SECRET], "headers": [SECRET]},
        {"payloads": [f"{SECRET}\0"], "keys": [f"{SECRET}\0"]},
        {"payloads": SECRET, "keys": SECRET, SECRET: SECRET},
        {"topic": SECRET},
        SECRET,
    ]
    for body in bodies:
        for path in (f"/topics/{SECRET}/messages", f"/topics/{SECRET}x/messages", "/topics"):
            server.call("POST", path, body, headers=auth)
    for kind in ("application/json", SECRET):
        headers = {**auth, "Content-Type": kind}
        server.call("POST", "/topics", data=f'{{"{SECRET}"', headers=headers)
    for path in (f"/{SECRET}", f"/topics/%00{SECRET}", f"/topics/{SECRET}/subscribers/{SECRET}"):
        for query in ("", f"?{SECRET}=1", f"?limit={SECRET}", f"?after={SECRET}"):
            for method in ("GET", "DELETE", "PUT"):
                server.call(method, path + query, headers=auth)
    for headers in ({"Host": SECRET}, {"Authorization": f"Bearer {TOKEN}x"}, {SECRET: SECRET}):
        server.call("GET", "/topics", headers=headers)
    send(server.port, request(SECRET, b"/topics", head=b""))
    seen = lines(server)
    assert len(seen) > 60 and {line["code"] for line in seen} >= {
        "-",
        "invalid_json",
        "invalid_name",
        "invalid_message",
        "invalid_request",
        "topic_exists",
        "host_not_allowed",
        "unauthorized",
        "not_found",
    }
    assert seen[-1]["method"] == "-"
    assert SECRET not in server.log and TOKEN not in server.log


def test_what_is_not_written_is_not_put_together(
    dsn: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(logs.log, "makeRecord", lambda *args, **_: made.append("record"))
    monkeypatch.setattr(logs.log, "handle", lambda _: None)
    with application(PostgresEngine(dsn)) as app:
        client = app.test_client()
        for level, count in ((logging.ERROR, 0), (logging.INFO, 1)):
            logs.log.setLevel(level)
            assert client.get("/nowhere").status_code == 404
            assert len(made) == count
