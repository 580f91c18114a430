"""Leases and work against the real server. Numbers are those of the list of edge cases."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import pytest

from qlib import (
    InvalidRequest,
    KeyOrder,
    Lease,
    LeasedMessage,
    LeaseExpired,
    LeasesOut,
    QPublisher,
    QSubscriber,
)
from qlib import lease as leases
from qlib.hands import Hands
from tests.qlib.desk import Handler, working
from tests.server_process import ServerProcess
from tests.waiting import until

Hire = Callable[..., QSubscriber]
WHILE = 45.0  # how long a test waits at most: a machine may be slow


@pytest.fixture
def pub(server: ServerProcess) -> Iterator[QPublisher]:
    with QPublisher(server.url) as publisher:
        yield publisher


@pytest.fixture
def hire(server: ServerProcess, topic: str) -> Iterator[Hire]:
    """Subscribe another worker of the kitchen."""
    with ExitStack() as opened:

        def start(**settings: Any) -> QSubscriber:
            settings = {"url": server.url, **settings}
            return opened.enter_context(QSubscriber(topic, "kitchen", "earliest", **settings))

        yield start


def offsets(messages: Any) -> list[int]:
    return [message.offset for message in messages]


def position(cook: QSubscriber) -> int:
    """Return the position after a lease: an ack beside another call may have left it to the next one."""
    assert not cook.lease()
    return cook.position


def expired(lease: Lease) -> None:
    """Wait until a lease has expired; the clock is the database's."""
    until(lambda: lease.expires_at < datetime.now(UTC), WHILE)


