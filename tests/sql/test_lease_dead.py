"""Dead letters: listing, redriving, removing. The numbers are those of the list of edge cases."""

import json

import pytest

from tests.sql.session import Session, plant, refused
from tests.sql.working import NOTHING, Crew, published


@pytest.fixture
def dead(crew: Crew) -> Crew:
    """Five dead letters, and five done."""
    crew.configure(max_attempts=1)
    crew.nack(crew.lease(5, worker="cook"), error="burnt")
    crew.ack(crew.lease(5))
    assert crew.position == 10
    return crew


def redriven_in_order(dead: Crew) -> None:
    assert dead.call("redrive", None, 2) == (2,)
    assert [offset for offset, *_ in dead.dead()] == [3, 4, 5]
    assert dead.call("redrive", None, 2) == (2,)
    assert [offset for offset, *_ in dead.dead()] == [5]
    lease = dead.lease(10)
    assert (lease.offsets, lease.attempts) == ([1, 2, 3, 4], [1, 1, 1, 1])
    assert dead.lease(10) == NOTHING
    assert dead.ack(lease, 1, 2) == 2
    assert dead.nack(lease, 3, error="again") == (0, 1)
    assert dead.dead() == [(3, 1, "nacked", "again"), (5, 1, "nacked", "burnt")]
    assert dead.call("redrive", [5, 7, 99]) == (1,)
    assert dead.call("redrive", None, 20_000) == (1,)
    assert dead.lease(10).offsets == [3, 5]


def test_43_redriven_in_offset_order_and_not_listed_while_out(dead: Crew) -> None:
    redriven_in_order(dead)


def test_43_a_redriven_one_that_its_worker_loses_comes_back(dead: Crew) -> None:
    """It is below the position, and yet not over: after an expiry, a nack, an untried one, an extended one."""
    dead.configure(max_attempts=9)
    dead.call("redrive", [1, 2])
    dead.lost(5)
    lease = dead.lease(5)
    assert (lease.offsets, lease.attempts) == ([1, 2], [2, 2])
    dead.nack(lease, 1, delay=0)
    dead.nack(lease, 2, untried=True)
    lease = dead.lease(5, 0.5)
    assert dict(zip(lease.offsets, lease.attempts, strict=True)) == {1: 3, 2: 2}
    ends = dead.extend(lease, 0.6)
    dead.is_past(ends)
    lease = dead.lease(5)
    assert dict(zip(lease.offsets, lease.attempts, strict=True)) == {1: 4, 2: 3}
    assert (dead.ack(lease), dead.ack(lease), dead.lease(5)) == (2, 0, NOTHING)
    assert [offset for offset, *_ in dead.dead()] == [3, 4, 5]


def test_43_it_goes_to_this_subscriber_alone(dead: Crew) -> None:
    dead.session.run("select queue.subscribe('orders', 'billing')")
    dead.call("redrive")
    assert Crew(dead.session, subscriber="billing").lease(9) == NOTHING
    assert dead.lease(9).offsets == [1, 2, 3, 4, 5]


def test_43_it_dies_again_by_expiry(dead: Crew) -> None:
    dead.call("redrive", [2])
    dead.lost(1, worker="b")
    assert dead.lease(1) == NOTHING
    letters = 'select "offset", attempts, reason, error, worker from queue.dead_letters where "offset" = 2'
    assert dead.session.row(letters) == (2, 1, "expired", None, "b")


def test_44_after_a_seek_back_what_comes_anyway_is_not_redriven(dead: Crew) -> None:
    dead.session.run("select queue.seek('orders', 'kitchen', 3)")
    assert dead.call("redrive") == (3,)  # 1 to 3; 4 and 5 are pending again
    lease = dead.lease(20)
    assert (lease.offsets, lease.attempts) == ([*range(1, 11)], [1] * 10)
    assert dead.lease(20) == NOTHING
    dead.ack(lease)
    assert [offset for offset, *_ in dead.dead()] == [4, 5]
    assert dead.call("redrive") == (2,)


def test_44_a_letter_of_this_epoch_may_lie_beyond_the_position(crew: Crew) -> None:
    crew.configure(max_attempts=1)
    hole = crew.lease(1)
    crew.nack(crew.lease(2))
    crew.ack(crew.lease(20))
    assert (crew.position, crew.call("redrive")) == (0, (2,))
    lease = crew.lease(5)
    assert lease.offsets == [2, 3]
    assert (crew.ack(lease), crew.position, crew.ack(hole), crew.position) == (2, 0, 1, 10)


