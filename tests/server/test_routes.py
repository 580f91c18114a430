"""Every route through the server's real port: what it answers, and what it refuses with which code."""

from typing import Any

import pytest

import server.http.routes  # noqa: F401  (registers the operations)
from server.http.operations import OPERATIONS
from tests.conftest import numbers
from tests.server.answers import SETTINGS, TIME, ok, refused
from tests.server_process import ServerProcess

NOWHERE = "no-such-topic"
ONE = "/topics/{topic}/subscribers/{subscriber}"
LEASE = ONE + "/leases/{lease}"
# What a valid request to each route is, to find that the route knows what is missing.
ROUTES: list[tuple[str, str, object]] = [
    ("GET", "/topics/{topic}", None),
    ("DELETE", "/topics/{topic}", None),
    ("POST", "/topics/{topic}/reset", {"offset": 0}),
    ("POST", "/topics/{topic}/messages", {"payloads": [1]}),
    ("GET", "/topics/{topic}/messages", None),
    ("POST", "/topics/{topic}/subscribers", {}),
    ("GET", "/topics/{topic}/subscribers", None),
    ("GET", ONE, None),
    ("DELETE", ONE, None),
    ("GET", ONE + "/messages", None),
    ("POST", ONE + "/ack", {"offset": 0, "epoch": 0}),
    ("POST", ONE + "/seek", {"offset": 0}),
    ("PATCH", ONE, {}),
    ("POST", ONE + "/leases", {}),
    ("GET", ONE + "/leases", None),
    ("POST", LEASE + "/ack", {}),
    ("POST", LEASE + "/nack", {}),
    ("POST", LEASE + "/extend", {"lease_seconds": 1}),
    ("GET", ONE + "/dead", None),
    ("DELETE", ONE + "/dead", {}),
    ("POST", ONE + "/dead/redrive", {}),
]


