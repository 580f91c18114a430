"""Hostile input: refused without a 5xx, nothing half done, and nobody else is kept waiting.

What is sent goes over a bare socket, since client libraries do not send such things.
"""

import json
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.conftest import numbers
from tests.server.answers import ok
from tests.server.attacks import BODIES, ELSEWHERE, GOOD, NAMES, NUMBERS, REQUESTS
from tests.server.raw import JSON, request, send
from tests.server.working import Crew
from tests.server_process import ServerProcess
from tests.waiting import until

DAWDLERS = 1200
HOSTILE = ["'; drop table queue.topic; --", "\\'", "%s", "$1", "{0}", "😀", "\n"]
EXTENSION = b'{"lease_seconds": 1}'
OFFSETS = (b"/leases/1-1/ack", b"/leases/1-1/nack", b"/dead/redrive")
GIB = 1024**3  # more than a server should ever need here


class Target:
    """A topic with three messages and a subscriber in the middle; ``state`` is all that could change."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.topic = f"target-{next(numbers)}"
        self.path = f"/topics/{self.topic}/messages".encode()
        self.subscriber = f"/topics/{self.topic}/subscribers/s"
        ok(server.call("POST", "/topics", {"topic": self.topic}), 201)
        ok(server.call("POST", self.path.decode(), {"payloads": ["a", "b", "c"]}), 201)
        start = {"subscriber": "s", "start": 1}
        ok(server.call("POST", f"/topics/{self.topic}/subscribers", start), 201)
        self.before = self.state()

    def state(self) -> list[str]:
        """Return everything that the server says about the topic."""
        paths = ("", "/messages", "/subscribers", "/subscribers/s/leases", "/subscribers/s/dead")
        answers = [self.server.call("GET", f"/topics/{self.topic}{path}") for path in paths]
        assert all(answer.status_code == 200 for answer in answers)
        return [answer.text for answer in answers]

    def refuses(self, data: bytes, statuses: set[int], *, half: bool = False) -> None:
        """Send bytes; expect one of the statuses, a problem without insides, and nothing changed."""
        status, body = send(self.server.port, data, half=half)
        assert status in statuses, body[:300]
        if body:
            assert json.loads(body)["status"] == status
            assert not any(word in body for word in (b"Traceback", b"psycopg", b"File "))
        assert self.state() == self.before


@pytest.fixture(scope="module")
def target(server: ServerProcess) -> Target:
    return Target(server)


@pytest.mark.parametrize("name", BODIES)
def test_bodies(target: Target, name: str) -> None:
    body, statuses = BODIES[name]
    target.refuses(request("POST", target.path, body), statuses)


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(target: Target, name: str) -> None:
    make, statuses = REQUESTS[name]
    target.refuses(make(target.path), statuses, half=name in ("no HTTP", "no version"))


def test_a_body_that_ends_early(target: Target) -> None:
    data = request("POST", target.path, GOOD)
    for sent in (1, 40, len(data) - len(GOOD), len(data) - 1):
        target.refuses(data[:sent], {0, 400}, half=True)
    # what came is whole JSON, but it is not all that was announced
    lying = JSON + b"Content-Length: %d\r\n" % (len(GOOD) + 1)
    target.refuses(request("POST", target.path, GOOD, lying, length=False), {0, 400}, half=True)


@pytest.mark.parametrize("name", NAMES)
def test_names(target: Target, name: bytes) -> None:
    topic = f"/topics/{target.topic}".encode()
    for method, path in [
        ("GET", b"/topics/" + name),
        ("DELETE", b"/topics/" + name),
        ("GET", b"/topics/" + name + b"/messages"),
        ("GET", topic + b"/subscribers/" + name),
        ("DELETE", topic + b"/subscribers/" + name),
        ("GET", topic + b"/subscribers/" + name + b"/messages"),
        ("GET", topic + b"/subscribers/" + name + b"/leases"),
        ("GET", topic + b"/subscribers/" + name + b"/dead"),
    ]:
        target.refuses(request(method, path), {422})
    for path, body in [
        (b"/topics/" + name + b"/messages", GOOD),
        (topic + b"/subscribers/" + name + b"/ack", b'{"offset": 3, "epoch": 0}'),
        (topic + b"/subscribers/" + name + b"/seek", b'{"offset": 0}'),
        (b"/topics/" + name + b"/reset", b'{"offset": 0}'),
        (topic + b"/subscribers/" + name + b"/leases", b"{}"),
        (topic + b"/subscribers/" + name + b"/dead/redrive", b"{}"),
        *(
            (topic + b"/subscribers/s/leases/" + name + b"/" + verb, EXTENSION)
            for verb in (b"ack", b"nack", b"extend")
        ),
    ]:
        target.refuses(request("POST", path, body), {422})
    for method, path in (("PATCH", b""), ("DELETE", b"/dead")):
        target.refuses(request(method, topic + b"/subscribers/" + name + path, b"{}"), {422})


@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_that_lead_elsewhere(target: Target, name: bytes) -> None:
    for method in ("GET", "DELETE"):
        target.refuses(request(method, b"/topics/" + name), {404, 405})


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_only_text(target: Target, text: str) -> None:
    for body in ({"topic": text}, {"topic": target.topic, "description": text}):
        target.refuses(request("POST", b"/topics", json.dumps(body).encode()), {409, 422})
    other = f"text-{next(numbers)}"
    made = {"topic": other, "description": text}
    assert ok(target.server.call("POST", "/topics", made), 201)["description"] == text
    batch = {"payloads": [text], "keys": [text], "headers": [{text: text}]}
    numbered = {**batch, "producer": text if text != "\n" else "n", "sequence": 1}
    ok(target.server.call("POST", f"/topics/{other}/messages", numbered), 201)
    (message,) = ok(target.server.call("GET", f"/topics/{other}/messages"))["messages"]
    assert [message["payload"], message["key"], message["headers"]] == [text, text, {text: text}]
    ok(target.server.call("DELETE", f"/topics/{other}"), 204)
    assert target.state() == target.before


LEASING = {name: one for name, one in BODIES.items() if "payloads" not in name and one[0] != GOOD}


@pytest.mark.parametrize("path", [b"/leases", b"/leases/1-1/ack", b"/dead"])
@pytest.mark.parametrize("name", LEASING)
def test_bodies_of_workers(target: Target, path: bytes, name: str) -> None:
    body, statuses = LEASING[name]
    own = target.subscriber.encode() + path
    method = "DELETE" if path == b"/dead" else "POST"
    # there is no member for messages: 422 is right wherever the text is JSON
    target.refuses(request(method, own, body), statuses | {422})


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_of_workers_is_only_text(server: ServerProcess, topic: str, text: str) -> None:
    crew = Crew(server, topic)
    crew.subscribe(max_attempts=1)
    crew.publish(1)
    leased = crew.lease(1, worker=text)
    assert [one["worker"] for one in crew.leases()] == [text]
    assert crew.nack(leased, error=text) == (0, 1)
    assert [(one["worker"], one["error"]) for one in crew.dead()] == [(text, text)]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers(target: Target, number: bytes) -> None:
    subscriber = target.subscriber.encode()
    topic = f"/topics/{target.topic}".encode()
    for path, body in [
        (subscriber + b"/ack", b'{"offset": %b, "epoch": 0}'),
        (subscriber + b"/ack", b'{"offset": 3, "epoch": %b}'),
        (subscriber + b"/seek", b'{"offset": %b}'),
        (topic + b"/reset", b'{"offset": %b}'),
        (topic + b"/subscribers", b'{"subscriber": "n", "start": %b}'),
        (topic + b"/messages", b'{"payloads": [1], "producer": "p", "sequence": %b}'),
        *((subscriber + path, b'{"offsets": [%b]}') for path in OFFSETS),
        (subscriber + b"/leases", b'{"limit": 0, "worker": %b}'),
        (subscriber + b"/leases", b'{"lease_seconds": %b, "limit": 0}'),
        (subscriber + b"/leases/1-1/extend", b'{"lease_seconds": %b}'),
        (subscriber + b"/leases/1-1/nack", b'{"delay_seconds": %b}'),
        (topic + b"/subscribers", b'{"subscriber": "n", "start": 99, "max_attempts": %b}'),
    ]:
        target.refuses(request("POST", path, body % number), {409, 422})
    for body in (b'{"max_attempts": %b, "ordered": 0}', b'{"backoff_seconds": %b, "x": 1}'):
        target.refuses(request("PATCH", subscriber, body % number), {422})
    target.refuses(request("DELETE", subscriber + b"/dead", b'{"offsets": [%b]}' % number), {422})


@pytest.mark.parametrize("number", [b"9223372036854775808", b"-1", b"1.0", b"true", b"1_0", b"+1"])
def test_numbers_in_queries(target: Target, number: bytes) -> None:
    for path in (
        target.path + b"?offset=" + number,
        target.subscriber.encode() + b"/messages?after=" + number,
        target.subscriber.encode() + b"/leases?after=" + number,
        target.subscriber.encode() + b"/dead?after=" + number,
    ):
        target.refuses(request("GET", path), {422})
    fullwidth = b"?limit=%EF%BC%91"
    target.refuses(request("GET", target.path + fullwidth), {422})


def test_the_target_notices_what_slips_through(target: Target) -> None:
    """The control of everything above: a request that is no attack."""
    other = Target(target.server)
    with pytest.raises(AssertionError):
        other.refuses(request("POST", other.path, GOOD), {400})
    assert other.state() != other.before


@pytest.fixture(scope="module", autouse=True)
def enough_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture
def sockets(server: ServerProcess) -> Iterator[Callable[[bytes], socket.socket]]:
    """Open connections that send some bytes and then stay."""
    with ExitStack() as opened:

        def open_one(data: bytes) -> socket.socket:
            one = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            opened.enter_context(closing(one))
            one.sendall(data)
            return one

        yield open_one


def test_the_server_may_open_enough_files(start_server: Callable[..., ServerProcess]) -> None:
    """Every connection is a file, and many systems begin with 256."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = start_server()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed, _ = resource.prlimit(server.worker(), resource.RLIMIT_NOFILE)
    assert allowed >= min(hard, 16384)


