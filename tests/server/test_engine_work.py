"""The engine's verbs of workers: several calls in one statement, and what is said when one fails."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from psycopg2.extensions import connection, make_dsn, parse_dsn

from server.engines import Batch, Lease, LeaseAck, Nack, WorkSettings
from server.engines.errors import Busy, EngineError, Unavailable
from server.engines.postgres.engine import PostgresEngine
from tests.loop import Loop
from tests.proxy import cutting
from tests.waiting import until

WAITS = """select {} from pg_stat_activity
           where datname = current_database() and wait_event_type = 'Lock'"""
HELD = "select queue.extend('t', %s, %s, 60)"
Connect = Callable[[], connection]


@pytest.fixture
def engine(loop: Loop, dsn: str) -> Iterator[PostgresEngine]:
    """An engine with a topic of six messages, and the subscribers ``a``, ``b`` and ``c``."""
    made = PostgresEngine(dsn)
    loop.run(made.create_topic("t", None))
    loop.run(made.publish("t", [Batch("[1, 2, 3, 4, 5, 6]", 6)]))
    for name in "abc":
        loop.run(made.subscribe("t", name, "earliest"))
    yield made
    loop.run(made.close())


def leased(loop: Loop, engine: PostgresEngine, name: str, limit: int = 1) -> str:
    """Lease; return the lease's id."""
    (found,) = loop.run(engine.lease("t", [Lease(name, None, limit, 600)]))
    assert found.lease
    return found.lease


def offsets(messages: str) -> list[int]:
    return [message["offset"] for message in json.loads(f"[{messages}]")]


def position(loop: Loop, engine: PostgresEngine, name: str) -> int:
    return int(json.loads(loop.run(engine.subscriber("t", name)))["position"])


def test_leases_of_several_workers_are_one_statement(loop: Loop, engine: PostgresEngine) -> None:
    wanted = [Lease("a", f"w{n}", limit, 60 * n) for n, limit in enumerate((2, 3, 9, 1), 1)]
    found = loop.run(engine.lease("t", wanted))
    assert [offsets(one.messages) for one in found] == [[1, 2], [3, 4, 5], [6], []]
    expiries = [one.expires_at or "" for one in found[:3]]
    assert expiries == sorted(expiries) and all(one.endswith("Z") for one in expiries)
    assert found[3][:3] == (None, None, "")
    assert 0 < (found[3].due_seconds or 0) <= 60
    assert len({one.lease for one in found}) == 4
    listed = json.loads(f"[{loop.run(engine.leases('t', 'a', None, 100))}]")
    assert [one["worker"] for one in listed] == ["w1", "w2", "w3"]
    with pytest.raises(ValueError):  # a lock for each would be needed
        loop.run(engine.lease("t", [Lease("a", None, 1, 1), Lease("b", None, 1, 1)]))


def test_nothing_is_due_when_nothing_is_out(loop: Loop, engine: PostgresEngine) -> None:
    loop.run(engine.subscribe("t", "new", "latest"))
    (found,) = loop.run(engine.lease("t", [Lease("new", None, 1, 60)]))
    assert found[:4] == (None, None, "", None)


def test_several_acks_are_answered_in_their_order(loop: Loop, engine: PostgresEngine) -> None:
    leases = {name: leased(loop, engine, name, 3) for name in "cab"}
    further = leased(loop, engine, "a", 2)
    acks = [
        LeaseAck("c", leases["c"], [1, 2]),
        LeaseAck("a", further, None),
        LeaseAck("b", leases["b"], [1]),
        LeaseAck("a", leases["a"], [1, 2, 3]),
        LeaseAck("c", leases["c"], [2]),  # again
    ]
    done = loop.run(engine.ack_leases("t", acks))
    assert [one.acked for one in done] == [2, 2, 1, 3, 0]
    assert [one.position for one in done] == [2, 5, 1, 5, 2]
    assert [one.lag for one in done] == [4, 1, 5, 1, 4]
    assert len({one.epoch for one in done}) == 3


@pytest.mark.parametrize(("wrong", "code"), [
    (LeaseAck("b", "1-1", None), "lease_expired"), (LeaseAck("a", "", [9]), "invalid_request"),
    (LeaseAck("nobody", "1-1", None), "subscriber_not_found"),
])  # fmt: skip
def test_all_acks_are_done_or_none(
    loop: Loop, engine: PostgresEngine, wrong: LeaseAck, code: str
) -> None:
    lease = leased(loop, engine, "a", 3)
    right = LeaseAck("a", lease, [1])
    for acks in ([right, wrong], [wrong, right]):
        ours = [one._replace(lease=one.lease or lease) for one in acks]
        with pytest.raises(EngineError) as refusal:
            loop.run(engine.ack_leases("t", ours))
        assert (refusal.value.code, refusal.value.outcome) == (code, "none")
        assert position(loop, engine, "a") == 0
    assert loop.run(engine.ack_leases("t", [right]))[0].acked == 1  # the control


