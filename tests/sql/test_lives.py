"""The lives of a subscriber: deleted and made anew under its name, it takes nothing from before for its own."""

import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.embedded_cluster import packaged_programs
from tests.conftest import database
from tests.sql.session import Session, plant, refused

Sessions = tuple[Session, Session, Session]
TOPIC = (
    "select queue.create_topic('orders')",
    "select queue.publish_batch('orders', '[1,2,3,4,5]')",
)
SUBSCRIBE = "select queue.subscribe('orders', 'billing', 'earliest')"
ANEW = {
    "subscriber": ("select queue.unsubscribe('orders', 'billing')", SUBSCRIBE),
    "topic": ("select queue.delete_topic('orders')", *TOPIC, SUBSCRIBE),
}
STANDS = "select epoch, \"position\" from queue.get_subscriber('orders', 'billing')"
ACK = "select \"position\" from queue.ack('orders', 'billing', %s, %s)"
AHEAD = "select \"offset\" from queue.fetch('orders', 'billing', 9, 3, p_epoch => %s)"
SEEK = "select \"position\" from queue.seek('orders', 'billing', 3)"


def begun(session: Session) -> Session:
    session.run(*TOPIC, SUBSCRIBE)
    return session


@pytest.fixture
def billing(session: Callable[[], Session]) -> Session:
    """Five messages, and `billing`, who has read none of them and is in an epoch of its own."""
    return begun(session())


@pytest.fixture
def three(billing: Session, session: Callable[[], Session]) -> Sessions:
    """Three sessions on that database."""
    return billing, session(), session()


def lives(sql: Session, *anew: str) -> list[int]:
    """Return the epochs in which `billing` began, made anew again and again."""
    epochs = []
    for _ in range(20):
        sql.run("select setseed(0.5)", *anew)  # whoever wants chance to repeat itself, not so here
        epochs.append(sql.row(STANDS)[0])
    return epochs


def no_epoch_comes_twice(sql: Session) -> None:
    """Not by any move either: those of one life follow each other, far from those of the next."""
    epochs = sorted(lives(sql, *ANEW["subscriber"]) + lives(sql, *ANEW["topic"]))
    assert all(0 <= epoch < 2**52 for epoch in epochs)
    assert epochs[-1] > 2**46  # or they are not spread over all of it: one run in 10^70
    assert all(after - before > 1000 for before, after in zip(epochs, epochs[1:], strict=False))


def test_p9_no_epoch_comes_twice(billing: Session) -> None:
    no_epoch_comes_twice(billing)


@pytest.mark.parametrize("planted", ["0", "floor(random() * 2^52)", "extract(epoch from now())"])
def test_control_epochs_that_come_twice_are_caught(billing: Session, planted: str) -> None:
    source = "('x' || right(replace(gen_random_uuid()::text, '-', ''), 13))::bit(52)"
    plant(billing, "queue.new_epoch", (source, f"({planted})"))
    with pytest.raises(AssertionError):
        no_epoch_comes_twice(billing)


def test_p9_a_life_goes_on_by_one(billing: Session) -> None:
    first, _ = billing.row(STANDS)
    for n, move in enumerate(("seek('orders', 'billing', 2)", "reset('orders', 1)"), 1):
        billing.run(f"select queue.{move}")
        assert billing.row(STANDS)[0] == first + n
    billing.rows("update queue.position set epoch = epoch - %s", first)  # a subscriber from before
    billing.run("select queue.seek('orders', 'billing', 2)", SUBSCRIBE)
    assert billing.row(STANDS) == (3, 2)


def an_earlier_life_moves_nobody(sql: Session, anew: tuple[str, ...], before: int = 0) -> None:
    """P9: what was fetched in one life is neither acknowledged nor gone on from in the next."""
    for _ in range(before):
        sql.run("select queue.reset('orders', 0)")
    epoch, _ = sql.row(STANDS)
    sql.run(*anew)
    new, _ = sql.row(STANDS)
    for statement, arguments in ((ACK, (4, epoch)), (ACK, (0, epoch)), (AHEAD, (epoch,))):
        with refused("QL005", "made anew", {"position": 0, "epoch": new}):
            sql.rows(statement, *arguments)
    assert sql.row(STANDS) == (new, 0)
    assert sql.value(ACK, 4, new) == 4


