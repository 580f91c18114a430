"""Two readers under one name: each hears of the other, and nobody else does."""

from typing import Any

import pytest

from server.queue import readers
from server.queue.readers import Readers
from tests.server.answers import ok, refused
from tests.server_process import ServerProcess


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stands = Clock()
    monkeypatch.setattr(readers, "time", stands)
    return stands


def test_who_fetched_before(clock: Clock) -> None:
    seen = Readers()
    assert seen.other("t", "s", "a") is None
    clock.now += 1
    assert seen.other("t", "s", "a") is None  # the same one
    clock.now += 2
    assert seen.other("t", "s", "b") == 2.0
    assert seen.other("t", "s", "b") == 2.0
    clock.now += 3
    assert seen.other("t", "s", "b") == 5.0  # a has gone, say
    assert seen.other("t", "s", "a") == 0.0
    assert seen.other("t", "s", "c") == 0.0
    assert [seen.other("t", "x", "d"), seen.other("u", "s", "e")] == [None, None]
    clock.now += 60
    assert seen.other("t", "s", "c") == 60.0
    clock.now += 0.001
    assert seen.other("t", "s", "c") is None


def test_those_who_fetched_longest_ago_are_forgotten_first(clock: Clock) -> None:
    seen = Readers(most=3)
    for subscriber in "abc":
        seen.other("t", subscriber, "first")
    seen.other("t", "a", "first")
    seen.other("t", "d", "first")  # b has to go
    assert {one: seen.other("t", one, "second") for one in "acd"} == {"a": 0, "c": 0, "d": 0}
    assert seen.other("t", "b", "second") is None
    assert len(seen._last) == 3
    assert Readers()._most == 100_000


def test_a_fetch_tells(server: ServerProcess, topic: str) -> None:
    path = f"/topics/{topic}/subscribers"
    for name in ("s", "other"):
        ok(server.call("POST", path, {"subscriber": name}), 201)

    def told(client: str | None, name: str = "s", query: str = "") -> Any:
        headers = {} if client is None else {"Queue-Client": client}
        answer = server.call("GET", f"{path}/{name}/messages{query}", headers=headers)
        assert answer.status_code == 200
        return answer.headers.get("Queue-Other-Client")

    assert [told("a"), told("a"), told(None), told("b", "other")] == [None] * 4
    assert 0.0 <= float(told("b")) < 60.0
    assert told(None) is None
    assert 0.0 <= float(told("a", query="?wait=0.01")) < 60.0
    for wrong in ("", "a b", "é", "a" * 201):
        answer = server.call(
            "GET", f"{path}/s/messages", headers={"Queue-Client": wrong.encode("latin-1")}
        )
        detail = refused(answer, "invalid_request")["detail"]
        assert detail.startswith("Queue-Client is 1 to 200 of A-Z a-z 0-9 . _ -, not '")


def test_a_fetch_that_found_nobody_is_not_remembered(server: ServerProcess, topic: str) -> None:
    path = f"/topics/{topic}/subscribers"
    early = server.call("GET", f"{path}/s/messages", headers={"Queue-Client": "a"})
    refused(early, "subscriber_not_found")
    ok(server.call("POST", path, {"subscriber": "s"}), 201)
    answer = server.call("GET", f"{path}/s/messages", headers={"Queue-Client": "b"})
    assert "Queue-Other-Client" not in answer.headers