class Caller:
    """A topic on a server, and a request in one line."""

    def __init__(self, server: ServerProcess, topic: str) -> None:
        self.server = server
        self.topic = topic

    def __call__(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        """Call a path below the topic's own."""
        return self.server.call(method, f"/topics/{self.topic}{path}", body, **options)

    def publish(self, *payloads: object, **members: object) -> Any:
        """Publish, and expect it to work."""
        return ok(self("POST", "/messages", {"payloads": list(payloads), **members}), 201)

    def subscribe(self, subscriber: str, start: object = "latest") -> Any:
        """Subscribe, and expect it to work."""
        return ok(self("POST", "/subscribers", {"subscriber": subscriber, "start": start}), 201)

    def fetch(self, subscriber: str, query: str = "") -> Any:
        """Fetch, and expect it to work."""
        return ok(self("GET", f"/subscribers/{subscriber}/messages{query}"))


@pytest.fixture
def call(server: ServerProcess, topic: str) -> Caller:
    return Caller(server, topic)


def test_a_topic_is_made_once(server: ServerProcess) -> None:
    name = f"made-{next(numbers)}"
    made = ok(server.call("POST", "/topics", {"topic": name, "description": "every order"}), 201)
    assert TIME.fullmatch(made["created_at"])
    assert made == {
        "topic": name,
        "description": "every order",
        "created_at": made["created_at"],
        "floor": 1,
        "head": 0,
        "subscribers": 0,
    }
    assert ok(server.call("GET", f"/topics/{name}")) == made
    refused(server.call("POST", "/topics", {"topic": name}), "topic_exists")
    assert ok(server.call("GET", f"/topics/{name}")) == made


def test_names_take_what_they_should(server: ServerProcess) -> None:
    for name in ("a", "A-b_c.9", "...", "x" * 200, "null", f"{next(numbers)}"):
        ok(server.call("POST", "/topics", {"topic": name}), 201)
        assert ok(server.call("GET", f"/topics/{name}"))["topic"] == name
        ok(server.call("GET", f"/topics?after={name}"))
        assert ok(server.call("DELETE", f"/topics/{name}"), 204) is None


def test_topics_are_listed_by_name_a_page_at_a_time(server: ServerProcess) -> None:
    prefix = f"list-{next(numbers)}"
    names = sorted(f"{prefix}-{letter}" for letter in "abXY_")
    for name in reversed(names):
        ok(server.call("POST", "/topics", {"topic": name}), 201)
    seen: list[str] = []
    after = prefix
    for _ in range(3):
        page = ok(server.call("GET", f"/topics?after={after}&limit=2"))["topics"]
        seen += [topic["topic"] for topic in page]
        after = seen[-1]
    assert seen[:5] == names
    everything = ok(server.call("GET", "/topics?limit=10000"))["topics"]
    listed = [topic["topic"] for topic in everything]
    assert listed == sorted(listed)
    assert set(names) <= set(listed)


def test_a_deleted_topic_is_gone_with_everything(call: Caller) -> None:
    call.publish(1)
    call.subscribe("s")
    assert ok(call("DELETE", ""), 204) is None
    refused(call("GET", ""), "topic_not_found")
    refused(call("DELETE", ""), "topic_not_found")
    ok(call.server.call("POST", "/topics", {"topic": call.topic}), 201)
    assert ok(call("GET", "/messages"))["messages"] == []
    refused(call("GET", "/subscribers/s"), "subscriber_not_found")
    assert call.publish(2)["first_offset"] == 1


def test_a_batch_is_stored_whole_and_browsed(call: Caller) -> None:
    headers = [{"h": 1}, None, None]
    stored = call.publish("a", {"b": []}, None, keys=["k", None, ""], headers=headers)
    assert stored == {
        "topic": call.topic,
        "first_offset": 1,
        "last_offset": 3,
        "count": 3,
        "duplicate": False,
    }
    found = ok(call("GET", "/messages"))
    times = [message.pop("published_at") for message in found["messages"]]
    assert all(TIME.fullmatch(time) for time in times)
    assert found == {
        "topic": call.topic,
        "floor": 1,
        "head": 3,
        "messages": [
            {"offset": 1, "key": "k", "headers": {"h": 1}, "payload": "a"},
            {"offset": 2, "payload": {"b": []}},
            {"offset": 3, "key": "", "payload": None},
        ],
    }


@pytest.mark.parametrize(
    ("query", "offsets"),
    [
        ("", [1, 2, 3]),
        ("?offset=2", [2, 3]),
        ("?offset=1&limit=2", [1, 2]),
        ("?offset=4", []),
        ("?limit=99999999999999999999", [1, 2, 3]),
    ],
)
def test_browse_begins_at_its_offset(call: Caller, query: str, offsets: list[int]) -> None:
    call.publish(1, 2, 3)
    found = ok(call("GET", f"/messages{query}"))["messages"]
    assert [message["offset"] for message in found] == offsets


def test_browse_ends_at_the_log(call: Caller) -> None:
    call.publish(1)
    problem = refused(call("GET", "/messages?offset=3"), "offset_out_of_range", "floor", "head")
    assert (problem["floor"], problem["head"]) == (1, 1)


def test_payloads_come_back_byte_for_byte(call: Caller) -> None:
    texts = [
        '{"b" : 1,  "a":[1.0, 1e2,0.10], "b":2}',
        '"\\u00e9\\/é😀"',
        "  -0.0 ",
        "1" * 300,
        "[ ]",
    ]
    body = f'{{"payloads": [{",".join(texts)}], "headers": [{{"x" : 1.50}},null,null,null,null]}}'
    sent = call(
        "POST", "/messages", data=body.encode(), headers={"Content-Type": "application/json"}
    )
    ok(sent, 201)
    call.subscribe("s", "earliest")
    for path in ("/messages", "/subscribers/s/messages"):
        answer = call("GET", path)
        assert answer.text.count('"payload":') == len(texts)
        for text in texts:
            assert f'"payload":{text.strip()}}}' in answer.text
        assert '"headers":{"x" : 1.50},' in answer.text


def test_a_payload_may_have_members_of_our_names(call: Caller) -> None:
    """Ours must not be given twice; what is in a payload is the publisher's own."""
    text = '{"payloads":[{"payloads":1}],"keys":1,"keys":2,"headers":"\\u0041"}'
    for body in (f'{{"payloads":[{text}]}}', f'{{"keys":["payloads"],"payloads" : [ {text} ]}}'):
        sent = call(
            "POST", "/messages", data=body.encode(), headers={"Content-Type": "application/json"}
        )
        ok(sent, 201)
    assert call("GET", "/messages").text.count(f'"payload":{text}}}') == 2


def test_a_numbered_publish_is_stored_once(call: Caller) -> None:
    first = call.publish(1, 2, producer="p", sequence=0, keys=["k", None])
    again = call.publish(1, 2, producer="p", sequence=0, keys=["k", None])
    assert again == {**first, "duplicate": True}
    other = {"payloads": [1], "producer": "p", "sequence": 0}
    refused(call("POST", "/messages", other), "sequence_conflict")
    assert call.publish(1, producer="p", sequence=1)["first_offset"] == 3
    assert call.publish(1, producer="q", sequence=0)["first_offset"] == 4
    assert ok(call("GET", ""))["head"] == 4


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({}, "invalid_request"),
        ({"payloads": []}, "invalid_request"),
        ({"payloads": {}}, "invalid_request"),
        ({"payloads": [1], "keys": []}, "invalid_request"),
        ({"payloads": [1], "keys": ["a", "b"]}, "invalid_request"),
        ({"payloads": [1], "keys": [1]}, "invalid_request"),
        ({"payloads": [1], "headers": []}, "invalid_request"),
        ({"payloads": [1], "headers": [None, None]}, "invalid_request"),
        ({"payloads": [1], "headers": ["text"]}, "invalid_message"),
        ({"payloads": [1], "headers": [[1]]}, "invalid_message"),
        ({"payloads": [1], "producer": "p"}, "invalid_request"),
        ({"payloads": [1], "sequence": 1}, "invalid_request"),
        ({"payloads": [1], "producer": "", "sequence": 1}, "invalid_request"),
        ({"payloads": [1], "producer": "p" * 201, "sequence": 1}, "invalid_request"),
        ({"payloads": [1], "producer": "p", "sequence": -1}, "invalid_request"),
        ({"payloads": [1], "producer": "p", "sequence": 2**63}, "invalid_request"),
        ({"payloads": [1], "topic": "x"}, "invalid_request"),
        ({"payloads": ["\0"]}, "invalid_message"),
        ({"payloads": [1], "headers": [{"\0": 1}]}, "invalid_message"),
        ({"payloads": [1], "keys": ["\0"]}, "invalid_request"),
    ],
)
def test_a_bad_batch_stores_nothing(call: Caller, members: dict[str, object], code: str) -> None:
    refused(call("POST", "/messages", members), code)
    assert ok(call("GET", ""))["head"] == 0


