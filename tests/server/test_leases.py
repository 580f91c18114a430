"""Leases over HTTP: who gets what, until when, and what ack, nack and extend do.

The numbers are those of the list of edge cases. What concerns the ledger alone is tested in tests/sql.
"""

from contextlib import closing
from datetime import datetime
from typing import Any

import psycopg2
import pytest

from tests.server.answers import TIME, ok, refused
from tests.server.working import NOTHING, Crew, attempts, dsn_of, offsets
from tests.server_process import ServerProcess

WRONG_OFFSETS: list[Any] = [[], [0], [-1], [1.0], [True], ["1"], [None], [2**63], 1, {}, "1"]
WRONG_OFFSETS.append([1] * 10_001)


def test_a_lease_is_what_it_says(crew: Crew) -> None:
    crew.publish(1, ["k"])
    leased = crew.lease(11, 30, worker="cook 1")
    assert (leased["topic"], leased["subscriber"]) == (crew.topic, crew.subscriber)
    assert leased["lease"].replace("-", "", 1).isdecimal()
    assert TIME.fullmatch(leased["expires_at"])
    browsed = ok(crew.server.call("GET", f"/topics/{crew.topic}/messages"))["messages"]
    assert leased["messages"] == [{**message, "attempt": 1} for message in browsed]
    assert leased["messages"][10]["key"] == "k" and len(browsed) == 11
    (listed,) = crew.leases()
    assert TIME.fullmatch(listed["leased_at"])
    assert listed == {
        "lease": leased["lease"].partition("-")[0],  # without its secret
        "worker": "cook 1",
        "offsets": [*range(1, 12)],
        "attempt": 1,
        "leased_at": listed["leased_at"],
        "expires_at": leased["expires_at"],
    }
    length = datetime.fromisoformat(listed["expires_at"]) - datetime.fromisoformat(
        listed["leased_at"]
    )
    assert length.total_seconds() == 30
    done = ok(crew.of(leased, "ack", {}))
    epoch = ok(crew.call("GET"))["epoch"]
    assert done == {"acked": 11, "position": 11, "epoch": epoch, "head": 11, "lag": 0}
    assert crew.leases() == []


def test_leases_are_listed_a_page_at_a_time(crew: Crew) -> None:
    numbers = [int(crew.lease()["lease"].partition("-")[0]) for _ in range(3)]
    assert numbers == sorted(numbers)
    pages = [crew.leases(f"?limit=2&after={after}") for after in (0, numbers[1], numbers[2])]
    assert [[int(one["lease"]) for one in page] for page in pages] == [
        numbers[:2],
        numbers[2:],
        [],
    ]
    assert len(crew.leases("?limit=10001")) == 3


@pytest.mark.parametrize(
    "body",
    [
        *({"limit": n} for n in (0, -1, 1.0, True, "1", None)),
        *({"lease_seconds": s} for s in (0, 0.0009, -1, 43_200.1, True, "30", None)),
        *({"wait": s} for s in (-0.1, 60.1, "1", None)),
        *({"worker": w} for w in ("x" * 201, 5, "\0", "\ud800")),
        {"limits": 1},
        [],
    ],
)
def test_01_a_lease_out_of_range_is_refused_and_nothing_is_written(crew: Crew, body: Any) -> None:
    before = crew.rows()
    code = "invalid_json" if body == {"worker": "\ud800"} else "invalid_request"
    refused(crew.call("POST", "/leases", body), code)
    assert crew.rows() == before
    assert crew.leases() == []
    assert offsets(crew.lease(2**31)) == [*range(1, 11)]  # the control


def test_01_a_large_limit_is_clamped(crew: Crew) -> None:
    crew.publish(9_991)
    leased = crew.lease(2**63, 43_200, worker="é" * 200)
    assert len(leased["messages"]) == 10_000
    assert offsets(crew.lease(10_001, 0.001)) == [10_001]


def test_02_nothing_to_do_writes_nothing(crew: Crew) -> None:
    assert len(crew.lease(10)["messages"]) == 10
    before = crew.rows()
    for _ in range(50):
        leased = crew.lease(10)
        assert {name: leased[name] for name in NOTHING} == NOTHING
    assert crew.rows() == before
    assert before["hold"] == 1