def test_workers_have_disjoint_messages_and_the_position_follows_what_is_done(
    pub: QPublisher, topic: str, hire: Hire
) -> None:
    """3, 4, 5: leases are disjoint, and what of one is done is done."""
    pub.publish_many(topic, range(10))
    one, two = hire(worker="cook 1"), hire(worker="cook 2")
    first, second, third = one.lease(3), two.lease(4), one.lease(100)
    assert [offsets(it) for it in (first, second, third)] == [[1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert {message.attempt for lease in (first, second, third) for message in lease} == {1}
    assert [(it.worker, it.offsets) for it in one.leases()] == [
        ("cook 1", [1, 2, 3]),
        ("cook 2", [4, 5, 6, 7]),
        ("cook 1", [8, 9, 10]),
    ]
    done = second.ack()
    assert (done.acked, done.position, done.head, done.lag) == (4, 0, 10, 10)
    assert first.ack(first[:2]).position == 2
    assert first.ack(first[2]).position == 7
    assert third.ack([8, 9, 10]).lag == 0 == one.lag
    assert not one.lease() and one.leases() == []


def test_an_ack_again_does_nothing_and_one_of_others_is_refused(
    pub: QPublisher, topic: str, hire: Hire
) -> None:
    """6, 7, 8, 10, 11: what a lease does not hold, or holds no longer."""
    pub.publish_many(topic, range(5))
    cook = hire()
    lease = cook.lease(3)
    with pytest.raises(InvalidRequest):
        lease.ack([1, 4])
    assert cook.position == 0
    assert lease.ack(1).acked == 1
    lease.nack(2)
    with pytest.raises(LeaseExpired):
        lease.ack(2)
    assert lease.nack(1).nacked == lease.ack(1).acked == 0
    short = cook.lease(2, seconds=0.05)
    expired(short)
    for act in (short.ack, short.nack, short.extend):
        with pytest.raises(LeaseExpired):
            act()


def test_what_has_expired_comes_again_as_another_attempt_unless_it_was_extended(
    pub: QPublisher, topic: str, hire: Hire
) -> None:
    pub.publish_many(topic, range(2))
    cook = hire()
    short, long = cook.lease(seconds=0.05), cook.lease(seconds=20)
    until_then = long.expires_at
    assert long.extend(60) == long.expires_at > until_then
    expired(short)
    again = until(lambda: cook.lease(10), WHILE)
    assert [(m.offset, m.attempt) for m in again] == [(1, 2)]
    with pytest.raises(LeaseExpired):
        short.ack()
    assert (again.ack().acked, long.ack().position) == (1, 2)


def given_back_at_the_last_attempt(pub: QPublisher, topic: str, hire: Hire) -> None:
    pub.publish_many(topic, range(3))
    cook = hire(max_attempts=1)
    with cook.lease(3) as lease:
        lease.ack(next(iter(lease)))
    assert cook.dead() == []
    again = cook.lease(3)
    assert [(m.offset, m.attempt) for m in again] == [(2, 1), (3, 1)]


def test_what_was_not_handed_out_is_due_at_once_and_never_dead(
    pub: QPublisher, topic: str, hire: Hire
) -> None:
    given_back_at_the_last_attempt(pub, topic, hire)


def test_control_what_was_tried_is_dead_after_the_last_attempt(
    pub: QPublisher, topic: str, hire: Hire, monkeypatch
) -> None:
    give_back = leases.Lease._give_back
    tried = lambda self, fields, *more: give_back(self, fields | {"untried": False}, *more)  # noqa: E731
    monkeypatch.setattr(leases.Lease, "_give_back", tried)
    with pytest.raises(AssertionError):
        given_back_at_the_last_attempt(pub, topic, hire)


def test_a_block_that_fails_has_its_words_in_the_dead_letter(
    pub: QPublisher, topic: str, hire: Hire
) -> None:
    """20, 43: dead by nack, redriven, and removed."""
    pub.publish_many(topic, [{"dish": "soup"}, {"dish": "fish"}], keys=["table 1", None])
    cook = hire(max_attempts=1, worker="cook 1")
    with pytest.raises(KeyError), cook.lease(2) as lease:
        for message in lease:
            message.payload["salt"]
    (letter,) = cook.dead()
    told = (
        letter.offset,
        letter.payload,
        letter.key,
        letter.attempts,
        letter.reason,
        letter.worker,
    )
    assert told == (1, {"dish": "soup"}, "table 1", 1, "nacked", "cook 1")
    assert letter.error == "KeyError: 'salt'"
    assert cook.position == 1
    assert cook.lease().ack().position == 2
    assert cook.redrive() == 1 and cook.dead() == []
    again = cook.lease()
    assert [(m.offset, m.attempt) for m in again] == [(1, 1)]
    assert again.nack(error="no fish").dead == 1
    assert [it.error for it in cook.dead(after=0, limit=5)] == ["no fish"]
    assert cook.dead(after=1) == []
    assert (cook.redrive([2]), cook.remove_dead([2]), cook.remove_dead(cook.dead())) == (0, 0, 1)
    assert cook.dead() == []


def test_settings_are_set_kept_and_changed(pub: QPublisher, topic: str, hire: Hire) -> None:
    """31: order by key changes only when nothing is out."""
    pub.publish(topic, 1)
    cook = hire(max_attempts=3, backoff=0.5, backoff_cap=9.0, ordered=True)
    again = hire(max_attempts=4)  # it was there, and keeps its settings
    for info in (cook.info(), again.info(), pub.subscribers(topic)[0]):
        assert (info.max_attempts, info.backoff_seconds) == (3, 0.5)
        assert (info.backoff_cap_seconds, info.ordered) == (9.0, True)
    assert again.configure(max_attempts=4).max_attempts == 4
    assert (cook.info().backoff_seconds, cook.info().max_attempts) == (0.5, 4)
    lease = cook.lease()
    with pytest.raises(LeasesOut):
        cook.configure(ordered=False)
    lease.ack()
    assert cook.configure(ordered=False).ordered is False


def test_with_order_a_key_is_acknowledged_from_its_first_message_on(
    pub: QPublisher, topic: str, hire: Hire
) -> None:
    """25, 26: several of a key in one lease; a nack takes back what follows."""
    pub.publish_many(topic, range(4), keys=["a", "a", "b", "a"])
    cook = hire(ordered=True)
    lease = cook.lease(4)
    assert offsets(lease) == [1, 2, 3, 4] and not cook.lease()
    for act in (lease.ack, lease.nack):
        with pytest.raises(KeyOrder):
            act(2)
    lease.ack([1, 3])
    lease.nack(2, delay=0)
    again = cook.lease(10)
    assert [(m.offset, m.attempt) for m in again] == [(2, 2), (4, 1)]


def test_a_seek_voids_the_lease(pub: QPublisher, topic: str, hire: Hire) -> None:
    """32: what was leased before a seek is refused, and comes anew."""
    pub.publish(topic, 1)
    cook = hire()
    lease = cook.lease()
    cook.seek(0)
    with pytest.raises(LeaseExpired):
        lease.ack()
    assert [(m.offset, m.attempt) for m in cook.lease()] == [(1, 1)]


def test_an_empty_lease_waits_for_a_message(pub: QPublisher, topic: str, hire: Hire) -> None:
    """2: nothing to do; and a long poll that a publish wakes."""
    cook, found = hire(), []
    assert not cook.lease(wait=0.1)
    waiting = Thread(target=lambda: found.append(cook.lease(wait=60)))
    waiting.start()
    pub.publish(topic, 1)
    waiting.join(WHILE)
    assert [offsets(lease) for lease in found] == [[1]]


# work


def test_two_workers_share_the_messages(pub: QPublisher, topic: str, hire: Hire) -> None:
    pub.publish_many(topic, range(200))
    one, two = Handler(1), Handler(2)
    with working(hire(), one, limit=1), working(hire(), two, limit=1):
        until(lambda: one.began + two.began in ([1, 2], [2, 1]) or None, WHILE)
        one.release()
        two.release()
        until(lambda: len(one.got) + len(two.got) == 200, WHILE)
    assert sorted(one.got + two.got) == list(range(1, 201))
    assert min(len(one.got), len(two.got)) > 1
    assert position(hire()) == 200


def held_while_at_work(pub: QPublisher, topic: str, hire: Hire, seconds: float) -> None:
    pub.publish(topic, 1)
    cook, handler, other = hire(), Handler(1), hire(worker="other")
    with working(cook, handler, seconds=seconds):
        until(lambda: handler.began, WHILE)
        (first,) = other.leases()
        until(lambda: datetime.now(UTC) > first.expires_at, WHILE)
        stolen = other.lease(wait=0.5)
        handler.release()
        assert not stolen
    assert position(cook) == 1


def test_a_message_is_held_as_long_as_its_handler_works(
    pub: QPublisher, topic: str, hire: Hire
) -> None:
    held_while_at_work(pub, topic, hire, 6.0)


def test_control_without_extensions_another_worker_gets_it(
    pub: QPublisher, topic: str, hire: Hire, monkeypatch
) -> None:
    monkeypatch.setattr(Hands, "_extend", lambda self, held: self.board.missed(held, float("inf")))
    with pytest.raises(AssertionError):
        held_while_at_work(pub, topic, hire, 1.0)


def test_what_a_handler_is_too_slow_for_goes_to_others_and_its_result_is_refused(
    pub: QPublisher, topic: str, hire: Hire, caplog
) -> None:
    pub.publish_many(topic, [1, 2])
    cook, handler = hire(), Handler(1)
    with working(cook, handler, seconds=2, handler_seconds=0.1, limit=1):
        until(lambda: handler.began, WHILE)
        other = until(lambda: [m for m in hire().lease(1) if m.offset == 1 or None], WHILE)
        assert [(m.offset, m.attempt) for m in other] == [(1, 2)]
        handler.release()
        until(lambda: "offsets [1] could not be acknowledged" in caplog.text, WHILE)
        pub.publish(topic, 3)
        until(lambda: 3 in handler.got, WHILE)  # it goes on
    assert cook.position == 0


def test_a_poison_message_holds_up_nobody_and_ends_in_the_dead_letters(
    pub: QPublisher, topic: str, hire: Hire, caplog
) -> None:
    """22: and it is logged once an attempt."""
    pub.publish_many(topic, range(50))
    cook = hire(max_attempts=3, backoff=0)
    attempts: list[int] = []

    def handler(message: LeasedMessage) -> None:
        if message.offset == 7:
            attempts.append(message.attempt)
            raise ValueError("poison")

    with working(cook, handler, threads=3):
        until(lambda: cook.lag == 0, WHILE)
    assert attempts == [1, 2, 3]
    assert [(it.offset, it.error) for it in cook.dead()] == [(7, "ValueError: poison")]
    assert len([line for line in caplog.messages if "ValueError: poison" in line]) == 3


def test_a_stop_gives_back_untried_what_is_at_its_last_attempt(
    pub: QPublisher, topic: str, hire: Hire
) -> None:
    pub.publish_many(topic, range(5))
    cook, handler = hire(max_attempts=1), Handler(1)
    with working(cook, handler) as work:
        until(lambda: handler.began, WHILE)
        work.stop.set()
        again = hire().lease(10, wait=40)  # at once, although a handler is still at work
        handler.release()
    assert [(m.offset, m.attempt) for m in again] == [(2, 1), (3, 1), (4, 1), (5, 1)]
    assert cook.dead() == [] and position(cook) == 1


def test_a_reset_under_way_brings_messages_back_and_work_goes_on(
    pub: QPublisher, topic: str, hire: Hire, caplog
) -> None:
    pub.publish_many(topic, range(3))
    cook, handler = hire(), Handler(2)
    with working(cook, handler):
        until(lambda: handler.began == [1, 2], WHILE)
        pub.reset_topic(topic, 0)
        handler.release()
        until(lambda: cook.lag == 0, WHILE)
    assert handler.got[:2] == [1, 2] and sorted(handler.got[2:])[:3] == [1, 2, 3]
    assert "offsets [2" in caplog.text and "could not be acknowledged" in caplog.text


def test_with_order_no_message_overtakes_one_of_its_key_whatever_fails(
    pub: QPublisher, topic: str, hire: Hire, caplog
) -> None:
    """24 to 27: each third message fails once; what follows it in its key has not been tried."""
    tables = 5
    pub.publish_many(topic, range(60), keys=[f"table {n % tables}" for n in range(60)])
    done: list[tuple[str, int]] = []
    tried: list[tuple[int, int]] = []

    def handler(message: LeasedMessage) -> None:
        tried.append((message.offset, message.attempt))
        if message.offset % 3 == 0 and message.attempt == 1:
            raise ValueError("once")
        done.append((message.key or "", message.offset))

    one, two = hire(ordered=True, backoff=0), hire()
    with working(one, handler, threads=3), working(two, handler, threads=3, limit=3):
        until(lambda: one.lag == 0, WHILE)
    assert len(done) == 60
    for table in {key for key, _ in done}:
        mine = [offset for key, offset in done if key == table]
        assert mine == sorted(mine)
    assert sorted(tried) == sorted(
        (offset, attempt) for offset in range(1, 61) for attempt in (1, 2)[: 1 + (offset % 3 == 0)]
    )