def test_a_subscriber_is_made_once_and_not_moved_again(call: Caller) -> None:
    call.publish(1, 2)
    made = call.subscribe("s")
    assert TIME.fullmatch(made["created_at"])
    assert made == {
        "topic": call.topic,
        "subscriber": "s",
        "position": 2,
        "epoch": made["epoch"],
        "head": 2,
        "lag": 0,
        "created_at": made["created_at"],
        **SETTINGS,
    }
    again = call("POST", "/subscribers", {"subscriber": "s", "start": "earliest"})
    assert ok(again, 200) == made
    assert ok(call("GET", "/subscribers/s")) == made
    assert ok(call("GET", ""))["subscribers"] == 1


@pytest.mark.parametrize(
    ("start", "position"),
    [
        ("latest", 3),
        ("earliest", 0),
        (0, 0),
        (2, 2),
        (3, 3),
        ({"timestamp": "2001-01-01T00:00:00Z"}, 0),
        ({"timestamp": "2101-01-01T00:00:00+02:00"}, 3),
    ],
)
def test_a_start_is_a_position(call: Caller, start: object, position: int) -> None:
    call.publish(1, 2, 3)
    assert call.subscribe("s", start)["position"] == position


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"start": 4}, "offset_out_of_range"),
        ({"start": -1}, "invalid_request"),
        ({"start": "middle"}, "invalid_request"),
        ({"start": None}, "invalid_request"),
        ({"start": True}, "invalid_request"),
        ({"start": {"timestamp": "2024-01-01T00:00:00"}}, "invalid_request"),
        ({"start": {"timestamp": "2024-01-01T00:00:00+23:00"}}, "invalid_request"),
        ({"start": {"time": 1}}, "invalid_request"),
        ({"subscriber": ""}, "invalid_request"),
        ({"subscriber": ".."}, "invalid_name"),
        ({"subscriber": "a\n"}, "invalid_name"),
        ({"name": "s"}, "invalid_request"),
    ],
)
def test_a_bad_start_makes_no_subscriber(call: Caller, members: object, code: str) -> None:
    call.publish(1, 2, 3)
    further = ("floor", "head") if code == "offset_out_of_range" else ()
    refused(call("POST", "/subscribers", members), code, *further)
    assert ok(call("GET", "/subscribers")) == {"subscribers": []}


