"""What is refused is refused in words for people: what, by which rule, and what came instead."""

import json
import re
from typing import Any

import pytest

import server.http.routes  # noqa: F401  (registers the operations)
from server.http import schemas
from server.http.openapi import document
from server.http.operations import OPERATIONS
from server.http.sentences import of_value
from tests.server.answers import ok, refused
from tests.server.raw import JSON, exchange, request
from tests.server_process import ServerProcess

# what only a program would say: types in quotation marks, patterns, paths with a dollar
FOR_PROGRAMS = re.compile(
    r"`|\$|Expected|regex|\^|Object |enum|got |msgspec|codec|malformed|null \||\| null|truncated"
)

# path, body -> what is said
SAID: list[tuple[str, object, str]] = [
    ("/topics", {"topic": "a/b"}, "a topic's name is 1 to 200 of A-Z a-z 0-9 . _ -, not 'a/b'"),
    ("/topics", {"topic": 5}, "a topic's name is 1 to 200 of A-Z a-z 0-9 . _ -, not 5"),
    ("/topics", {"topic": None}, "a topic's name is 1 to 200 of A-Z a-z 0-9 . _ -, not null"),
    ("/topics", {}, "topic is missing: it is 1 to 200 of A-Z a-z 0-9 . _ -"),
    ("/topics", [1], "the body is a JSON object, not [1]"),
    ("/topics", None, "the body is a JSON object, not null"),
    (
        "/topics",
        {"topic": "a", "description": "x" * 1001},
        "description is a text of at most 1,000 characters, not '" + "x" * 58 + "…",
    ),
    (
        "/topics",
        {"topics": "a"},
        "there is no member 'topics' here: did you mean topic, which is 1 to 200 of A-Z a-z 0-9 . _ -?",
    ),
    ("/topics", {"zzz": 1}, "there is no member 'zzz' here; there are topic, description"),
    (
        "/topics/T/messages",
        {"payload": 1},
        "there is no member 'payload' here: did you mean payloads, "
        "which is an array of 1 to 10,000 payloads, each any JSON?",
    ),
    (
        "/topics/T/messages",
        {"payloads": {}},
        "payloads is an array of 1 to 10,000 payloads, each any JSON, not {}",
    ),
    (
        "/topics/T/messages",
        {"payloads": []},
        "payloads is an array of 1 to 10,000 payloads, each any JSON, not []",
    ),
    (
        "/topics/T/messages",
        {"payloads": [1], "keys": [5]},
        "keys is an array with a text or null for each payload, and keys[0] is 5",
    ),
    (
        "/topics/T/messages",
        {"payloads": [1], "sequence": 2**63},
        "sequence is an integer from 0 to 9223372036854775807, not 9223372036854775808",
    ),
    (
        "/topics/T/subscribers",
        {"start": "now"},
        'start is "latest", "earliest", a position, or {"timestamp": a time with its zone}, not \'now\'',
    ),
    (
        "/topics/T/subscribers",
        {"start": {"timestamp": "2024-01-01T00:00:00"}},
        'start is "latest", "earliest", a position, or {"timestamp": a time with its zone}, '
        "and start.timestamp is '2024-01-01T00:00:00'",
    ),
    (
        "/topics/T/subscribers/s/ack",
        {"offset": True, "epoch": 0},
        "offset is an integer from 0 to 9223372036854775807, not true",
    ),
    (
        "/topics/T/subscribers/s/seek",
        {"timestamp": "yesterday"},
        "timestamp is a time with its zone, as in 2024-02-29T12:00:00Z, not 'yesterday'",
    ),
    ("/topics/T/subscribers/s/seek", {"dry_run": 1}, "dry_run is true or false, not 1"),
    (
        "/topics/T/subscribers/s/leases",
        {"worker": "x" * 201},
        "worker is a text of at most 200 characters, not '" + "x" * 58 + "…",
    ),
    (
        "/topics/T/subscribers/s/leases",
        {"seconds": 5},
        "there is no member 'seconds' here: did you mean lease_seconds, "
        "which is a number of seconds from 0.001 to 43,200?",
    ),
    (
        "/topics/T/subscribers/s/leases/1-1/ack",
        {"offsets": [1, 0]},
        "offsets is an array of 1 to 10,000 offsets, each an integer from 1 on, and offsets[1] is 0",
    ),
    (
        "/topics/T/subscribers/s/leases/1-1/nack",
        {"delay_seconds": -1},
        "delay_seconds is a number of seconds from 0 to 604,800, not -1",
    ),
    (
        "/topics/T/subscribers/s/leases/1-1/nack",
        {"error": 404},
        "error is a text of at most 10,000 characters, not 404",
    ),
    (
        "/topics/T/subscribers/s/leases/1-1/extend",
        {},
        "lease_seconds is missing: it is a number of seconds from 0.001 to 43,200",
    ),
    (
        "/topics/T/subscribers",
        {"max_attempts": 0},
        "max_attempts is an integer from 1 to 10,000, not 0",
    ),
    ("/topics/T/subscribers", {"ordered": "yes"}, "ordered is true or false, not 'yes'"),
    (
        "/topics/T/subscribers/s/dead/redrive",
        {"limit": 0},
        "limit is an integer from 1 on, not 0",
    ),
]
# path -> what is said
ASKED = {
    "/topics?limit=0": "limit is an integer from 1 on, not '0'",
    "/topics?limit=1.0": "limit is an integer from 1 on, not '1.0'",
    "/topics?limit=": "limit is an integer from 1 on, not ''",
    "/topics?after=a%2Fb": "after is 1 to 200 of A-Z a-z 0-9 . _ -, not 'a/b'",
    "/topics?limits=5": (
        "there is no parameter 'limits' here: did you mean limit, which is an integer from 1 on?"
    ),
    "/topics/T?x=1": "there is no parameter 'x' here",
    "/topics/T/messages?offset=0": "offset is an integer from 1 to 9223372036854775807, not '0'",
    "/topics/T/subscribers/s/messages?wait=NaN": "wait is a number of seconds from 0 to 60, not 'NaN'",
    "/topics/T/subscribers/s/messages?wait=61": "wait is a number of seconds from 0 to 60, not '61'",
    "/topics/a%20b": "a topic's name is 1 to 200 of A-Z a-z 0-9 . _ -, not 'a b'",
    "/topics/T/subscribers/%F0%9F%98%80": (
        "a subscriber's name is 1 to 200 of A-Z a-z 0-9 . _ -, not '😀'"
    ),
    "/topics/T/subscribers/s/leases?after=x": (
        "after is an integer from 0 to 9223372036854775807, not 'x'"
    ),
    "/topics/T/subscribers/s/dead?limit=0": "limit is an integer from 1 on, not '0'",
}
# a body that is no JSON -> what is said
TEXTS = {
    b"": "the body is empty: send a JSON object",
    b" ": "the body is empty: send a JSON object",
    b'{"payloads":[1': "the body is not JSON: it ends too early",
    b"{'payloads':[1]}": "the body is not JSON: object keys must be strings (byte 1)",
    b'{"payloads":["\xff"]}': "the body is not UTF-8, from byte 14 on",
    b'{"payloads":[1,1e400]}': "message 1 holds a number that is too large for its readers",
}


