"""Sessions that are stepped by hand: who waits for whom, and what becomes of it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import psycopg2
import psycopg2.errors
import pytest
from psycopg2.extensions import connection

from qlib.lab import sql
from qlib.lab.sessions.session import Session
from qlib.lab.sessions.steps import SessionError, Waiting
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_leaks")

PUBLISH = "select queue.publish('orders', '1')"
ELSEWHERE = "select queue.publish('returns', '1')"
COUNT = "select count(*) from queue.messages"
# and whether a transaction sees what others commit while it is open
LEVELS = (("repeatable read", False), ("serializable", False), ("read committed", True))


@pytest.fixture
def opened(queue_dsn: str) -> Iterator[Callable[..., Session]]:
    """Open sessions on a database with two topics."""
    sql("select queue.create_topic('orders'), queue.create_topic('returns')")
    with ExitStack() as sessions:
        yield lambda *about: sessions.enter_context(Session(*about))


@pytest.fixture
def a(opened: Callable[..., Session]) -> Session:
    return opened("A")


@pytest.fixture
def b(opened: Callable[..., Session]) -> Session:
    return opened("B")


def test_a_transaction_is_open_until_its_commit(a: Session) -> None:
    assert a.idle
    assert a.run(PUBLISH) == [(1,)]
    assert not a.idle
    assert sql(COUNT).iat[0, 0] == 0
    assert a.commit() is None
    assert a.idle
    assert sql(COUNT).iat[0, 0] == 1


def test_rollback_takes_it_back(a: Session) -> None:
    a.run(PUBLISH)
    a.rollback()
    assert a.run(COUNT) == [(0,)]


def test_rows_have_names_and_are_shown_as_a_table(a: Session) -> None:
    rows = a.run("select 1 as one, %s as two union all select 3, null", "x")
    assert isinstance(rows, list)
    assert [(row.one, row.two) for row in rows] == [(1, "x"), (3, None)]
    assert repr(rows).split() == ["one", "two", "1", "x", "3", "None"]
    assert "<td>x</td>" in rows._repr_html_()
    assert a.run("select 1, 2, 3 as n, 4 as n") == [(1, 2, 3, 4)]
    assert a.run("create temporary table nothing ()") is None


def test_values_may_be_json(a: Session) -> None:
    assert a.run("select queue.publish('orders', %s)", {"id": 7}) == [(1,)]
    assert a.run("select payload from queue.messages") == [({"id": 7},)]


def test_who_waits_for_whom(a: Session, b: Session) -> None:
    a.run(PUBLISH)
    assert b.run(PUBLISH) == Waiting("B", ("A",))
    assert repr(b.result()) == "B waits for A"
    assert b.waiting
    a.commit()
    assert b.result() == [(2,)]
    assert not b.waiting


def test_who_does_not_wait(a: Session, b: Session) -> None:
    a.run(PUBLISH)
    assert b.run(ELSEWHERE) == [(1,)]


def test_the_third_waits_for_two(a: Session, b: Session, opened: Callable[..., Session]) -> None:
    a.run(PUBLISH)
    b.run(PUBLISH)
    c = opened("C")
    assert repr(c.run(PUBLISH)) == "C waits for A and B"
    a.rollback()
    assert b.result() == [(1,)]
    assert repr(c.result()) == "C waits for B"


def test_a_stranger_is_called_what_it_is(a: Session, connect: Callable[[], connection]) -> None:
    with closing(connect()) as stranger, stranger.cursor() as cursor:
        cursor.execute(PUBLISH)
        assert repr(a.run(PUBLISH)) == "A waits for client backend"
    assert a.result() == [(1,)]


def test_one_thing_after_the_other(a: Session, b: Session) -> None:
    with pytest.raises(LookupError, match="no result of B"):
        b.result()
    a.run(PUBLISH)
    b.run(PUBLISH)
    with pytest.raises(RuntimeError, match="B has not told the result of publish yet"):
        b.commit()


def test_an_error_says_what_it_is_and_ends_the_transaction(a: Session) -> None:
    a.run(PUBLISH)
    with pytest.raises(SessionError, match="^QL001: topic 'nowhere' does not exist$") as caught:
        a.run("select queue.publish('nowhere', '1')")
    assert caught.value.sqlstate == "QL001"
    with pytest.raises(SessionError, match="25P02"):
        a.run(PUBLISH)
    with pytest.raises(SessionError, match="25P02: .* was rolled back"):
        a.commit()
    assert a.run(PUBLISH) == [(1,)]
    a.commit()


def test_an_error_tells_what_postgres_advises(a: Session) -> None:
    with pytest.raises(
        SessionError, match="^42601: query has no destination.* use PERFORM instead"
    ):
        a.run("do $$ begin select 1; end $$")


def test_rollback_after_an_error_is_no_error(a: Session) -> None:
    with pytest.raises(SessionError, match="42601"):
        a.run("selekt 1")
    assert a.rollback() is None
    assert a.idle


@pytest.mark.parametrize("round_", range(3))
def test_who_closes_the_circle_fails(a: Session, b: Session, round_: int) -> None:
    for first, second in ((a, b), (b, a)):
        first.run(PUBLISH)
        second.run(ELSEWHERE)
        assert first.run(ELSEWHERE) == Waiting(first.name, (second.name,))
        with pytest.raises(SessionError, match="^40P01: deadlock detected$"):
            second.run(PUBLISH)
        assert first.result() == [(1,)]
        first.rollback()
        second.rollback()


def test_a_circle_is_no_wait(a: Session, connect: Callable[[], connection]) -> None:
    """With a stranger it lasts until PostgreSQL looks for circles, a second later."""
    with closing(connect()) as stranger, stranger.cursor() as cursor, ThreadPoolExecutor() as pool:
        cursor.execute(ELSEWHERE)
        a.run(PUBLISH)
        failed = pool.submit(cursor.execute, PUBLISH)
        until(lambda: sql("select 1 from pg_locks where not granted").size)
        assert a.run(ELSEWHERE) == [(1,)]
        with pytest.raises(psycopg2.errors.DeadlockDetected):
            failed.result()


def test_what_looks_like_a_wait_only_once_is_none(
    a: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([("ghost",), (), ("ghost",), ()])
    monkeypatch.setattr(a, "_blockers", lambda: next(looks, ()))
    assert a.run("select 1 from pg_sleep(0.1)") == [(1,)]
    assert len(list(looks)) < 4  # it was asked, while the statement ran


def test_a_snapshot_stays_where_it_is(a: Session, opened: Callable[..., Session]) -> None:
    for isolation, seen in LEVELS:
        reader = opened("reader", isolation)
        before = reader.run(COUNT)
        a.run(PUBLISH)
        a.commit()
        assert (reader.run(COUNT) != before) == seen


def test_what_cannot_be_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="isolation"):
        Session("A", "very strict")
    for name in ("", "é", "x" * 64):
        with pytest.raises(ValueError, match="63 ASCII"):
            Session(name)
    monkeypatch.delenv("QUEUE_DSN")
    with pytest.raises(LookupError, match="QUEUE_DSN"):
        Session("A")


def test_close_ends_what_waits(a: Session, b: Session) -> None:
    a.run(PUBLISH)
    b.run(PUBLISH)
    b.close()
    b.close()
    assert not b.waiting
    a.commit()
    assert sql(COUNT).iat[0, 0] == 1


def test_a_lost_connection_is_said(a: Session) -> None:
    sql("select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'A'")
    with pytest.raises(SessionError, match="57P01|08006"):
        a.run(PUBLISH)
    with pytest.raises(SessionError, match="08006"):
        a.rollback()


def test_a_step_of_several_statements_waits_as_one(a: Session, b: Session) -> None:
    def twice() -> list[object]:
        return [b.run(ELSEWHERE), b.run(PUBLISH)]

    a.run(PUBLISH)
    assert b.step("twice", twice) == Waiting("B", ("A",))
    a.rollback()
    assert b.result() == [[(1,)], [(1,)]]
    assert [event.what for event in b.events] == ["twice"]


def test_events_count_steps(a: Session, b: Session) -> None:
    a.run(PUBLISH)
    b.run(PUBLISH)
    assert b.events[0].ended is None
    a.commit()
    b.result()
    with pytest.raises(SessionError):
        b.run("select 1 / 0")
    told = [*a.events, *b.events]
    first = a.events[0].started
    steps = [(event.started - first, event.ended - first) for event in told if event.ended]
    assert steps == [(0, 0), (2, 2), (1, 3), (4, 4)]
    assert [str(event) for event in told] == [
        "publish → 1",
        "commit",
        "publish → 2 (after a wait for A)",
        "select ✗ 22012",
    ]
    assert [event.idle for event in told] == [False, True, False, False]


def test_a_statement_is_called_by_the_comment_that_it_begins_with(a: Session) -> None:
    a.run("/* cook */ select queue.publish('orders', '1')")
    a.run("select 1 /* or not */")
    assert [str(event) for event in a.events] == ["cook → 1", "select → 1"]


def test_without_a_database_there_is_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUE_DSN", "host=127.0.0.1 port=1 dbname=none")
    with pytest.raises(psycopg2.OperationalError):
        Session("A")


def test_a_kill_rolls_back_before_it_returns(a: Session, b: Session) -> None:
    a.run(PUBLISH)
    a.kill()
    assert b.run(PUBLISH) == [(1,)]  # and waits for nobody
    b.commit()
    assert sql(COUNT).iat[0, 0] == 1
    with pytest.raises(SessionError, match="08006"):
        a.run(PUBLISH)