def test_a_name_is_made_up_for_a_subscriber_without(call: Caller) -> None:
    names = {ok(call("POST", "/subscribers", {}), 201)["subscriber"] for _ in range(2)}
    assert len(names) == 2
    listed = ok(call("GET", "/subscribers"))["subscribers"]
    assert {subscriber["subscriber"] for subscriber in listed} == names


def test_subscribers_are_listed_by_name_a_page_at_a_time(call: Caller) -> None:
    for name in ("c", "B", "a"):
        call.subscribe(name)
    listed = ok(call("GET", "/subscribers"))["subscribers"]
    assert [one["subscriber"] for one in listed] == ["B", "a", "c"]
    assert ok(call("GET", "/subscribers?after=B&limit=1"))["subscribers"] == listed[1:2]


def test_an_unsubscribed_subscriber_is_gone(call: Caller) -> None:
    call.subscribe("s")
    assert ok(call("DELETE", "/subscribers/s"), 204) is None
    refused(call("DELETE", "/subscribers/s"), "subscriber_not_found")


def test_fetch_moves_nothing_and_ack_does(call: Caller) -> None:
    call.publish("a", "b", "c")
    epoch = call.subscribe("s", "earliest")["epoch"]
    found = call.fetch("s", "?limit=2")
    assert {name: value for name, value in found.items() if name != "messages"} == {
        "topic": call.topic,
        "subscriber": "s",
        "position": 0,
        "epoch": epoch,
        "head": 3,
    }
    assert [(m["offset"], m["payload"]) for m in found["messages"]] == [(1, "a"), (2, "b")]
    assert call.fetch("s", "?limit=2") == found
    assert [m["offset"] for m in call.fetch("s", "?after=2")["messages"]] == [3]
    acked = ok(call("POST", "/subscribers/s/ack", {"offset": 2, "epoch": epoch}))
    assert acked == {"position": 2, "epoch": epoch, "head": 3, "lag": 1}
    assert [m["offset"] for m in call.fetch("s")["messages"]] == [3]
    # an older ack, or the same again, changes nothing
    assert ok(call("POST", "/subscribers/s/ack", {"offset": 1, "epoch": epoch})) == acked
    assert ok(call("GET", "/subscribers/s"))["position"] == 2


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"offset": 3, "epoch": 0}, "offset_out_of_range"),
        ({"offset": 1, "epoch": -1}, "stale_epoch"),
        ({"offset": 1, "epoch": 1}, "stale_epoch"),
        ({"offset": 1}, "invalid_request"),
        ({"epoch": 0}, "invalid_request"),
        ({"offset": 1, "epoch": 0, "force": True}, "invalid_request"),
    ],
)
def test_a_refused_ack_moves_nothing(call: Caller, members: dict[str, int], code: str) -> None:
    """The epochs are those that far from the right one."""
    call.publish(1, 2)
    call.subscribe("s", "earliest")
    before = ok(call("POST", "/subscribers/s/seek", {"offset": 0}))
    if "epoch" in members:
        members = members | {"epoch": before["epoch"] + members["epoch"]}
    further = {"offset_out_of_range": ("floor", "head"), "stale_epoch": ("position", "epoch")}
    refused(call("POST", "/subscribers/s/ack", members), code, *further.get(code, ()))
    assert ok(call("GET", "/subscribers/s")) == before


def test_seek_moves_one_and_raises_its_epoch(call: Caller) -> None:
    call.publish(1, 2, 3)
    epoch = call.subscribe("s")["epoch"]
    other = call.subscribe("other")
    dry = ok(call("POST", "/subscribers/s/seek", {"offset": 1, "dry_run": True}))
    assert (dry["position"], dry["epoch"], dry["lag"]) == (1, epoch + 1, 2)
    assert ok(call("GET", "/subscribers/s"))["epoch"] == epoch
    assert ok(call("POST", "/subscribers/s/seek", {"offset": 1})) == dry
    time = ok(call("GET", "/messages?limit=1"))["messages"][0]["published_at"]
    moved = ok(call("POST", "/subscribers/s/seek", {"timestamp": time}))
    assert (moved["position"], moved["epoch"]) == (0, epoch + 2)
    assert ok(call("GET", "/subscribers/other")) == other


