"""The hot routes answer to the letter what Flask answers: only who routes the request is another one."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest

from server.engines.postgres.embedded import EmbeddedPostgres
from server.http.app import Environ
from server.http.door import Door
from server.http.hot import HotRoutes
from server.http.operations import Operation
from server.http.reply import Reply
from server.http.request import Request
from tests.conftest import EPOCHS_FROM_0, database
from tests.server.attacks import BODIES, GOOD, NAMES, NUMBERS, REQUESTS
from tests.server.raw import JSON, exchange, request
from tests.server_process import ServerProcess

PUBLISH = b"/topics/t/messages"
FETCH = b"/topics/t/subscribers/s/messages"
ACK = b"/topics/t/subscribers/s/ack"
TOKEN = b"Authorization: Bearer token\r\n"

PUBLISHES = [
    b'{"payloads": [1, "two", {"three" : 3.0}]}',
    b'{"payloads": [null], "keys": ["k"], "headers": [{"h": "\\u00e9"}]}',
    b'{"payloads": ["a"], "producer": "p", "sequence": 1}',
    b'{"payloads": ["a"], "producer": "p", "sequence": 1}',
    b'{"payloads": ["b"], "producer": "p", "sequence": 1}',
    b'{"payloads": [1], "keys": []}',
    b'{"payloads": [1], "headers": [5]}',
    b'{"payloads": []}',
    b'{"payloads": ["' + b"x" * 1024 * 1024 + b'"]}',
    b'{"payloads": [' + b"[" * 65 + b"]" * 65 + b"]}",
]
QUERIES = [b"", b"?limit=2", b"?limit=0", b"?limit=1.0", b"?limit=01", b"?limit=", b"?limit"]
QUERIES += [b"?limit=1&limit=2", b"?other=1", b"?after=2", b"?after=99", b"?wait=0.05&after=5"]
QUERIES += [b"?wait=61", b"?wait=-1", b"?wait=NaN", b"?limit=%31", b"?%6Cimit=1", b"?limit=%FF"]
QUERIES += [b"?after=2&epoch=0", b"?after=2&epoch=1", b"?epoch=-1", b"?epoch=x"]
QUERIES += [b"?", b"?&", b"?limit=1;after=0", b"?limit=+1", b"?limit=%2B1", b"?\xff=1"]
ACKS = [b'{"offset": 2, "epoch": 0}', b'{"offset": 1, "epoch": 0}', b'{"offset": 99, "epoch": 0}']
ACKS += [b'{"offset": 2, "epoch": 1}', b'{"offset": 2}', b"{}", b"", b"nonsense"]
HEADS = [b"Content-Type: Application/JSON; charset=utf-8\r\n", b"Content-Type: text/json\r\n"]
HEADS += [JSON + b"Expect: 100-continue\r\n", JSON + b"X-Forwarded-Host: evil.test\r\n"]
PATHS = [
    b"/topics/%74/messages",
    b"/topics/t/messages/",
    b"/topics//messages",
    b"//topics/t/messages",
]
PATHS += [b"/topics/t/messages?", b"/topics/t%2fmessages", b"/topics/t/Messages", b"/topics/t%0A"]
PATHS += [
    b"/topics/t/messages%0A",
    b"/topics/" + b"t" * 201 + b"/messages",
    b"/topics/nowhere/messages",
]
# answered before they are sent whole: whether the answer is heard then is chance
EARLY = ("chunked and far too long", "a header of 2 MB")
ELSEWHERE = [("PUT", PUBLISH), ("HEAD", FETCH), ("POST", FETCH), ("GET", ACK), ("PATCH", ACK)]
TOPICS, SUBSCRIBERS, WORKER = b"/topics", b"/topics/t/subscribers", b"/topics/t/subscribers/v"
# in this order; each of them well and badly
OTHERS: list[tuple[str, bytes, bytes]] = [
    ("POST", TOPICS, b'{"topic": "u", "description": "d"}'),
    ("POST", TOPICS, b'{"topic": "u"}'),
    ("POST", TOPICS, b'{"topic": ".."}'),
    ("POST", TOPICS, b'{"topic": 1}'),
    ("POST", SUBSCRIBERS, b'{"subscriber": "v", "start": "earliest"}'),
    ("POST", SUBSCRIBERS, b'{"subscriber": "v"}'),
    ("POST", SUBSCRIBERS, b'{"start": "sometimes"}'),
    ("POST", b"/topics/nowhere/subscribers", b"{}"),
    ("POST", b"/topics/t/subscribers/v/seek", b'{"offset": 2}'),
    ("POST", b"/topics/t/subscribers/v/seek", b'{"offset": 99}'),
    ("POST", b"/topics/t/subscribers/v/seek", b"{}"),
    ("POST", b"/topics/t/reset", b'{"offset": 1, "dry_run": true}'),
    ("POST", b"/topics/t/reset", b'{"offset": 1}'),
    ("POST", b"/topics/t/reset?x=1", b'{"offset": 1}'),
    ("PATCH", WORKER, b'{"max_attempts": 2, "ordered": true}'),
    ("PATCH", WORKER, b'{"max_attempts": 0}'),
    ("PATCH", WORKER, b""),
    ("POST", WORKER + b"/leases", b'{"limit": 2, "worker": "w"}'),
    ("POST", WORKER + b"/leases", b'{"limit": 0}'),
    ("POST", WORKER + b"/leases?x=1", b"{}"),
    ("POST", WORKER + b"/leases/1-1/ack", b"{}"),
    ("POST", WORKER + b"/leases/1-1/ack", b'{"offsets": []}'),
    ("POST", WORKER + b"/leases/%2e/ack", b"{}"),
    ("POST", WORKER + b"/leases/1-1/nack", b'{"untried": true}'),
    ("POST", WORKER + b"/leases/1-1/extend", b'{"lease_seconds": 5}'),
    ("POST", WORKER + b"/leases/1-1/extend", b"{}"),
    ("GET", WORKER + b"/leases", b""),
    ("GET", WORKER + b"/leases?after=x", b""),
    ("HEAD", WORKER + b"/dead", b""),
    ("GET", WORKER + b"/dead?after=1&limit=1", b""),
    ("POST", WORKER + b"/dead/redrive", b'{"offsets": [1]}'),
    ("DELETE", WORKER + b"/dead", b'{"offsets": [1]}'),
    ("DELETE", WORKER + b"/dead", b""),
    ("DELETE", b"/topics/t/subscribers/v", b""),
    ("DELETE", b"/topics/t/subscribers/v", b""),
    ("DELETE", b"/topics/t/subscribers/v?x=1", b""),
    ("DELETE", b"/topics/u", b""),
    ("DELETE", b"/topics/u", b""),
    ("DELETE", b"/topics/%2e", b""),
    ("PUT", b"/topics/t", b""),
    ("POST", b"/topics/t", b"{}"),
    ("GET", TOPICS, b""),
    ("HEAD", SUBSCRIBERS, b""),
]
ELSEWHERE += [("OPTIONS", PUBLISH), ("HEAD", PUBLISH), ("GET", b"/topics/t"), ("DELETE", PUBLISH)]


def requests() -> Iterator[bytes]:
    """Requests good and bad, in an order in which each has the same effect everywhere."""
    for body in PUBLISHES:
        yield request("POST", PUBLISH, body)
    yield from (request("POST", PUBLISH, body) for body, _ in BODIES.values())
    yield from (make(PUBLISH) for name, (make, _) in REQUESTS.items() if name not in EARLY)
    yield from (request("POST", PUBLISH, GOOD, head) for head in HEADS)
    yield from (request("POST", path, GOOD) for path in PATHS)
    yield from (request("POST", b"/topics/" + name + b"/messages", GOOD) for name in NAMES)
    yield request("POST", PUBLISH + b"?limit=1", GOOD)
    for query in QUERIES:
        yield request("GET", FETCH + query, head=b"", length=False)
    for client in (b"a", b"b", b"b", b"no name", b"", b"\xff"):
        yield request("GET", FETCH, head=b"Queue-Client: " + client + b"\r\n", length=False)
    for name in (b"nobody", *NAMES):
        yield request("GET", b"/topics/t/subscribers/" + name + b"/messages", head=b"")
    for body in ACKS:
        yield request("POST", ACK, body)
    yield from (request("POST", ACK, b'{"offset": %b, "epoch": 0}' % n) for n in NUMBERS)
    yield from (request(method, path) for method, path in ELSEWHERE)
    yield from (request(*other) for other in OTHERS)
    for method, path in (("POST", PUBLISH), ("GET", FETCH), ("POST", ACK)):
        yield request(method, path, GOOD).replace(b"Host: localhost", b"Host: evil.test")
        yield request(method, path, GOOD).replace(b"Host: localhost\r\n", b"")


@contextmanager
def pair(
    start: Callable[..., ServerProcess],
    cluster: EmbeddedPostgres,
    template: str,
    **settings: str,
) -> Iterator[list[ServerProcess]]:
    """Two servers, with hot routes and without, each on a database of its own with the same in it."""
    with database(cluster, template) as one, database(cluster, template) as other:
        for dsn in (one, other):
            with closing(psycopg2.connect(dsn)) as session, session, session.cursor() as cursor:
                cursor.execute(EPOCHS_FROM_0)
        servers = [
            start(database_url=one, **settings),
            start(program="tests.flask_alone", database_url=other, **settings),
        ]
        for server in servers:
            for path, body in [
                (b"/topics", b'{"topic": "t"}'),
                (PUBLISH, b'{"payloads": [1, 2, 3]}'),
                (b"/topics/t/subscribers", b'{"subscriber": "s", "start": 1}'),
            ]:
                made = exchange(server.port, request("POST", path, body, JSON + TOKEN))
                assert b" 201 Created" in made.partition(b"\r\n")[0]
        yield servers
        assert [server.stop() for server in servers] == [0, 0]  # before their databases go


def settled(answer: bytes) -> bytes:
    """Return an answer without what no two answers share."""
    answer = re.sub(rb"(?i)\r\ndate: [^\r]*", b"", answer)
    answer = re.sub(rb"(?i)\r\n(queue-other-client): [0-9]+\.[0-9]{6}", rb"\r\n\1:", answer)
    answer = re.sub(rb'"request_id":"[0-9a-f]{16}"', b'"request_id":""', answer)
    answer, secrets = re.subn(rb'"lease":"([0-9]+)-[0-9]+"', rb'"lease":"\1-"', answer)
    if secrets:  # some are shorter than others
        answer = re.sub(rb"(?i)\r\ncontent-length: [0-9]+", b"", answer)
    when = rb'"(published|created|leased|expires)_at" ?: ?"[^"]*Z"'
    return re.sub(when, rb'"\1_at":""', answer)


def compared(servers: list[ServerProcess], data: bytes) -> bytes:
    """Send bytes to both; expect the same answer, and return it."""
    half = b" HTTP/" not in data.partition(b"\r\n")[0]  # what is no request would be waited for
    hot, flask = (settled(exchange(server.port, data, half=half)) for server in servers)
    assert hot == flask, data[:200]
    return hot


def test_both_answer_the_same_to_the_letter(
    start_server: Callable[..., ServerProcess], cluster: EmbeddedPostgres, template: str
) -> None:
    with pair(start_server, cluster, template) as servers:
        answers = [compared(servers, data) for data in requests()]
        statuses = {int(answer.split()[1]) for answer in answers if answer}
        assert len(answers) > 150
        assert sum(b"\r\nqueue-other-client:" in answer.lower() for answer in answers) == 2
        assert statuses >= {200, 201, 400, 404, 405, 409, 411, 413, 415, 421, 422}
        # the control: what is different is noticed
        exchange(servers[0].port, request("POST", PUBLISH, GOOD))
        with pytest.raises(AssertionError):
            compared(servers, request("POST", PUBLISH, GOOD))


def test_both_want_the_token(
    start_server: Callable[..., ServerProcess], cluster: EmbeddedPostgres, template: str
) -> None:
    with pair(start_server, cluster, template, queue_token="token") as servers:
        for method, path, body in (
            ("POST", PUBLISH, GOOD),
            ("GET", FETCH, b""),
            ("POST", ACK, ACKS[0]),
        ):
            for head, status in (
                (JSON, 401),
                (JSON + TOKEN, 20),
                (JSON + b"Authorization: \xff\r\n", 401),
            ):
                answer = compared(servers, request(method, path, body, head))
                assert answer.startswith(b"HTTP/1.1 %d" % status)


class Recording(Door):
    """A door that remembers which operations it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def answer(self, one: Operation, request: Request, path: dict[str, str]) -> Reply:
        """Remember."""
        self.asked.append((one.name, path))
        return Reply(200, [], b"hot")


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/topics/t/messages", "publish"),
        ("GET", "/topics/a.b_C-9/subscribers/s/messages", "fetch"),
        ("POST", "/topics/t/subscribers/s/ack", "ack"),
        ("POST", "/topics/t/subscribers/s/seek", "seek"),
        ("POST", "/topics/t/subscribers", "subscribe"),
        ("DELETE", "/topics/t/subscribers/s", "unsubscribe"),
        ("POST", "/topics", "create_topic"),
        ("POST", "/topics/t/reset", "reset_topic"),
        ("DELETE", "/topics/t", "delete_topic"),
        ("GET", "/topics/t", "get_topic"),
        ("GET", "/topics", "list_topics"),
        ("GET", "/topics/t/messages", "browse"),
        ("POST", "/topics/t/messages/", None),
        ("POST", "/topics/t/messages\n", None),
        ("POST", "/topics//messages", None),
        ("POST", "/topics/a/b/messages", None),
        ("POST", "/topics/é/messages", None),
        ("PUT", "/topics/t/messages", None),
        ("HEAD", "/topics/t/subscribers/s/messages", "fetch"),
        ("HEAD", "/topics/t/messages", "browse"),
        ("GET", "/health", "health"),
        ("GET", "/openapi.json", None),
        ("PATCH", "/topics/t/subscribers/s", "configure"),
        ("POST", "/topics/t/subscribers/s/leases", "lease"),
        ("GET", "/topics/t/subscribers/s/leases", "list_leases"),
        ("POST", "/topics/t/subscribers/s/leases/1-2/ack", "ack_lease"),
        ("POST", "/topics/t/subscribers/s/leases/1-2/nack", "nack"),
        ("POST", "/topics/t/subscribers/s/leases/1-2/extend", "extend"),
        ("GET", "/topics/t/subscribers/s/dead", "list_dead"),
        ("DELETE", "/topics/t/subscribers/s/dead", "remove_dead"),
        ("POST", "/topics/t/subscribers/s/dead/redrive", "redrive"),
        ("POST", "/topics/t/subscribers/s/leases/1-2", None),
        ("POST", "/topics/t/subscribers/s/leases/1/2/ack", None),
    ],
)
def test_what_is_hot(method: str, path: str, name: str | None) -> None:
    door = Recording()

    async def others(request: Request) -> Reply:
        return Reply(200, [], b"others")

    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": ""}
    answer = asyncio.run(HotRoutes(door, others)(Environ(environ)))
    assert answer.body == (b"hot" if name else b"others")
    assert [asked for asked, _ in door.asked] == ([name] if name else [])
