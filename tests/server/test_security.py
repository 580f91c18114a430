"""Who may call, by which name, with what; and that neither answers nor logs give anything away."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from flask.testing import FlaskClient

import server.http.routes  # noqa: F401  (registers the operations)
from server.engines.postgres.engine import PostgresEngine
from server.http.operations import OPERATIONS
from tests.server.answers import ok, refused
from tests.server.applications import application
from tests.server.raw import request, send
from tests.server_process import ROOT, ServerProcess, free_port, serving

TOKEN = "correct-horse-battery-staple"
SECRETS = ("payload-4711", "key-4711", "header-4711", TOKEN)
INSIDES = re.compile(
    r"Traceback|psycopg|File \"|\bselect\b|\binsert\b|queue\.\w+\(|SQLSTATE|CONTEXT:|dbname=|host=",
    re.IGNORECASE,
)


@pytest.fixture
def secured(start_server: Callable[..., ServerProcess], tmp_path: Path) -> ServerProcess:
    """A server with a token, which it has from a file."""
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return start_server(queue_token_file=str(path))


@pytest.fixture(scope="module")
def named(
    server: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server with a name of its own, on the shared server's database."""
    database = server.settings["DATABASE_URL"]
    log = tmp_path_factory.mktemp("named") / "log"
    settings = {"database_url": database, "queue_allow_host": "x.test, Queue.test"}
    with serving(ServerProcess(log, **settings)) as process:
        yield process


def bearer(text: str) -> dict[str, str]:
    """Return the header that shows a token."""
    return {"Authorization": text}


def test_every_route_but_health_needs_the_token(secured: ServerProcess) -> None:
    checked = 0
    for one in OPERATIONS:
        path = re.sub("<.*?>", "name", one.rule)
        if path == "/health":
            assert ok(secured.call(one.method, path))
            continue
        body = {} if one.body else None
        for headers in [
            {},
            *map(bearer, ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN]),
            bearer(f"Basic {TOKEN}"),
            {"X-Token": TOKEN},
        ]:
            answer = secured.call(one.method, path, body, headers=headers)
            refused(answer, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            checked += 1
        granted = secured.call(one.method, path, body, headers=bearer(f"Bearer {TOKEN}"))
        assert granted.status_code != 401
    assert checked == (len(OPERATIONS) - 1) * 8 >= 16 * 8


def test_a_token_that_is_no_text_is_refused(secured: ServerProcess) -> None:
    for token in (b"Bearer \xff", TOKEN.encode() + b"\xc3\xa9", b"Bearer " + b"x" * 10_000):
        status, _ = send(
            secured.port, request("GET", b"/topics", head=b"Authorization: " + token + b"\r\n")
        )
        assert status == 401


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "queue.test"])
@pytest.mark.parametrize("port", ["", ":80", ":8008"])
def test_known_names_are_answered(named: ServerProcess, host: str, port: str) -> None:
    ok(named.call("GET", "/health", headers={"Host": host + port}))


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "evil.test:127.0.0.1",
        "",
        "10.0.0.1",
    ]
    + ["localhost:80@evil.test", "localhost evil.test", "queue.test.", "::1", "localhost:8008x"],
)
def test_other_names_are_not(named: ServerProcess, host: str) -> None:
    for method, path in (("GET", "/health"), ("GET", "/topics"), ("DELETE", "/topics/t")):
        refused(named.call(method, path, headers={"Host": host}), "host_not_allowed")


def test_names_in_requests_without_one(server: ServerProcess) -> None:
    assert send(server.port, b"GET /health HTTP/1.0\r\n\r\n")[0] == 421
    two = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\nConnection: close\r\n\r\n"
    assert send(server.port, two)[0] in (400, 421)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "json"])