def test_any_number_of_them_is_one_statement(loop: Loop, engine: PostgresEngine) -> None:
    """Each text is prepared once for every session, and kept there."""
    for width in range(1, 4):
        names = "abc"[:width]
        acks = [LeaseAck(name, leased(loop, engine, name), None) for name in names]
        assert [one.acked for one in loop.run(engine.ack_leases("t", acks))] == [1] * width
    several = [Lease("c", None, 1, 60)] * 3
    assert [offsets(one.messages) for one in loop.run(engine.lease("t", several))] == [[2], [3], [4]]  # fmt: skip
    prepared = "select count(*) from pg_prepared_statements where statement ~ 'queue.(ack_leases|lease_json)'"
    assert loop.run(engine._pool.run(prepared, [])) == [(3,)]  # one ack, several, leases


def test_several_acks_wait_for_a_lease_only_briefly(
    loop: Loop, engine: PostgresEngine, connect: Connect
) -> None:
    leases = [leased(loop, engine, name) for name in "ab"]
    acks = [LeaseAck(name, lease, None) for name, lease in zip("ab", leases, strict=True)]
    with closing(connect()) as other, other.cursor() as cursor:
        cursor.execute(HELD, ("b", leases[1]))
        with pytest.raises(Busy):
            loop.run(engine.ack_leases("t", acks))
        assert position(loop, engine, "a") == 0
        assert loop.run(engine.ack_leases("t", acks[:1]))[0].position == 1
        alone = loop.submit(engine.ack_leases("t", acks[1:]))  # one alone waits for longer
        with closing(connect()) as looking, looking.cursor() as look:
            looking.autocommit = True

            def waits() -> bool:
                look.execute(WAITS.format("pid"))
                return bool(look.fetchall())

            until(waits, 40)
        other.commit()
        assert alone.result(40)[0].position == 1


def test_of_a_lease_that_was_cut_off_it_is_said_what_that_means(
    loop: Loop, engine: PostgresEngine, connect: Connect
) -> None:
    with closing(connect()) as other, other.cursor() as cursor:
        cursor.execute("select queue.redrive('t', 'a')")  # which takes the subscriber's lock
        with closing(connect()) as looking, looking.cursor() as look:
            looking.autocommit = True
            for ending, outcome in (("terminate", "unknown"), ("cancel", "none")):
                call = loop.submit(engine.lease("t", [Lease("a", None, 1, 600)]))
                end = WAITS.format(f"pg_{ending}_backend(pid)")

                def ended(end: str = end) -> bool:
                    look.execute(end)
                    return bool(look.fetchall())

                until(ended, 40)
                error = call.exception(40)
                assert isinstance(error, Unavailable)
                assert error.outcome == outcome
                said = "then its messages are out until they expire" in error.detail
                assert said == (outcome == "unknown")


def test_a_lease_whose_answer_was_lost_is_not_made_again(
    loop: Loop, engine: PostgresEngine, dsn: str
) -> None:
    """What the database has done nobody hears of: the messages are out, once, until they expire."""
    parts = parse_dsn(dsn)
    with cutting(f"{parts['host']}/.s.PGSQL.{parts['port']}", 0) as proxy:
        way = {"host": "127.0.0.1", "sslmode": "disable", "gssencmode": "disable"}
        led = PostgresEngine(make_dsn(dsn, port=proxy.port, **way), pool_size=1)
        leased(loop, led, "a")  # it is prepared now
        proxy.left = 1
        with pytest.raises(Unavailable) as failure:
            loop.run(led.lease("t", [Lease("a", None, 2, 600)]))
        assert failure.value.outcome == "unknown" and proxy.cut == 1
        loop.run(led.close())
    listed = json.loads(f"[{loop.run(engine.leases('t', 'a', None, 100))}]")
    assert [one["offsets"] for one in listed] == [[1], [2, 3]]
    (found,) = loop.run(engine.lease("t", [Lease("a", None, 1, 600)]))
    assert offsets(found.messages) == [4]


def test_settings_that_are_not_given_stay(loop: Loop, engine: PostgresEngine) -> None:
    made = json.loads(loop.run(engine.configure("t", "a", WorkSettings(ordered=True))))
    assert (made["max_attempts"], made["ordered"]) == (5, True)
    made = json.loads(loop.run(engine.configure("t", "a", WorkSettings(max_attempts=2))))
    assert (made["max_attempts"], made["ordered"]) == (2, True)


def test_text_that_postgres_cannot_hold_is_refused(loop: Loop, engine: PostgresEngine) -> None:
    lease = leased(loop, engine, "a")
    for text in ("\0", "\ud800"):
        with pytest.raises(EngineError) as refusal:
            loop.run(engine.nack("t", Nack("a", lease, error=text)))
        assert refusal.value.code == "invalid_request"
        with pytest.raises(EngineError) as refusal:
            loop.run(engine.lease("t", [Lease("a", text, 1, 1)]))
        assert refusal.value.code == "invalid_request"
    assert loop.run(engine.nack("t", Nack("a", lease))) == (1, 0)  # the control