def memory(pid: int) -> int:
    """Return how much memory a process has in use, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def files(pid: int) -> int:
    """Return how many files a process has open; a connection is one."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def others_are_served(target: Target) -> None:
    """Expect a publish, a fetch and a look to work within the time of one patient client."""
    topic = f"/topics/{target.topic}"
    stored = target.server.call("POST", f"{topic}/messages", {"payloads": [1]})
    offset = ok(stored, 201)["last_offset"]
    found = ok(target.server.call("GET", f"{target.subscriber}/messages"))
    assert found["messages"][-1]["offset"] == found["head"] == offset
    ok(target.server.call("GET", "/health"))


def test_half_headers_keep_nobody_waiting(
    server: ServerProcess, sockets: Callable[[bytes], socket.socket]
) -> None:
    target = Target(server)
    before = threads(server.worker())
    dawdlers = [sockets(b"POST /topics HTTP/1.1\r\nHost: loc") for _ in range(DAWDLERS)]
    others_are_served(target)
    for dawdler in dawdlers[::3]:
        dawdler.sendall(b"a")  # and one more byte now and then
    others_are_served(target)
    assert threads(server.worker()) < before + 100  # half a header costs no thread
    assert memory(server.worker()) < GIB


def test_half_bodies_keep_nobody_waiting(
    server: ServerProcess, sockets: Callable[[bytes], socket.socket]
) -> None:
    target = Target(server)
    data = request("POST", target.path, GOOD)
    worker = server.worker()
    before = threads(worker)
    dawdlers = [sockets(data[:-3]) for _ in range(DAWDLERS)]
    until(lambda: files(worker) > DAWDLERS)  # all of them have been taken
    others_are_served(target)
    assert threads(worker) < before + 100  # half a body costs no thread
    for dawdler in dawdlers[::3]:
        dawdler.sendall(data[-3:-2])
    others_are_served(target)
    assert memory(server.worker()) < GIB
    assert ok(server.call("GET", f"/topics/{target.topic}"))["head"] == 5
    dawdlers[1].sendall(data[-3:])  # whoever comes to an end after all is served
    assert b" 201 Created" in dawdlers[1].recv(100)
    for dawdler in dawdlers:
        dawdler.close()
    others_are_served(target)
    assert ok(server.call("GET", f"/topics/{target.topic}"))["head"] == 7


def test_slow_readers_keep_nobody_waiting(
    server: ServerProcess, sockets: Callable[[bytes], socket.socket]
) -> None:
    target = Target(server)
    for _ in range(4):
        batch = {"payloads": ["x" * 1_000_000] * 2}
        ok(server.call("POST", target.path.decode(), batch), 201)
    readers = [sockets(request("GET", target.path)) for _ in range(20)]
    for reader in readers:
        assert reader.recv(12) == b"HTTP/1.1 200"  # and not one byte more
    others_are_served(target)
    assert memory(server.worker()) < GIB
    received = b""
    while chunk := readers[0].recv(1 << 20):
        received += chunk
    assert len(json.loads(received.partition(b"\r\n\r\n")[2])["messages"]) == 11
