"""Acks, seeks and resets of two and readers sessions, statement by statement."""

from collections.abc import Callable

import pytest

from tests.sql.session import Session, plant

Sessions = tuple[Session, Session, Session]
READER = "select \"position\", epoch from queue.get_subscriber('orders', %s)"
HISTORY = """
select p."offset", p.epoch, p.cause from queue.position p join queue.subscriber s using (subscriber_id)
where s.name = 'billing' order by p.move
"""
START = (0, 0, "start")


def ack(offset: int, epoch: int = 0) -> str:
    return f"select \"position\" from queue.ack('orders', 'billing', {offset}, {epoch})"


def seek(offset: int) -> str:
    return f"select \"position\" from queue.seek('orders', 'billing', {offset})"


def reset(offset: int) -> str:
    return f"select subscribers from queue.reset('orders', {offset})"


def two_acks_keep_the_maximum(a: Session, b: Session, reader: Session) -> None:
    """Whoever commits last: the position is the greater of the two."""
    a.run("begin", ack(4))
    b.start(ack(2))
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() == 4
    assert reader.rows(HISTORY) == [START, (4, 0, "ack")]
    a.run("begin", ack(4))
    assert b.attempt(ack(5)) == 5
    a.run("commit")
    assert reader.rows(HISTORY) == [START, (4, 0, "ack"), (5, 0, "ack")]


def a_reset_wins_over_an_ack_before_it(a: Session, b: Session, reader: Session) -> None:
    a.run("begin", ack(4))
    b.start(reset(1))
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() == 2
    assert [reader.row(READER, name) for name in ("billing", "kitchen")] == [(1, 1), (1, 1)]
    assert reader.rows(HISTORY) == [START, (4, 0, "ack"), (1, 1, "reset")]


def an_ack_that_waited_for_a_reset_is_stale(a: Session, b: Session, reader: Session) -> None:
    a.run("begin", reset(1))
    b.start(ack(4))
    assert b.waits_for(a)
    assert reader.row(READER, "billing") == (0, 0)
    a.run("commit")
    assert b.outcome() == "QL005"
    assert reader.rows(HISTORY) == [START, (1, 1, "reset")]


def an_ack_that_waited_for_a_seek_is_stale(a: Session, b: Session, reader: Session) -> None:
    a.run("begin", seek(1))
    b.start(ack(4))
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() == "QL005"
    assert reader.rows(HISTORY) == [START, (1, 1, "seek")]


CHECKS = {
    two_acks_keep_the_maximum: ("queue.ack", ('exit when p_offset <= v_reader."position";', "")),
    a_reset_wins_over_an_ack_before_it: ("queue.reset", ("v_moved := v_moved + v_rows;", "exit;")),
    an_ack_that_waited_for_a_reset_is_stale: ("queue.reset", ("p.epoch + 1", "p.epoch")),
    an_ack_that_waited_for_a_seek_is_stale: (
        "queue.seek",
        ("v_reader.epoch + 1, 'seek'", "v_reader.epoch, 'seek'"),
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_readers(readers: Sessions, check: Callable[[Session, Session, Session], None]) -> None:
    check(*readers)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_control_a_planted_bug_is_caught(
    readers: Sessions, check: Callable[[Session, Session, Session], None]
) -> None:
    plant(readers[0], *CHECKS[check])
    with pytest.raises(AssertionError):
        check(*readers)


def test_an_effect_and_its_ack_commit_together(readers: Sessions) -> None:
    a, _, reader = readers
    a.run("create table bill (id int)")
    seen = "select (select count(*) from bill), \"position\" from queue.get_subscriber('orders', 'billing')"
    for end, after in (("rollback", (0, 0)), ("commit", (1, 3))):
        a.run("begin", "insert into bill values (1)", ack(3))
        assert reader.row(seen) == (0, 0)
        a.run(end)
        assert reader.row(seen) == after


def test_two_subscribers_do_not_wait_for_each_other(readers: Sessions) -> None:
    a, b, reader = readers
    a.run("begin", ack(3))
    b.start("select \"position\" from queue.ack('orders', 'kitchen', 2, 0)")
    assert b.settles() == "done"
    assert b.outcome() == 2
    b.start("select queue.publish('orders', '6')")  # an ack holds up no publish
    assert b.settles() == "done"
    assert b.outcome() == 6
    assert reader.row(READER, "billing") == (0, 0)


def test_an_ack_that_was_rolled_back_leaves_the_other(readers: Sessions) -> None:
    a, b, reader = readers
    a.run("begin", ack(4))
    b.start(ack(2))
    assert b.waits_for(a)
    a.run("rollback")
    assert b.outcome() == 2
    assert reader.rows(HISTORY) == [START, (2, 0, "ack")]


def test_an_ack_goes_through_when_a_reset_was_rolled_back(readers: Sessions) -> None:
    a, b, reader = readers
    a.run("begin", reset(1))
    b.start(ack(4))
    assert b.waits_for(a)
    a.run("rollback")
    assert b.outcome() == 4
    assert reader.rows(HISTORY) == [START, (4, 0, "ack")]


def test_two_resets_at_once_come_one_after_the_other(readers: Sessions) -> None:
    a, b, reader = readers
    a.run("begin", reset(1))
    b.start(reset(3))
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() == 2
    assert reader.rows(HISTORY) == [START, (1, 1, "reset"), (3, 2, "reset")]
    assert reader.row(READER, "kitchen") == (3, 2)


def test_a_seek_wins_over_an_ack_before_it(readers: Sessions) -> None:
    a, b, reader = readers
    a.run("begin", ack(4))
    b.start(seek(1))
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() == 1
    assert reader.rows(HISTORY) == [START, (4, 0, "ack"), (1, 1, "seek")]


@pytest.mark.parametrize("first, second", [(seek(1), seek(3)), (seek(1), reset(3)), (reset(1), seek(3))],
                         ids=["seek, seek", "seek, reset", "reset, seek"])  # fmt: skip
def test_two_replays_at_once_raise_the_epoch_twice(
    readers: Sessions, first: str, second: str
) -> None:
    a, b, reader = readers
    a.run("begin", first)
    b.start(second)
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() in (2, 3)
    assert reader.row(READER, "billing") == (3, 2)


def test_one_ack_makes_a_reset_wait_and_nobody_is_forgotten(readers: Sessions) -> None:
    """Of many subscribers, one acks under the reset's hands, and a third moves while it waits."""
    a, b, c = readers
    c.run("select queue.subscribe('orders', 'x' || n, 'earliest') from generate_series(1, 50) n")
    a.run("begin", ack(4))
    b.start(reset(2))
    assert b.waits_for(a)
    a.run("commit")
    assert b.outcome() == 52
    assert c.rows('select distinct "position", epoch from queue.subscribers') == [(2, 1)]
    assert c.value("select count(*) from queue.position where cause = 'reset'") == 52


def test_a_stale_snapshot_is_told_to_try_again(readers: Sessions) -> None:
    a, b, reader = readers
    for number, (mine, theirs) in enumerate(
        ((ack(3), ack(2)), (seek(3), ack(4)), (reset(3), seek(4))), 1
    ):
        reader.run("select queue.unsubscribe('orders', 'billing')",
                   "select queue.subscribe('orders', 'billing', 'earliest')")  # fmt: skip
        a.run("begin isolation level repeatable read", "select count(*) from queue.position")
        b.run(theirs)
        assert a.attempt(mine) == "40001"
        a.run("rollback", "begin isolation level repeatable read")
        assert a.attempt(mine) in (2, 3)
        a.run("commit")
        assert reader.row(READER, "billing")[0] == 3, number