def test_03_a_worker_that_leases_twice_has_two_leases(crew: Crew) -> None:
    first, second = crew.lease(3, worker="a"), crew.lease(3, worker="a")
    assert (offsets(first), offsets(second)) == ([1, 2, 3], [4, 5, 6])
    refused(crew.of(first, "ack", {"offsets": [4]}), "invalid_request")
    assert [crew.ack(second), crew.ack(first)] == [(3, 0), (3, 6)]


def test_05_an_ack_of_a_part_leaves_the_rest_on_lease(crew: Crew) -> None:
    leased = crew.lease(5)
    assert crew.ack(leased, 1, 3) == (2, 1)
    (listed,) = crew.leases()
    assert (listed["offsets"], listed["attempt"]) == ([2, 4, 5], 1)
    assert offsets(crew.lease(1)) == [6]
    assert crew.nack(leased) == (3, 0)
    again = crew.lease(3)
    assert (offsets(again), attempts(again)) == ([2, 4, 5], [2, 2, 2])


def test_06_an_ack_of_what_the_lease_never_held_does_nothing(crew: Crew) -> None:
    leased, _ = crew.lease(3), crew.lease(3)
    before = crew.rows()
    for wrong in ([1, 4], [1, 11], [2**63 - 1]):
        for verb in ("ack", "nack"):
            refused(crew.of(leased, verb, {"offsets": wrong}), "invalid_request")
    assert crew.rows() == before
    assert crew.ack(leased) == (3, 3)


@pytest.mark.parametrize("wrong", WRONG_OFFSETS, ids=lambda wrong: str(wrong)[:12])
def test_06_offsets_that_are_none_are_refused(crew: Crew, wrong: Any) -> None:
    leased = crew.lease(3)
    before = crew.rows()
    for path in (f"/leases/{leased['lease']}/ack", f"/leases/{leased['lease']}/nack"):
        refused(crew.call("POST", path, {"offsets": wrong}), "invalid_request")
    refused(crew.call("POST", "/dead/redrive", {"offsets": wrong}), "invalid_request")
    refused(crew.call("DELETE", "/dead", {"offsets": wrong}), "invalid_request")
    assert crew.rows() == before
    assert crew.ack(leased, *[1] * 10_000) == (1, 1)  # the control


def test_07_the_same_ack_again_also_after_the_expiry(crew: Crew) -> None:
    leased = crew.lease(3)
    assert [crew.ack(leased, 1, 2), crew.ack(leased, 1, 2)] == [(2, 2), (0, 2)]
    assert [crew.ack(leased), crew.ack(leased)] == [(1, 3), (0, 3)]
    crew.expire(leased)
    assert [crew.ack(leased), crew.ack(leased, 2)] == [(0, 3), (0, 3)]
    assert offsets(crew.lease(10)) == [*range(4, 11)]
    assert [crew.ack(leased), crew.ack(leased, 2)] == [(0, 3), (0, 3)]


def test_08_an_expired_lease_is_refused_though_nobody_took_it(crew: Crew) -> None:
    leased = crew.lost(3)
    for verb, body in (("ack", {}), ("ack", {"offsets": [2]}), ("nack", {}), ("nack", {"untried": True})):  # fmt: skip
        said = refused(crew.of(leased, verb, body), "lease_expired")["detail"]
        assert said == "the lease has expired: its messages may be another's by now"
    assert crew.position == 0
    again = crew.lease(3)
    assert (offsets(again), attempts(again)) == ([1, 2, 3], [2, 2, 2])
    refused(crew.of(leased, "ack", {}), "lease_expired")
    assert crew.ack(again) == (3, 3)


@pytest.mark.parametrize("unknown", ["99-1", "1", "1-", "-1", "x", "..-", "9" * 200, "1-1-1"])
def test_08_an_unknown_lease_is_refused(crew: Crew, unknown: str) -> None:
    leased = crew.lease(3)
    act, _, secret = leased["lease"].partition("-")
    for lease in (unknown, f"{act}-{int(secret) ^ 1}"):
        for verb, body in (("ack", {}), ("nack", {}), ("extend", {"lease_seconds": 1})):
            refused(crew.of({"lease": lease}, verb, body), "lease_expired")
    assert crew.ack(leased) == (3, 3)


