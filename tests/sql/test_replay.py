"""Replay: reset moves everybody, seek moves one, and both raise the epoch."""

import pytest

from tests.sql.session import Session, plant, refused

HISTORY = """
select s.name, p.move, p."offset", p.epoch, p.cause
from queue.position p join queue.subscriber s using (subscriber_id) order by s.name, p.move
"""
ACK = "select * from queue.ack('orders', %s, %s, %s)"
POSITIONS = (
    'select subscriber, "position", epoch, lag from queue.subscribers where topic = %s order by 1'
)
WRONG = [-1, 6, 2**63 - 1, -(2**63)]


@pytest.fixture
def two(orders: Session) -> Session:
    """Five messages; `billing` is done with 4 of them, `kitchen` with none."""
    orders.run(
        "select queue.publish_batch('orders', '[1,2,3,4,5]')",
        "select queue.subscribe('orders', 'billing', 'latest', 4), queue.subscribe('orders', 'kitchen', 'earliest')",
    )
    return orders


def spread(sql: Session) -> None:
    """Publish the five messages at the seconds 10, 20, 20, 30 and 40 of a minute."""
    sql.run("update queue.message set published_at = '2024-01-01Z'::timestamptz "
            "+ (array[10, 20, 20, 30, 40])[\"offset\"] * interval '1 second'")  # fmt: skip


def an_old_ack_cannot_undo_a_reset(sql: Session) -> None:
    """P9, for the whole topic."""
    assert sql.row("select * from queue.reset('orders', 1)") == (1, 2)
    for name, position in (("billing", 1), ("kitchen", 1)):
        with refused(
            "QL005", f"the epoch is over: subscriber '{name}'", {"position": position, "epoch": 1}
        ):
            sql.rows(ACK, name, 5, 0)
    assert sql.rows(POSITIONS, "orders") == [("billing", 1, 1, 4), ("kitchen", 1, 1, 4)]
    assert sql.row(ACK, "billing", 2, 1) == (2, 1, 5, 3)


def an_old_ack_cannot_undo_a_seek(sql: Session) -> None:
    """P9, for one subscriber."""
    sql.run("select queue.seek('orders', 'billing', 2)")
    with refused("QL005", "the epoch is over", {"position": 2, "epoch": 1}):
        sql.rows(ACK, "billing", 5, 0)
    assert sql.row(ACK, "billing", 3, 1) == (3, 1, 5, 2)


def test_p9_an_old_ack_cannot_undo_a_reset(two: Session) -> None:
    an_old_ack_cannot_undo_a_reset(two)


def test_p9_an_old_ack_cannot_undo_a_seek(two: Session) -> None:
    an_old_ack_cannot_undo_a_seek(two)


def test_control_a_reset_that_keeps_the_epoch_is_caught(two: Session) -> None:
    plant(two, "queue.reset", ("p.epoch + 1", "p.epoch"))
    with pytest.raises(pytest.fail.Exception):
        an_old_ack_cannot_undo_a_reset(two)


def test_control_a_seek_that_keeps_the_epoch_is_caught(two: Session) -> None:
    plant(
        two,
        "queue.seek",
        ("v_offset, v_reader.epoch + 1, 'seek'", "v_offset, v_reader.epoch, 'seek'"),
    )
    with pytest.raises(pytest.fail.Exception):
        an_old_ack_cannot_undo_a_seek(two)


def test_reset_moves_everybody_at_once(two: Session) -> None:
    assert two.row("select * from queue.reset('orders', 0)") == (0, 2)
    assert two.rows("select * from queue.reset('orders', 5)") == [(5, 2)]
    assert two.rows("select * from queue.reset('orders', 5)") == [(5, 2)]  # a move as any other
    assert two.rows(HISTORY) == [
        ("billing", 1, 4, 0, "start"),
        ("billing", 2, 0, 1, "reset"),
        ("billing", 3, 5, 2, "reset"),
        ("billing", 4, 5, 3, "reset"),
        ("kitchen", 1, 0, 0, "start"),
        ("kitchen", 2, 0, 1, "reset"),
        ("kitchen", 3, 5, 2, "reset"),
        ("kitchen", 4, 5, 3, "reset"),
    ]
    assert (
        two.value("select count(distinct moved_at) from queue.position where cause = 'reset'") == 3
    )


def test_reset_twice_in_one_transaction(two: Session) -> None:
    two.run("begin", "select queue.reset('orders', 0)", "select queue.reset('orders', 3)", "commit")
    assert two.rows(POSITIONS, "orders") == [("billing", 3, 2, 2), ("kitchen", 3, 2, 2)]