@pytest.mark.parametrize(("path", "body", "said"), SAID)
def test_a_body(server: ServerProcess, topic: str, path: str, body: object, said: str) -> None:
    text = json.dumps(body).encode()
    answer = server.call(
        "POST",
        path.replace("T", topic),
        data=text,
        headers={"Content-Type": "application/json"},
    )
    assert refused(answer, "invalid_request")["detail"] == said


@pytest.mark.parametrize("path", ASKED)
def test_a_query_or_a_path(server: ServerProcess, topic: str, path: str) -> None:
    answer = server.call("GET", path.replace("/T", f"/{topic}"))
    assert answer.status_code == 422
    assert answer.json()["detail"] == ASKED[path]


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_no_json(server: ServerProcess, topic: str, text: bytes) -> None:
    path = f"/topics/{topic}/messages".encode()
    answer = exchange(server.port, request("POST", path, text, JSON))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["detail"] == TEXTS[text]


def test_the_two_names_that_every_url_library_eats(server: ServerProcess) -> None:
    assert refused(server.call("POST", "/topics", {"topic": ".."}), "invalid_name")
    answer = exchange(server.port, request("GET", b"/topics/%2E%2E", b"", b""))
    assert b"0-9 . _ - and neither . nor .., not '..'" in answer


def test_a_name_that_is_not_the_servers(server: ServerProcess) -> None:
    answer = server.call("GET", "/health", headers={"Host": "evil.test:80"})
    detail = refused(answer, "host_not_allowed")["detail"]
    assert detail.startswith("this server does not answer to 'evil.test': start it with --allow")


WRONG: list[Any] = [None, True, -1, 1.5, 2**70, "", "é", "x" * 20_000, [], [None, {}], {}, {"a": 1}]


def everything_wrong() -> list[tuple[str, str, bytes]]:
    """Return requests with each member and parameter wrong in each way, and with none at all."""
    requests = []
    for one in OPERATIONS:
        path = one.rule.replace("<topic>", "t").replace("<subscriber>", "s")
        path = path.replace("<lease>", "1-1")
        for name in one.body.__struct_fields__ if one.body else ():
            for value in WRONG:
                needed = {
                    "topic": "a",
                    "offset": 1,
                    "epoch": 1,
                    "payloads": [1],
                    "lease_seconds": 1,
                }
                fields = {k: v for k, v in needed.items() if k in one.body.__struct_fields__}
                requests.append((one.method, path, json.dumps(fields | {name: value}).encode()))
        if one.body:
            requests += [(one.method, path, text) for text in (b"[]", b"{}", b'"', b'{"x": 1}')]
        for name in one.query.__struct_fields__ if one.query else ():
            requests += [
                (one.method, f"{path}?{name}={v}", b"") for v in ("-1", "x", "1e9", "%C3%A9")
            ]
    return requests


def test_no_refusal_is_for_programs(server: ServerProcess) -> None:
    said = []
    for method, path, body in everything_wrong():
        head = JSON if body else b""
        answer = exchange(server.port, request(method, path.encode(), body, head))
        status, problem = int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]
        assert status < 500
        if status >= 400:
            said.append(json.loads(problem)["detail"])
    assert len(said) > 100
    assert [detail for detail in said if FOR_PROGRAMS.search(detail) or len(detail) > 250] == []
    assert FOR_PROGRAMS.search("Expected `int`, got `str`")  # the control


def test_every_type_of_a_request_has_its_rule() -> None:
    kinds = [kind for one in OPERATIONS for kind in (one.body, one.query) if kind]
    for kind in kinds:
        for name in kind.__struct_fields__:
            assert "a JSON object" not in of_value(kind, name, 0), (kind, name)
    assert "a JSON object" in of_value(schemas.Page, "unknown", 0)  # the control
    assert '"rule"' not in json.dumps(document())


def test_a_value_that_cannot_be_read_again_is_left_out(server: ServerProcess, topic: str) -> None:
    body = b'{"payloads": [1e400], "keys": 5}'
    answer = exchange(
        server.port, request("POST", f"/topics/{topic}/messages".encode(), body, JSON)
    )
    assert b'"keys is an array with a text or null for each payload"' in answer
    assert ok(server.call("GET", f"/topics/{topic}"))["head"] == 0