def test_09_an_ack_that_passed_the_check_before_the_expiry_counts(crew: Crew) -> None:
    leased = crew.lease(3)
    with closing(psycopg2.connect(dsn_of(crew.server))) as session, session.cursor() as cursor:
        ack = "select acked from queue.ack_lease(%s, %s, %s)"
        cursor.execute(ack, (crew.topic, crew.subscriber, leased["lease"]))
        assert cursor.fetchone() == (3,)
        crew.expire(leased)
        assert offsets(crew.lease(3)) == [4, 5, 6]  # and not the first ones
        session.commit()
    assert offsets(crew.lease(10)) == [7, 8, 9, 10]
    assert crew.ack(leased) == (0, 3)


def test_10_what_was_given_back_cannot_be_acknowledged(crew: Crew) -> None:
    leased = crew.lease(3)
    assert crew.nack(leased, 2) == (1, 0)
    for asked in ([2], [1, 2]):
        said = refused(crew.of(leased, "ack", {"offsets": asked}), "lease_expired")["detail"]
        assert said == "the lease has given these back: its messages may be another's by now"
    assert crew.ack(leased, 1, 3) == (2, 1)
    assert crew.nack(leased, 1) == (0, 0)


def test_11_a_lease_that_is_over_cannot_be_extended(crew: Crew) -> None:
    leased = crew.lost(2)
    refused(crew.of(leased, "extend", {"lease_seconds": 30}), "lease_expired")
    leased = crew.lease(2)
    crew.ack(leased, 1)
    crew.nack(leased, 2)
    said = refused(crew.of(leased, "extend", {"lease_seconds": 30}), "lease_expired")["detail"]
    assert said == "the lease holds nothing any more: its messages may be another's by now"


def test_11_an_extension_never_shortens(crew: Crew) -> None:
    leased = crew.lease(2, 600)
    (longer,) = ok(crew.of(leased, "extend", {"lease_seconds": 3600})).values()
    assert TIME.fullmatch(longer) and longer > leased["expires_at"]
    for seconds in (0.001, 60):
        assert ok(crew.of(leased, "extend", {"lease_seconds": seconds})) == {"expires_at": longer}
    assert [one["expires_at"] for one in crew.leases()] == [longer]


def test_11_an_extended_lease_is_kept(crew: Crew) -> None:
    leased = crew.lease(2)
    ok(crew.of(leased, "extend", {"lease_seconds": 3600}))
    crew.expire(leased)
    assert offsets(crew.lease(10)) == [*range(3, 11)]
    assert crew.ack(leased) == (2, 2)


@pytest.mark.parametrize("body", [
    {}, {"lease_seconds": 0}, {"lease_seconds": 43_200.1}, {"lease_seconds": True}, {"lease_seconds": None},
    {"lease_seconds": 1, "offsets": [1]},
])  # fmt: skip
def test_11_an_extension_out_of_range_is_refused(crew: Crew, body: object) -> None:
    leased = crew.lease(2)
    refused(crew.of(leased, "extend", body), "invalid_request")
    assert [one["expires_at"] for one in crew.leases()] == [leased["expires_at"]]


def test_12_only_the_rest_is_extended(crew: Crew) -> None:
    leased = crew.lease(4)
    crew.ack(leased, 1)
    crew.nack(leased, 2)
    (until_when,) = ok(crew.of(leased, "extend", {"lease_seconds": 3600})).values()
    listed = [(one["offsets"], one["expires_at"]) for one in crew.leases()]
    assert listed == [([3, 4], until_when)]
    again = crew.lease(1)
    assert (offsets(again), attempts(again)) == ([2], [2])


def test_13_a_delay_counts_and_not_the_expiry(crew: Crew) -> None:
    leased = crew.lease(2)
    assert crew.nack(leased, 1, delay_seconds=604_800) == (1, 0)
    crew.expire(leased)
    again = crew.lease(10)
    assert (offsets(again), attempts(again)[0]) == ([*range(2, 11)], 2)
    assert crew.nack(again, 3, delay_seconds=0) == (1, 0)
    assert offsets(crew.lease(10)) == [3]


@pytest.mark.parametrize("body", [
    {"delay_seconds": -0.001}, {"delay_seconds": 604_800.1}, {"delay_seconds": "1"}, {"delay_seconds": False},
    {"error": 5}, {"error": "x" * 10_001}, {"error": "\0"}, {"untried": 1}, {"untried": None}, {"lease": "1"},
])  # fmt: skip
def test_13_a_nack_out_of_range_is_refused(crew: Crew, body: object) -> None:
    leased = crew.lease(2)
    before = crew.rows()
    refused(crew.of(leased, "nack", body), "invalid_request")
    assert crew.rows() == before
    assert crew.nack(leased, error="é" * 10_000, delay_seconds=None) == (2, 0)  # the control