def test_an_earlier_life_is_over(call: Caller) -> None:
    """What was fetched from a subscriber, or a topic, that was since made anew goes nowhere."""
    anew = [
        lambda: ok(call("DELETE", "/subscribers/s"), 204),
        lambda: ok(call("DELETE", ""), 204),
        lambda: ok(call("POST", "/reset", {"offset": 0})),  # the same life, in another epoch
    ]
    for begin in anew:
        call.server.call("POST", "/topics", {"topic": call.topic})
        call.publish(1, 2, 3)
        call("POST", "/subscribers", {"subscriber": "s", "start": "earliest"})
        old = call.fetch("s")["epoch"]
        begin()
        call.server.call("POST", "/topics", {"topic": call.topic})
        call.publish(4, 5, 6)
        call("POST", "/subscribers", {"subscriber": "s", "start": "earliest"})
        new = ok(call("GET", "/subscribers/s"))
        further = ("position", "epoch")
        ack = call("POST", "/subscribers/s/ack", {"offset": 3, "epoch": old})
        refused(ack, "stale_epoch", *further)
        ahead = f"/subscribers/s/messages?after=2&epoch={old}"
        refused(call("GET", ahead), "stale_epoch", *further)
        refused(call("GET", ahead + "&wait=9"), "stale_epoch", *further)
        assert ok(call("GET", "/subscribers/s")) == new
        for query in (f"?after=2&epoch={new['epoch']}", "?after=2", f"?epoch={new['epoch']}"):
            assert call.fetch("s", query)["messages"]


def test_a_numbered_publish_is_new_to_a_topic_made_anew(call: Caller) -> None:
    numbered = {"producer": "p", "sequence": 7}
    assert [call.publish("a", **numbered)["duplicate"] for _ in range(2)] == [False, True]
    call.publish("b")
    ok(call("DELETE", ""), 204)
    ok(call.server.call("POST", "/topics", {"topic": call.topic}), 201)
    for duplicate in (False, True):
        assert call.publish("a", **numbered) == {
            "topic": call.topic,
            "first_offset": 1,
            "last_offset": 1,
            "count": 1,
            "duplicate": duplicate,
        }


def test_reset_moves_everybody_at_once(call: Caller) -> None:
    call.publish(1, 2, 3)
    began = {name: call.subscribe(name)["epoch"] for name in ("a", "b")}
    expected = {"topic": call.topic, "offset": 1, "subscribers": 2}
    assert ok(call("POST", "/reset", {"offset": 1, "dry_run": True})) == expected
    assert call.fetch("a")["messages"] == []
    assert ok(call("POST", "/reset", {"offset": 1})) == expected
    for name, epoch in began.items():
        found = call.fetch(name)
        assert (found["position"], found["epoch"], len(found["messages"])) == (1, epoch + 1, 2)
    assert ok(call("POST", "/reset", {"timestamp": "2001-01-01T00:00:00Z"}))["offset"] == 0


@pytest.mark.parametrize("path", ["/reset", "/subscribers/s/seek"])
@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"offset": 2}, "offset_out_of_range"),
        ({"offset": -1}, "invalid_request"),
        ({}, "invalid_request"),
        ({"offset": 0, "timestamp": "2024-01-01T00:00:00Z"}, "invalid_request"),
        ({"timestamp": "yesterday"}, "invalid_request"),
        ({"timestamp": "9999-12-31T23:59:59-23:59"}, "invalid_request"),
        ({"offset": 0, "dry_run": 1}, "invalid_request"),
        ({"offset": 0, "to": 1}, "invalid_request"),
    ],
)
def test_a_refused_move_moves_nobody(call: Caller, path: str, members: object, code: str) -> None:
    call.publish(1)
    before = call.subscribe("s")
    further = ("floor", "head") if code == "offset_out_of_range" else ()
    refused(call("POST", path, members), code, *further)
    assert ok(call("GET", "/subscribers/s")) == before


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_every_route_misses_its_topic(
    server: ServerProcess, method: str, path: str, body: object
) -> None:
    path = path.format(topic=NOWHERE, subscriber="s", lease="1-1")
    refused(server.call(method, path, body), "topic_not_found")