def test_a_form_on_a_foreign_page_cannot_publish(
    server: ServerProcess, topic: str, kind: str
) -> None:
    one = "subscribers/s"
    paths = ["messages", "reset", "subscribers", f"{one}/ack", f"{one}/seek", f"{one}/leases"]
    paths += [f"{one}/leases/1-1/{verb}" for verb in ("ack", "nack", "extend")]
    for path in (*paths, f"{one}/dead/redrive"):
        headers = {"Content-Type": kind, "Origin": "http://evil.test"}
        answer = server.call("POST", f"/topics/{topic}/{path}", data="{}", headers=headers)
        refused(answer, "unsupported_media_type")
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "PATCH", "TRACE", "PROPFIND"])
def test_other_methods_are_refused(server: ServerProcess, topic: str, method: str) -> None:
    methods: dict[str, set[str]] = {}
    for one in OPERATIONS:
        methods.setdefault(re.sub("<.*?>", topic, one.rule), set()).add(one.method)
    others = {path: allowed for path, allowed in methods.items() if method not in allowed}
    assert len(others) >= len(methods) - (method == "PATCH") >= 15
    for path, allowed in others.items():
        answer = server.call(method, path)
        refused(answer, "method_not_allowed")
        assert set(answer.headers["Allow"].split(", ")) - {"HEAD"} == allowed
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_no_get_and_no_head_changes_anything(server: ServerProcess, topic: str) -> None:
    ok(server.call("POST", f"/topics/{topic}/subscribers", {"subscriber": "s"}), 201)
    before = server.call("GET", f"/topics/{topic}/subscribers").text
    asked = 0
    for one in OPERATIONS:
        if one.method == "GET":
            path = one.rule.replace("<topic>", topic).replace("<subscriber>", "s")
            assert server.call("GET", path).status_code == 200
            head = server.call("HEAD", path)
            assert (head.status_code, head.content) == (200, b"")
            asked += 1
    assert asked >= 9
    assert server.call("GET", f"/topics/{topic}/subscribers").text == before


def test_every_answer_says_that_its_type_is_meant(server: ServerProcess, topic: str) -> None:
    for method, path, body in [
        ("GET", "/health", None),
        ("GET", "/metrics", None),
        ("GET", "/nowhere", None),
        ("POST", f"/topics/{topic}/messages", {"payloads": ["<script>alert(1)</script>"]}),
        ("GET", f"/topics/{topic}/messages", None),
        ("PUT", "/topics", None),
        ("DELETE", f"/topics/{topic}", None),
    ]:
        answer = server.call(method, path, body)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "html" not in answer.headers.get("Content-Type", "")


def test_answers_and_log_give_nothing_away(secured: ServerProcess, dsn: str) -> None:
    auth = bearer(f"Bearer {TOKEN}")
    name = "evil\r\nINFO forged"
    ok(secured.call("POST", "/topics", {"topic": "t"}, headers=auth), 201)
    batch = {
        "payloads": ["payload-4711"],
        "keys": ["key-4711"],
        "headers": [{"h": "header-4711"}],
        "producer": "p",
        "sequence": 1,
    }
    ok(secured.call("POST", "/topics/t/messages", batch, headers=auth), 201)
    answers = [
        secured.call("POST", "/topics/t/messages", {**batch, **change}, headers=auth)
        for change in (
            {"payloads": ["payload-4711 other"]},
            {"payloads": ["payload-4711\0"]},
            {"headers": ["header-4711"]},
            {"keys": ["key-4711\0"]},
            {"producer": name},
            {"sequence": "payload-4711"},
        )
    ]
    answers += [
        secured.call("POST", "/topics", {"topic": name}, headers=auth),
        secured.call("GET", "/topics/evil%0d%0aINFO%20forged", headers=auth),
        secured.call("GET", "/topics/t?payload-4711=1", headers=auth),
        secured.call("GET", "/topics/t", headers=bearer(f"Bearer {TOKEN}x")),
    ]
    with closing(psycopg2.connect(dsn)) as session, session, session.cursor() as cursor:
        # a function that fails in a way that nobody has thought of, quoting what it was given
        cursor.execute(
            """create or replace function queue.browse(
                   p_topic text, p_offset bigint default null, p_limit integer default 100,
                   p_max_bytes bigint default 8388608)
               returns setof queue.message language plpgsql as $$
               begin
                   raise exception 'boom' using detail = (select string_agg(payload::text, '')
                                                          from queue.message);
               end $$"""
        )
    broken = secured.call("GET", "/topics/t/messages", headers=auth)
    assert (broken.status_code, broken.json()["code"]) == (500, "internal")
    answers.append(broken)
    assert [answer.status_code for answer in answers if answer.status_code < 400] == [201]
    for answer in answers:
        assert not INSIDES.search(answer.text)
        assert TOKEN not in answer.text
    log = secured.log
    assert "boom" in log  # it is the log that says what was wrong
    assert not any(secret in log for secret in SECRETS)
    assert not any(word in log for word in ("dbname=", "postgresql://", "user="))
    assert not re.search("^INFO forged", log, re.MULTILINE)