def test_14_without_a_delay_it_backs_off(crew: Crew) -> None:
    crew.configure(backoff_seconds=0)
    for attempt in (1, 2):
        leased = crew.lease(1)
        assert attempts(leased) == [attempt]
        assert crew.nack(leased, delay_seconds=None) == (1, 0)
    crew.configure(backoff_seconds=1000, backoff_cap_seconds=3000)
    assert crew.nack(crew.lease(1), delay_seconds=None) == (1, 0)
    assert offsets(crew.lease(10)) == [*range(2, 11)]
    rests = """select extract(epoch from due_at - held_at) from queue.hold
               where subscriber_id = {id} and kind = 'r' order by act desc limit 1"""
    assert 1500 <= crew.ask(rests) <= 3000  # of the third attempt 4,000, but for the cap


def test_untried_ones_come_at_once_as_if_they_had_not_been_leased(crew: Crew) -> None:
    crew.configure(max_attempts=1)
    for _ in range(3):
        leased = crew.lease(2)
        assert (offsets(leased), attempts(leased)) == ([1, 2], [1, 1])
        assert crew.nack(leased, untried=True, delay_seconds=None) == (2, 0)
    assert crew.nack(crew.lease(2)) == (0, 2)  # the control: the last attempt


def test_25_26_a_key_keeps_its_order(topic: str, server: ServerProcess) -> None:
    crew = Crew(server, topic)
    crew.subscribe(ordered=True)
    crew.publish(4, ["a", "a", "b", None])
    leased = crew.lease(10)
    assert offsets(leased) == [1, 2, 3, 4]
    for verb in ("ack", "nack"):
        said = refused(crew.of(leased, verb, {"offsets": [2]}), "key_order")["detail"]
        assert "key" in said
    assert crew.ack(leased, 1, 3) == (2, 1)
    crew.publish(1, ["a"])
    assert crew.lease(10)["lease"] is None  # it waits for the second one
    assert crew.ack(leased, 2) == (1, 3)
    last = crew.lease(10)
    assert offsets(last) == [5]
    assert crew.ack(last) == (1, 3)
    crew.publish(2, ["a", "a"])
    leased = crew.lease(10)
    assert (offsets(leased), crew.nack(leased, 6)) == ([6, 7], (1, 0))
    again = crew.lease(10)
    assert (offsets(again), attempts(again)) == ([6, 7], [2, 1])  # the later one went back with it


def test_32_35_36_a_plain_ack_and_a_seek_beside_leases(crew: Crew) -> None:
    leased = crew.lease(3)
    fetched = ok(crew.call("GET", "/messages"))
    assert offsets(fetched) == [*range(1, 11)]
    ok(crew.call("POST", "/ack", {"offset": 2, "epoch": fetched["epoch"]}))
    assert crew.ack(leased, 1, 2) == (2, 2)
    ok(crew.call("POST", "/seek", {"offset": 2}))
    said = refused(crew.of(leased, "ack", {}), "lease_expired")["detail"]
    assert "from before a reset or seek" in said
    again = crew.lease(1)
    assert (offsets(again), attempts(again)) == ([3], [1])


@pytest.mark.parametrize("gone", ["subscriber", "topic"])
def test_37_who_is_gone_has_no_leases(crew: Crew, gone: str) -> None:
    leased = crew.lease(3)
    path = f"/topics/{crew.topic}"
    ok(crew.server.call("DELETE", path + ("/subscribers/kitchen" if gone == "subscriber" else "")), 204)  # fmt: skip
    calls = [("ack", {}), ("nack", {}), ("extend", {"lease_seconds": 30})]
    for verb, body in calls:
        refused(crew.of(leased, verb, body), f"{gone}_not_found")
    refused(crew.call("POST", "/leases", {}), f"{gone}_not_found")
    if gone == "topic":
        ok(crew.server.call("POST", "/topics", {"topic": crew.topic}), 201)
        crew.publish(10)
    crew.subscribe()
    for verb, body in calls:
        refused(crew.of(leased, verb, body), "lease_expired")
    again = crew.lease(10)
    assert (offsets(again), set(attempts(again))) == ([*range(1, 11)], {1})
    assert crew.ack(again) == (10, 10)