@pytest.mark.parametrize(("method", "path", "body"), [row for row in ROUTES if ONE in row[1]])
def test_every_route_misses_its_subscriber(
    server: ServerProcess, topic: str, method: str, path: str, body: object
) -> None:
    path = path.format(topic=topic, subscriber="nobody", lease="1-1")
    refused(server.call(method, path, body), "subscriber_not_found")


@pytest.mark.parametrize("name", ["x" * 201, "a b", "é", "%00", "%2e%2e", "a%0d%0ab"])
@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_every_route_refuses_bad_names(
    server: ServerProcess, method: str, path: str, body: object, name: str
) -> None:
    parts = {"topic": "t", "subscriber": "s", "lease": "1-1"}
    for part in parts:
        if f"{{{part}}}" in path:
            bad = path.format(**parts | {part: name})
            refused(server.call(method, bad, body), "invalid_name")


@pytest.mark.parametrize("name", ["", "x" * 201, "a b", ".", "..", "é", "a\n", "a\0"])
def test_a_topic_with_a_bad_name_is_not_made(server: ServerProcess, name: str) -> None:
    answer = server.call("POST", "/topics", {"topic": name})
    refused(answer, answer.json()["code"])
    assert answer.json()["code"] in ("invalid_name", "invalid_request")


def test_every_get_refuses_what_it_does_not_know(call: Caller) -> None:
    call.subscribe("s")
    paths = ["", "/messages", "/subscribers", "/subscribers/s"]
    paths += [f"/subscribers/s/{what}" for what in ("messages", "leases", "dead")]
    for path in [f"/topics/{call.topic}{path}" for path in paths] + [
        "/topics",
        "/health",
        "/metrics",
        "/openapi.json",
    ]:
        ok_status = call.server.call("GET", path).status_code
        assert ok_status == 200
        refused(call.server.call("GET", f"{path}?colour=red"), "invalid_request")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=1.0", "limit=", "limit=x", "limit=1&limit=1", "limit=１２"]
    + ["limit=1_0", "limit=true", "limit=null", "limit=%201", "limit=01", "limit=1e1"],
)
def test_a_limit_is_a_whole_number_from_one(call: Caller, query: str) -> None:
    call.subscribe("s")
    for path in ("/subscribers", "/messages", "/subscribers/s/messages"):
        refused(call("GET", f"{path}?{query}"), "invalid_request")
    refused(call.server.call("GET", f"/topics?{query}"), "invalid_request")


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "soon", ""])
def test_a_wait_is_up_to_a_minute(call: Caller, wait: str) -> None:
    call.subscribe("s")
    refused(call("GET", f"/subscribers/s/messages?wait={wait}"), "invalid_request")


def test_fetch_reads_ahead_inside_the_log_only(call: Caller) -> None:
    call.publish(1)
    call.subscribe("s")
    path = "/subscribers/s/messages?after="
    refused(call("GET", path + "2"), "offset_out_of_range", "floor", "head")
    refused(call("GET", path + "-1"), "invalid_request")


def test_the_service_describes_itself(server: ServerProcess) -> None:
    health = ok(server.call("GET", "/health"))
    assert health["engine"].startswith("PostgreSQL ")
    # the tests' cluster is fast, not durable, and that is said
    assert (health["status"], health["unsafe"]) == ("unsafe", ["fsync", "full_page_writes"])
    metrics = server.call("GET", "/metrics")
    assert metrics.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert ok(server.call("GET", "/openapi.json"))["openapi"] == "3.1.0"


def test_every_operation_is_called_here() -> None:
    called = {(method, path.split("?")[0]) for method, path, _ in ROUTES}
    called |= {("POST", "/topics"), ("GET", "/topics"), ("GET", "/health")}
    called |= {("GET", "/metrics"), ("GET", "/openapi.json")}
    rules = {(one.method, one.rule.replace("<", "{").replace(">", "}")) for one in OPERATIONS}
    assert called == rules
    assert len(called) == 26


def test_the_helper_notices_a_wrong_answer(call: Caller) -> None:
    with pytest.raises(AssertionError):
        refused(call("GET", ""), "topic_not_found")
    with pytest.raises(AssertionError):
        refused(call("GET", "/subscribers/s"), "topic_not_found")
    with pytest.raises(AssertionError):
        ok(call("GET", "/subscribers/s"))