def test_44_a_redrive_that_a_move_has_voided_is_a_dead_letter_again(dead: Crew) -> None:
    dead.call("redrive")
    lease = dead.lease(2)
    assert dead.dead() == []
    dead.session.run("select queue.seek('orders', 'kitchen', 10)")
    assert [offset for offset, *_ in dead.dead()] == [1, 2, 3, 4, 5]
    with refused("QL010"):
        dead.ack(lease)
    assert dead.lease(9) == NOTHING
    assert dead.call("redrive") == (5,)
    assert dead.lease(9).offsets == [1, 2, 3, 4, 5]


def test_45_what_is_redriven_does_not_move_the_position(dead: Crew) -> None:
    dead.call("redrive", [2])
    lag = 'select "position", lag from queue.subscribers'
    before = dead.session.row(lag)
    lease = dead.lease(1)
    assert dead.session.row(lag) == before == (10, 0)
    moves = "select count(*) from queue.position"
    moved = dead.session.value(moves)
    dead.ack(lease)
    assert dead.session.row(lag) == before and dead.session.value(moves) == moved
    published(dead.session, 1)
    dead.ack(dead.lease(1))
    assert dead.position == 11


def test_46_delivered_from_the_copy_when_the_log_has_removed_it(dead: Crew) -> None:
    dead.session.run(
        "update queue.topic set floor = 3", 'delete from queue.message where "offset" < 3'
    )
    dead.call("redrive")
    lease = dead.lease(9)
    assert (lease.offsets, lease.payloads) == ([1, 2, 3, 4, 5], ["1", "2", "3", "4", "5"])
    dead.nack(lease, 1, 4, error="still")
    assert dead.session.rows("select \"offset\", payload::text, error from queue.list_dead('orders', 'kitchen')") == [
        (1, "1", "still"), (4, "4", "still")]  # fmt: skip


def test_dead_letters_are_removed(dead: Crew) -> None:
    dead.call("redrive", [1])
    assert dead.call("remove_dead", [1, 2, 9]) == (1,)  # 1 is out
    assert dead.call("remove_dead", None, 1) == (1,)
    assert [offset for offset, *_ in dead.dead()] == [4, 5]
    assert dead.ack(dead.lease()) == 1
    assert dead.call("remove_dead") == (2,)
    assert dead.rows()["dead"] == 0


@pytest.mark.parametrize("limit", [0, -1, None])
def test_a_limit_below_one_is_refused(dead: Crew, limit: int) -> None:
    for function in ("redrive", "remove_dead"):
        with refused("QL009", "1 or more"):
            dead.call(function, None, limit)
    assert len(dead.dead()) == 5


def test_pages(dead: Crew) -> None:
    page = "select array_agg(\"offset\") from queue.list_dead('orders', 'kitchen', %s, %s, %s)"
    pages = [
        (None, 2, 10**6),
        (2, 2, 10**6),
        (4, 2, 10**6),
        (5, 2, 10**6),
        (None, 9, 1),
        (None, 9, 12),
    ]
    assert [dead.session.value(page, *args) for args in pages] == [
        [1, 2],
        [3, 4],
        [5],
        None,
        [1],
        [1, 2],
    ]


def test_as_json(sql: Session) -> None:
    sql.run("select queue.create_topic('orders')",
            "select queue.subscribe('orders', 'kitchen', 'earliest', null, null, 1)",
            """select queue.publish('orders', '{"a": 1}', 'k"', '{"h": 1}')""",
            "select queue.publish('orders', '2')")  # fmt: skip
    crew = Crew(sql)
    lease = crew.lease(2, worker='"w"')
    (listed,) = json.loads("[" + sql.value("select queue.leases_json('orders', 'kitchen')") + "]")
    assert listed.pop("expires_at") > listed.pop("leased_at") > "2026"
    assert listed == {"lease": str(lease.act), "worker": '"w"', "offsets": [1, 2], "attempt": 1}
    assert sql.value("select queue.leases_json('orders', 'kitchen', %s)", lease.act) == ""
    crew.nack(lease, 1, error='"no"')
    crew.nack(lease, 2)
    first, second = json.loads("[" + sql.value("select queue.dead_json('orders', 'kitchen')") + "]")
    assert first.pop("died_at") >= first.pop("published_at") > "2026"
    assert first == {"offset": 1, "key": 'k"', "headers": {"h": 1}, "payload": {"a": 1}, "attempts": 1,
                     "reason": "nacked", "error": '"no"', "worker": '"w"'}  # fmt: skip
    assert second["error"] is None and "key" not in second


BUGS = {
    "what is below the position is over": (
        "queue.take_up", ("if p_hold.redriven then", "if false then")),
    "it is listed while it is out": ("queue.redrive", ("set redriven_epoch = v_at.epoch", "set redriven_epoch = null")),
    "what died again is out": ("queue.bury", (", redriven_epoch = null", "")),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_control_a_planted_bug_is_caught(dead: Crew, bug: str) -> None:
    function, change = BUGS[bug]
    plant(dead.session, function, change)
    with pytest.raises(AssertionError):
        redriven_in_order(dead)