def test_reset_without_subscribers(orders: Session) -> None:
    assert orders.row("select * from queue.reset('orders', 0)") == (0, 0)


def test_p8_a_replay_stays_in_its_topic(two: Session) -> None:
    two.run(
        "select queue.create_topic('other')",
        "select queue.publish('other', '1')",
        "select queue.subscribe('other', 'billing')",
    )
    two.run("select queue.reset('orders', 0)", "select queue.seek('orders', 'billing', 1)")
    assert two.rows(POSITIONS, "other") == [("billing", 1, 0, 0)]
    assert two.rows(POSITIONS, "orders") == [("billing", 1, 2, 4), ("kitchen", 0, 1, 5)]


def test_seek_returns_the_subscriber_as_it_is_then(two: Session) -> None:
    sought = 'select subscriber, "position", epoch, lag, move from queue.seek(%s, %s, %s)'
    for epoch, offset in enumerate((0, 5, 2, 2), 1):
        assert two.row(sought, "orders", "billing", offset) == (
            "billing",
            offset,
            epoch,
            5 - offset,
            epoch + 1,
        )
    assert two.rows(HISTORY)[:5] == [
        ("billing", 1, 4, 0, "start"),
        ("billing", 2, 0, 1, "seek"),
        ("billing", 3, 5, 2, "seek"),
        ("billing", 4, 2, 3, "seek"),
        ("billing", 5, 2, 4, "seek"),
    ]


def test_a_dry_run_says_what_would_happen_and_writes_nothing(two: Session) -> None:
    spread(two)
    before = two.rows(HISTORY)
    assert two.row("select * from queue.reset('orders', 2, p_dry_run => true)") == (2, 2)
    assert two.row("select * from queue.reset('orders', null, '2024-01-01T00:00:20Z', true)") == (
        1,
        2,
    )
    sought = "select \"position\", epoch, lag from queue.seek('orders', 'billing', %s, %s, true)"
    assert two.row(sought, 2, None) == (2, 1, 3)
    assert two.row(sought, None, "2024-01-01T00:00:31Z") == (4, 1, 1)
    for call in ("reset('orders', 6, null, true)", "seek('orders', 'billing', 6, null, true)"):
        with refused("QL004", "takes 0 to 5 here", {"floor": 1, "head": 5}):
            two.run(f"select queue.{call}")
    assert two.rows(HISTORY) == before


def test_a_time_means_the_first_message_at_or_after_it(two: Session) -> None:
    spread(two)
    for time, position in (("-infinity", 0), ("2024-01-01T00:00:10Z", 0), ("2024-01-01T00:00:10.000001Z", 1),
                           ("2024-01-01T00:00:20Z", 1), ("2024-01-01T01:00:30+01", 3), ("infinity", 5)):  # fmt: skip
        assert two.row("select * from queue.reset('orders', null, %s)", time) == (position, 2)
        assert (
            two.value("select \"position\" from queue.seek('orders', 'billing', null, %s)", time)
            == position
        )


def test_a_wrong_replay_changes_nothing(two: Session) -> None:
    before = two.rows(HISTORY)
    for call in ("reset('orders', %s)", "seek('orders', 'billing', %s)"):
        for offset in WRONG:
            with refused("QL004", f"offset {offset} is out of range", {"floor": 1, "head": 5}):
                two.rows(f"select queue.{call}", offset)
        for arguments in ("null", "0, '2024-01-01'"):
            with refused("QL009", "give an offset or a timestamp, and only one of them"):
                two.run(f"select queue.{call}".replace("%s", arguments))
    for call in ("reset('other', 0)", "seek('other', 'billing', 0)"):
        with refused("QL001", "topic 'other' does not exist"):
            two.run(f"select queue.{call}")
    with refused("QL002", "topic 'orders' has no subscriber 'mailer'"):
        two.run("select queue.seek('orders', 'mailer', 0)")
    assert two.rows(HISTORY) == before


def test_a_replay_reaches_down_to_the_floor(two: Session) -> None:
    two.run('delete from queue.message where "offset" < 3', "update queue.topic set floor = 3")
    for call in ("reset('orders', %s)", "seek('orders', 'billing', %s)"):
        with refused("QL004", "topic 'orders' takes 2 to 5 here", {"floor": 3, "head": 5}):
            two.rows(f"select queue.{call}", 1)
        two.rows(f"select queue.{call}", 2)
    assert two.rows(POSITIONS, "orders") == [("billing", 2, 2, 3), ("kitchen", 2, 1, 3)]
