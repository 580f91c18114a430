"""Dead letters over HTTP. The numbers are those of the list of edge cases."""

from typing import Any

import pytest

from tests.server.answers import TIME, ok, refused
from tests.server.working import BACK, Crew, attempts, offsets
from tests.waiting import until


def test_18_20_the_last_attempt_buries(crew: Crew) -> None:
    crew.configure(max_attempts=2)
    crew.publish(1, ["k"])
    leased = crew.lease(11, worker="cook 1")
    crew.ack(leased, *range(2, 10))
    assert crew.nack(leased, 1, 10, error="first") == (2, 0)
    leased_again = crew.lease(2, worker="cook 2")
    assert (offsets(leased_again), attempts(leased_again)) == ([1, 10], [2, 2])
    assert crew.nack(leased, 11, error='said "no"', delay_seconds=0) == (1, 0)
    assert crew.nack(leased_again, 1, error="second\n") == (0, 1)
    assert crew.ack(leased_again) == (1, 10)  # the position passes the dead one
    (dead,) = crew.dead()
    assert TIME.fullmatch(dead["died_at"])
    (message,) = ok(crew.server.call("GET", f"/topics/{crew.topic}/messages?limit=1"))["messages"]
    assert dead == message | {
        "attempts": 2,
        "reason": "nacked",
        "error": "second\n",
        "worker": "cook 2",
        "died_at": dead["died_at"],
    }
    crew.nack(crew.lease(), 11, error="gone")
    assert crew.dead("?after=1")[0]["key"] == "k"


def test_18_one_attempt_is_one(crew: Crew) -> None:
    crew.configure(max_attempts=1)
    assert crew.nack(crew.lease(2)) == (0, 2)
    assert [(one["attempts"], one["error"], one["worker"]) for one in crew.dead()] == [
        (1, None, None)
    ] * 2
    assert crew.position == 2


def test_19_the_last_attempt_that_expires_buries_at_the_next_lease(crew: Crew) -> None:
    crew.configure(max_attempts=2)
    crew.nack(crew.lease(1), error="the last words")
    crew.expire(crew.lease(1, worker="lost"))
    assert crew.dead() == []
    assert offsets(crew.lease(1)) == [2]
    (dead,) = crew.dead()
    assert [dead[name] for name in ("offset", "attempts", "reason", "error", "worker")] == [
        1, 2, "expired", "the last words", "lost",
    ]  # fmt: skip


def test_19_without_a_worker_it_is_housekeeping_that_buries(crew: Crew) -> None:
    crew.configure(max_attempts=1)
    crew.expire(crew.lease(1))
    assert crew.dead() == []

    def buried_by_housekeeping() -> bool:
        crew.ask("select queue.tidy()")  # as the server itself does, once a minute
        return offsets(crew.dead()) == [1]

    until(buried_by_housekeeping, BACK)
    assert crew.position == 1


def test_21_settings_count_from_now_on(crew: Crew) -> None:
    crew.configure(max_attempts=1)
    assert crew.nack(crew.lease(1)) == (0, 1)
    crew.configure(max_attempts=3)
    assert offsets(crew.dead()) == [1]  # it is dead
    leased = crew.lease(1)
    crew.configure(max_attempts=1)
    assert crew.nack(leased) == (0, 1)


def test_22_a_poison_message_blocks_nobody(crew: Crew) -> None:
    crew.configure(max_attempts=3)
    for _ in range(3):
        leased = crew.lease(4)
        assert offsets(leased)[0] == 1
        crew.nack(leased, 1, error="poison")
        assert crew.ack(leased, *offsets(leased)[1:])[0] == 3
    assert (crew.position, offsets(crew.dead())) == (10, [1])


def buried(crew: Crew, count: int) -> None:
    """Bury the first messages."""
    crew.configure(max_attempts=1)
    assert crew.nack(crew.lease(count), error="bad") == (0, count)