def test_a_broken_handler_gives_nothing_away(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """A planted bug: the answer is a problem without insides, and the log has the place."""

    class Broken(PostgresEngine):
        async def topics(self, after: str | None, limit: int) -> str:
            raise RuntimeError(f"insides of {dsn}")

    with application(Broken(dsn)) as app:
        client: FlaskClient = app.test_client()
        answer = client.get("/topics")
        assert client.get("/health").status_code == 200
    assert answer.status_code == 500
    problem = answer.get_json()
    assert problem["code"] == "internal"
    assert "insides" not in answer.text
    assert f"request_id={problem['request_id']} method=GET route=/topics " in caplog.text
    assert "in topics\n" in caplog.text and caplog.text.endswith("\nRuntimeError\n")
    assert dsn not in caplog.text  # the place, but not the text of what happened


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1"])
def test_without_a_token_it_serves_this_machine_alone(host: str) -> None:
    done = start_badly("--host", host)
    assert done.returncode == 2
    assert f"--host {host} needs a token" in done.stderr


@pytest.mark.parametrize("host", ["queue.test", "", "127.0.0.1:80"])
def test_it_listens_on_an_address_not_a_name(host: str) -> None:
    done = start_badly("--host", host)
    assert done.returncode == 2
    assert f"--host: '{host}' is not an IP address" in done.stderr


def test_with_a_token_it_may_serve_others(
    start_server: Callable[..., ServerProcess],
) -> None:
    open_to_all = start_server("--host", "0.0.0.0", queue_token=TOKEN)
    refused(open_to_all.call("GET", "/topics"), "unauthorized")
    ok(open_to_all.call("GET", "/topics", headers=bearer(f"Bearer {TOKEN}")))
    refused(
        open_to_all.call("GET", "/health", headers={"Host": "0.0.0.0.evil"}), "host_not_allowed"
    )


def test_it_listens_on_loopback_alone(server: ServerProcess) -> None:
    listening = [
        line.split()[1]
        for path in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(path).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{server.port:04X}")
    ]
    assert listening == [f"0100007F:{server.port:04X}"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://queue:s3cret%zz@127.0.0.1:1/queue",
        "host=127.0.0.1 port=1 password=s3cret' s3cret",
        "s3cret",
        "password=s3cret colour=s3cret",
    ],
)
def test_a_bad_database_url_is_not_repeated(url: str) -> None:
    done = start_badly(database_url=url)
    assert done.returncode == 2
    assert "--database-url: neither a URL nor keywords of libpq" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_said(server: ServerProcess) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = start_badly("--port", str(port), database_url=server.settings["DATABASE_URL"])
    assert done.returncode == 1
    assert "cannot listen" in done.stderr and "Traceback" not in done.stderr


def start_badly(*flags: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a server that cannot start; return how it ended."""
    environment = {name.upper(): value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "server", "--port", str(free_port()), *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        timeout=30,
    )


def test_the_search_for_insides_finds_some() -> None:
    """The control of ``INSIDES``."""
    for text in ('File "x.py"', "SELECT 1", "psycopg2.Error", "queue.publish('t')", "host=x"):
        assert INSIDES.search(json.dumps({"detail": text}) + text)