@pytest.mark.parametrize("before", [0, 2], ids=["at once", "after resets"])
@pytest.mark.parametrize("anew", ANEW.values(), ids=ANEW)
def test_p9_an_earlier_life_moves_nobody(
    billing: Session, anew: tuple[str, ...], before: int
) -> None:
    an_earlier_life_moves_nobody(billing, anew, before)


@pytest.mark.parametrize("anew", ANEW.values(), ids=ANEW)
def test_control_lives_that_begin_alike_are_caught(sql: Session, anew: tuple[str, ...]) -> None:
    begun(sql)  # whose epochs all begin at 0
    with pytest.raises(pytest.fail.Exception):
        an_earlier_life_moves_nobody(sql, anew)


def test_p9_what_is_made_anew_after_a_restore_is_in_another_epoch(
    cluster: EmbeddedPostgres, dsn: str, billing: Session, pg_bin: Path | None, tmp_path: Path
) -> None:
    """A restored backup or a cut-over: two databases go on from one state, and from the same sequences."""
    programs, dump = pg_bin or packaged_programs(), tmp_path / "queue.dump"
    before, _ = billing.row(STANDS)
    subprocess.run([programs / "pg_dump", "-Fc", "-f", dump, dsn], check=True)
    with database(cluster, "template0") as restored:
        subprocess.run(
            [programs / "pg_restore", "--exit-on-error", "-d", restored, dump], check=True
        )
        with (
            closing(psycopg2.connect(restored)) as own,
            closing(psycopg2.connect(restored)) as other,
        ):
            there = Session(own, other)
            with closing(there):
                assert there.row(STANDS) == (before, 0)
                for anew in ANEW.values():
                    billing.run(*anew)
                    there.run(*anew)
                    assert billing.row(STANDS) != there.row(STANDS)
                    an_earlier_life_moves_nobody(there, ANEW["subscriber"])


def a_seek_in_flight_leaves_the_next_life_alone(
    a: Session, b: Session, c: Session, anew: tuple[str, ...], end: str
) -> None:
    """It waits for an ack; meanwhile its subscriber is deleted and made anew: it was the old one's, or nobody's."""
    epoch, _ = c.row(STANDS)
    b.run("begin")
    b.rows(ACK, 2, epoch)
    a.start(SEEK)
    assert a.waits_for(b)
    c.run(*anew)
    new = c.row(STANDS)
    b.run(end)
    assert a.outcome() == "QL002"
    assert c.row(STANDS) == new


def an_ack_in_flight_leaves_the_next_life_alone(
    a: Session, b: Session, c: Session, anew: tuple[str, ...], end: str
) -> None:
    epoch, _ = c.row(STANDS)
    b.run("begin")
    b.rows(ACK, 2, epoch)
    a.start(ACK, 4, epoch)
    assert a.waits_for(b)
    c.run(*anew)
    new = c.row(STANDS)
    b.run(end)
    assert a.outcome() == ("QL005" if end == "commit" else 4)  # the old one's, which was there then
    assert c.row(STANDS) == new


IN_FLIGHT = (
    a_seek_in_flight_leaves_the_next_life_alone,
    an_ack_in_flight_leaves_the_next_life_alone,
)


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("anew", ANEW.values(), ids=ANEW)
@pytest.mark.parametrize("check", IN_FLIGHT, ids=lambda check: check.__name__)
def test_p9_what_is_in_flight(
    three: Sessions, check: Callable[..., None], anew: tuple[str, ...], end: str
) -> None:
    check(*three, anew, end)


BY_NAME = ("s.subscriber_id = v_subscriber_id", "s.topic = p_topic and s.subscriber = p_subscriber")


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_control_a_seek_that_goes_by_the_name_is_caught(three: Sessions, end: str) -> None:
    plant(three[0], "queue.seek", BY_NAME)
    with pytest.raises(AssertionError):
        a_seek_in_flight_leaves_the_next_life_alone(*three, ANEW["subscriber"], end)


def test_control_an_ack_in_flight_between_lives_that_begin_alike_is_caught(
    sql: Session, session: Callable[[], Session]
) -> None:
    with pytest.raises(AssertionError):
        an_ack_in_flight_leaves_the_next_life_alone(
            begun(sql), session(), session(), ANEW["subscriber"], "commit"
        )