def test_dead_letters_are_listed_a_page_at_a_time(crew: Crew) -> None:
    buried(crew, 5)
    pages = [crew.dead(f"?limit=2&after={after}") for after in (0, 2, 4, 5)]
    assert [offsets(page) for page in pages] == [[1, 2], [3, 4], [5], []]
    assert offsets(crew.dead("?limit=10001")) == [1, 2, 3, 4, 5]


def test_43_redrive_gives_the_first_ones_back_and_twice_the_next_ones(crew: Crew) -> None:
    buried(crew, 5)
    other = Crew(crew.server, crew.topic, "billing")
    other.subscribe(start="latest")
    assert [crew.redrive(limit=2), crew.redrive(limit=2)] == [2, 2]
    assert offsets(crew.dead()) == [5]  # those that are out are not listed
    leased = crew.lease(4)
    assert (offsets(leased), attempts(leased)) == ([1, 2, 3, 4], [1, 1, 1, 1])
    assert other.lease(10)["lease"] is None
    assert crew.ack(leased, 2, 3, 4) == (3, 5)  # below the position, which stays
    assert crew.nack(leased, 1, error="again") == (0, 1)
    assert [(one["offset"], one["attempts"], one["error"]) for one in crew.dead()] == [
        (1, 1, "again"),
        (5, 1, "bad"),
    ]
    assert [crew.redrive(), crew.redrive()] == [2, 0]


def test_43_redrive_and_remove_take_those_that_are_asked_for(crew: Crew) -> None:
    buried(crew, 5)
    assert crew.redrive(offsets=[4, 2, 9, 4]) == 2
    assert offsets(crew.dead()) == [1, 3, 5]
    assert crew.remove_dead(offsets=[3, 4]) == 1  # the other one is out
    assert crew.remove_dead(limit=1) == 1
    assert offsets(crew.dead()) == [5]
    assert [crew.remove_dead(), crew.remove_dead()] == [1, 0]
    assert offsets(crew.lease(2)) == [2, 4]


@pytest.mark.parametrize("body", [
    {"limit": 0}, {"limit": -1}, {"limit": True}, {"limit": 1.0}, {"limit": "1"}, {"limit": None},
    {"offset": [1]}, {"after": 1}, [], "1",
])  # fmt: skip
@pytest.mark.parametrize("how", [("POST", "/dead/redrive"), ("DELETE", "/dead")])
def test_what_is_not_understood_touches_nothing(
    crew: Crew, how: tuple[str, str], body: Any
) -> None:
    buried(crew, 2)
    refused(crew.call(*how, body), "invalid_request")
    assert offsets(crew.dead()) == [1, 2]
    assert crew.lease(10)["messages"][0]["offset"] == 3


def test_a_request_without_its_body_removes_nothing(crew: Crew) -> None:
    """Some proxies drop the body of a DELETE: then nobody knows which were meant."""
    buried(crew, 2)
    headers = {"Content-Type": "application/json"}
    path = f"/topics/{crew.topic}/subscribers/kitchen/dead"
    refused(crew.server.call("DELETE", path, headers=headers), "invalid_json")
    refused(crew.call("DELETE", "/dead"), "unsupported_media_type")
    assert offsets(crew.dead()) == [1, 2]


def test_a_copy_is_what_was_published(crew: Crew) -> None:
    payload = {"b": [1, 2.50, None], "a": "é"}
    batch = {"payloads": [payload], "keys": [""], "headers": [{"h": {"x": 1}}]}
    ok(crew.server.call("POST", f"/topics/{crew.topic}/messages", batch), 201)
    buried(crew, 11)
    text = crew.call("GET", "/dead?after=10").text
    browsed = crew.server.call("GET", f"/topics/{crew.topic}/messages?offset=11").text
    stored = browsed.partition('"payload":')[2].removesuffix("}]}")
    assert f'"payload":{stored},"attempts":1' in text
    (dead,) = crew.dead("?after=10")
    assert (dead["payload"], dead["key"], dead["headers"]) == (payload, "", {"h": {"x": 1}})
