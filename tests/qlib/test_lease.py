"""A lease against a scripted server: what is sent, what is not sent twice, and what its end gives back."""

import os
import pickle
import socket
from datetime import UTC, datetime

import pytest

from qlib import (
    Acked,
    DeadLetter,
    InvalidRequest,
    KeyOrder,
    LeaseExpired,
    LeasesOut,
    Nacked,
    OutcomeUnknown,
    QSubscriber,
)
from qlib import lease as leases
from tests.qlib import hostile as fake
from tests.qlib.hostile import (
    EXPIRED,
    LEASES,
    PATH,
    TIME,
    answer,
    asked,
    busy,
    cut,
    done,
    fetched,
    given_back,
    hostile,
    leased,
    problem,
    unsure,
)


def test_a_lease_is_a_sequence_of_messages_that_know_their_attempt(subscribed):
    state, reader = subscribed(leased(5, 6, attempt=2), timeout=5.0)
    lease = reader.lease(10, 20, wait=2.5)
    assert [(m.offset, m.payload, m.attempt, m.lease) for m in lease] == [
        (5, 50, 2, "7-11"),
        (6, 60, 2, "7-11"),
    ]
    assert (len(lease), lease[0].offset, lease[-1].offset, lease[:1]) == (2, 5, 6, (lease[0],))
    assert (lease.id, lease.topic, lease.subscriber) == ("7-11", "orders", "billing")
    assert lease.expires_at == datetime.fromisoformat(TIME)
    assert lease.worker == f"{socket.gethostname()}-{os.getpid()}"
    (sent,) = state.seen
    assert (sent.method, sent.path, sent.query) == ("POST", LEASES, {})
    wanted = {"worker": lease.worker, "limit": 10, "lease_seconds": 20.0, "wait": 2.5}
    assert sent.body == wanted


def test_an_empty_lease_is_false_and_asks_for_nothing(subscribed):
    state, reader = subscribed(leased(), answer(fake.subscriber(position=4, head=9, lag=5)))
    with reader.lease() as lease:
        assert (bool(lease), len(lease), list(lease)) == (False, 0, [])
        assert (lease.id, lease.expires_at) == (None, None)
        assert lease.ack() == Acked(0, 4, 1, 9, 5)
        assert lease.nack() == Nacked(0, 0)
        with pytest.raises(InvalidRequest, match="nothing to extend"):
            lease.extend()
    assert [(seen.method, seen.path) for seen in state.seen] == [
        ("POST", LEASES),
        ("GET", f"{PATH}/billing"),
    ]


def test_a_worker_has_a_name_for_people():
    with hostile(answer(fake.subscriber(), 201), leased()) as server:
        with QSubscriber("orders", "billing", worker="cook 1", url=server.url) as reader:
            assert (reader.worker, reader.lease().worker) == ("cook 1", "cook 1")
        assert "worker" not in server.seen[0].body
        assert server.seen[1].body["worker"] == "cook 1"
        with pytest.raises(InvalidRequest, match="worker is a text"):
            QSubscriber("orders", "billing", worker=1, url=server.url)


def test_ack_of_all_of_one_and_of_several(subscribed):
    state, reader = subscribed(leased(5, 6, 7), done(1, 5), done(2, 7), done(0), done(3))
    lease = reader.lease(3)
    first = lease.ack(lease[0])
    assert (first.acked, first.position, first.epoch, first.head, first.lag) == (1, 5, 1, 99, 94)
    assert lease.ack([lease[1], 7]).acked == 2
    assert lease.ack(7).acked == 0
    assert lease.ack().acked == 3
    sent = [{"offsets": [5]}, {"offsets": [6, 7]}, {"offsets": [7]}, {}]
    assert asked(state, "ack") == sent


def test_ack_of_nothing_sends_no_ack(subscribed):
    state, reader = subscribed(leased(5), answer(fake.subscriber(position=4, head=9, lag=5)))
    lease = reader.lease()
    assert lease.ack([]).acked == 0
    assert lease.nack([]) == Nacked(0, 0)
    assert asked(state, "ack") == asked(state, "nack") == []


def test_what_is_no_message_of_the_lease_is_said(subscribed):
    state, reader = subscribed(leased(5), leased(6, lease="8-1"), fetched(5))
    lease, other, batch = reader.lease(), reader.lease(), reader.fetch()
    for wrong in (other[0], batch[0], [5, other[0]]):
        with pytest.raises(InvalidRequest, match="not a message of this lease"):
            lease.ack(wrong)
    for wrong in ("5", b"5", 1.5, True, [None]):
        with pytest.raises(InvalidRequest, match="messages of the lease, or their offsets"):
            lease.nack(wrong)
    with pytest.raises(InvalidRequest, match="acknowledge it at its lease"):
        reader.ack(lease[0])
    assert len(state.seen) == 3


def test_nack_tells_delay_error_and_whether_it_was_tried(subscribed):
    state, reader = subscribed(leased(5, 6), *[given_back(1, 1)] * 5)
    lease = reader.lease(2)
    nacked = lease.nack()
    assert (nacked.nacked, nacked.dead) == (1, 1)
    lease.nack(lease[0], delay=0)
    lease.nack([5, 6], delay=2.5, error="no salt")
    lease.nack(5, error=KeyError("salt"))
    lease.nack(untried=True)
    assert asked(state, "nack") == [
        {"untried": False},
        {"untried": False, "offsets": [5], "delay_seconds": 0.0},
        {"untried": False, "offsets": [5, 6], "delay_seconds": 2.5, "error": "no salt"},
        {"untried": False, "offsets": [5], "error": "KeyError: 'salt'"},
        {"untried": True},
    ]
    for wrong in (-1, float("nan"), "1"):
        with pytest.raises(InvalidRequest, match="delay"):
            lease.nack(delay=wrong)


def test_extend_is_for_as_long_as_it_was_leased_or_as_said(subscribed):
    later = "2024-02-29T13:00:00+00:00"
    state, reader = subscribed(leased(5), *[answer({"expires_at": later})] * 2)
    lease = reader.lease(seconds=12)
    assert lease.extend() == datetime(2024, 2, 29, 13, tzinfo=UTC) == lease.expires_at
    lease.extend(60)
    assert asked(state, "extend") == [{"lease_seconds": 12.0}, {"lease_seconds": 60.0}]
    for wrong in (0, -1, float("inf"), "1"):
        with pytest.raises(InvalidRequest, match="seconds"):
            lease.extend(wrong)
        with pytest.raises(InvalidRequest, match="seconds"):
            reader.lease(seconds=wrong)


def test_a_lease_is_not_asked_for_again_when_its_answer_is_lost(subscribed):
    """WORK C 16: a lost answer is like a worker that dies."""
    for lost in (cut, unsure()):
        state, reader = subscribed(lost, leased(5))
        with pytest.raises(OutcomeUnknown):
            reader.lease(wait=1)
        assert len(state.seen) == 1


def test_a_lease_that_was_surely_not_made_is_asked_for_again(subscribed, clock):
    state, reader = subscribed(busy("1"), busy("1"), leased(5), timeout=3.0)
    assert len(reader.lease(wait=2)) == 1
    assert [seen.body["wait"] for seen in state.seen][0] == 2
    assert 0 <= state.seen[2].body["wait"] < 2  # no longer than what is left for all


def test_the_rest_is_repeated_since_that_is_safe(subscribed):
    lost = [cut, unsure()]
    later = answer({"expires_at": TIME})
    state, reader = subscribed(leased(5), *lost, done(0), *lost, given_back(0), *lost, later)
    lease = reader.lease()
    assert lease.ack().acked == 0
    lease.nack()
    lease.extend()
    for verb in ("ack", "nack", "extend"):
        assert len(asked(state, verb)) == 3


@pytest.mark.parametrize(
    ("code", "kind"), [("lease_expired", LeaseExpired), ("key_order", KeyOrder)]
)
def test_refusals_are_definite(subscribed, code, kind):
    _, reader = subscribed(leased(5), *[problem(409, code)] * 3)
    lease = reader.lease()
    for act in (lease.ack, lease.nack, lease.extend):
        with pytest.raises(kind):
            act()


def test_a_refusal_behind_a_lost_answer_is_in_doubt(subscribed):
    _, reader = subscribed(leased(5), cut, EXPIRED)
    with pytest.raises(OutcomeUnknown) as raised:
        reader.lease().ack()
    assert isinstance(raised.value.__cause__, LeaseExpired)


def leave(subscribed, script, act) -> list:
    """Lease 1 to 4, do this with the lease in its block, and return what was given back at its end."""
    state, reader = subscribed(leased(1, 2, 3, 4), *script)
    with reader.lease(4) as lease:
        act(lease)
        before = len(asked(state, "nack"))
    return asked(state, "nack")[before:]


def untried(*offsets: int) -> dict:
    return {"offsets": list(offsets), "untried": True}


def hand_out_two(lease) -> None:
    for message in lease:
        if message.offset == 2:
            break


def test_the_block_gives_back_what_was_not_handed_out(subscribed):
    assert leave(subscribed, [given_back(2)], hand_out_two) == [untried(3, 4)]
    assert leave(subscribed, [given_back(4)], lambda lease: None) == [untried(1, 2, 3, 4)]
    assert leave(subscribed, [given_back(3)], lambda lease: lease[1]) == [untried(1, 3, 4)]
    assert leave(subscribed, [given_back(2)], lambda lease: lease[2:]) == [untried(1, 2)]


def test_control_a_block_that_gives_back_nothing_is_caught(subscribed, monkeypatch):
    monkeypatch.setattr(leases.Lease, "_return", lambda self, fields: None)
    with pytest.raises(AssertionError):
        test_the_block_gives_back_what_was_not_handed_out(subscribed)


def test_the_block_leaves_alone_what_is_settled(subscribed):
    assert leave(subscribed, [done(4)], lambda lease: lease.ack()) == []
    assert leave(subscribed, [done(1), given_back(3)], lambda lease: lease.ack(2)) == [
        untried(1, 3, 4)
    ]
    assert leave(subscribed, [given_back(4)], lambda lease: lease.nack()) == []


def test_the_block_of_all_handed_out_gives_back_nothing(subscribed):
    assert leave(subscribed, [], list) == []


def fail_at_three(lease) -> None:
    for message in lease:
        if message.offset == 1:
            lease.ack(message)
        assert 1 / (3 - message.offset)


def broken_off(subscribed, script, error=ZeroDivisionError, act=fail_at_three):
    state, reader = subscribed(leased(1, 2, 3, 4), done(1), *script)
    with pytest.raises(error), reader.lease(4) as lease:
        act(lease)
    return asked(state, "nack")


def test_an_exception_gives_back_with_its_words_what_it_has_broken_off(subscribed):
    assert broken_off(subscribed, [given_back(2), given_back(1)]) == [
        {"offsets": [2, 3], "error": "ZeroDivisionError: division by zero"},
        untried(4),
    ]


def test_an_exit_gives_back_only_what_nobody_has_begun(subscribed):
    def interrupted(lease):
        lease.ack(1)
        hand_out_two(lease)
        raise KeyboardInterrupt

    assert broken_off(subscribed, [given_back(2)], KeyboardInterrupt, interrupted) == [
        untried(3, 4)
    ]


@pytest.mark.parametrize("failure", [EXPIRED, problem(404, "subscriber_not_found")])
def test_what_cannot_be_given_back_is_told_and_hides_no_exception(subscribed, failure, caplog):
    assert len(broken_off(subscribed, [failure, failure])) == 2
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("offsets [2, 3] of <Lease of 4 from orders")
    caplog.clear()
    assert leave(subscribed, [failure], hand_out_two) == [untried(3, 4)]
    assert len(caplog.messages) == 1


def test_the_end_of_the_block_does_not_wait_for_a_queue_that_is_gone(subscribed, clock, caplog):
    assert len(leave(subscribed, [busy()] * 5000, hand_out_two)) > 1
    assert 0.0 < sum(clock) < 2.5
    assert "were not given back now" in caplog.text


def test_settings_travel_with_the_subscription():
    told = fake.subscriber(
        max_attempts=3, backoff_seconds=0.5, backoff_cap_seconds=9.0, ordered=True
    )
    with hostile(*[answer(told, 201)] * 2) as server:
        given = {"max_attempts": 3, "backoff": 0.5, "backoff_cap": 9, "ordered": True}
        with QSubscriber("orders", "billing", url=server.url, **given) as reader:
            assert server.seen[0].body == {
                "subscriber": "billing",
                "start": "latest",
                "max_attempts": 3,
                "backoff_seconds": 0.5,
                "backoff_cap_seconds": 9.0,
                "ordered": True,
            }
            info = reader.configure(ordered=True, max_attempts=3)
        assert (info.max_attempts, info.ordered) == (3, True)
        assert repr(info).endswith(
            "max_attempts=3, backoff_seconds=0.5, backoff_cap_seconds=9.0, ordered=True)"
        )
        asked_for = server.seen[1]
        assert (asked_for.method, asked_for.path) == ("PATCH", f"{PATH}/billing")
        assert asked_for.body == {"max_attempts": 3, "ordered": True}


def test_settings_are_repeated_and_refused(subscribed):
    state, reader = subscribed(cut, answer(fake.subscriber()), problem(409, "leases_out"))
    usual = reader.configure(backoff=1)
    assert (
        repr(usual) == "Subscriber(topic='orders', subscriber='billing', position=0, head=0, lag=0)"
    )
    with pytest.raises(LeasesOut):
        reader.configure(ordered=True)
    assert len(state.seen) == 3
    for wrong in ({"max_attempts": 1.5}, {"backoff": -1}, {"backoff_cap": "1"}, {"ordered": 1}):
        with pytest.raises(InvalidRequest, match=next(iter(wrong))):
            reader.configure(**wrong)
    assert len(state.seen) == 3


LETTER = fake.message(3, {"dish": "soup"}) | {
    "key": "table 1",
    "attempts": 5,
    "reason": "nacked",
    "error": "KeyError: 'salt'",
    "worker": "cook 1",
    "died_at": TIME,
}


def test_dead_letters_are_listed_redriven_and_removed(subscribed):
    redriven, removed = answer({"redriven": 1}), answer({"removed": 2})
    state, reader = subscribed(
        *[answer({"dead": [LETTER]})] * 2, redriven, redriven, removed, removed, cut, cut
    )
    (letter,) = reader.dead()
    assert (letter.offset, letter.payload, letter.key) == (3, {"dish": "soup"}, "table 1")
    assert (letter.attempts, letter.reason, letter.worker) == (5, "nacked", "cook 1")
    assert letter.died_at == datetime.fromisoformat(TIME) == letter.published_at
    assert "1 dead letter<" in reader.dead(after=2, limit=7)._repr_html_()
    assert (reader.redrive(), reader.redrive([letter, 4], limit=9)) == (1, 1)
    assert (reader.remove_dead(), reader.remove_dead([letter])) == (2, 2)
    dead = f"{PATH}/billing/dead"
    assert [(seen.method, seen.path) for seen in state.seen] == [
        *[("GET", dead)] * 2,
        *[("POST", f"{dead}/redrive")] * 2,
        *[("DELETE", dead)] * 2,
    ]
    assert [seen.query for seen in state.seen[:2]] == [
        {"limit": "100"},
        {"limit": "7", "after": "2"},
    ]
    assert [seen.body for seen in state.seen[2:]] == [
        {"limit": 1000},
        {"limit": 9, "offsets": [3, 4]},
        {"limit": 1000},
        {"limit": 1000, "offsets": [3]},
    ]
    for act in (reader.redrive, reader.remove_dead):  # the next ones would be taken, too
        with pytest.raises(OutcomeUnknown):
            act()
    assert len(state.seen) == 8
    with pytest.raises(InvalidRequest, match="offsets"):
        reader.redrive(["3"])
    assert (reader.redrive([]), reader.remove_dead([])) == (0, 0)  # nothing is asked
    assert len(state.seen) == 8


@pytest.mark.parametrize(
    "one", [3, DeadLetter(3, None, 5, "expired", None, None, datetime.now(UTC))]
)
def test_one_dead_letter_is_redriven_or_removed(subscribed, one):
    state, reader = subscribed(answer({"redriven": 1}), answer({"removed": 1}))
    assert (reader.redrive(one), reader.remove_dead(one)) == (1, 1)
    assert [seen.body["offsets"] for seen in state.seen] == [[3], [3]]


def test_leases_are_listed(subscribed):
    held = {"lease": "7", "worker": None, "offsets": [5, 6], "attempt": 2}
    held |= {"leased_at": TIME, "expires_at": TIME}
    state, reader = subscribed(*[answer({"leases": [held]})] * 2)
    (lease,) = reader.leases()
    assert (lease.lease, lease.worker, lease.offsets, lease.attempt) == ("7", None, [5, 6], 2)
    assert repr(lease) == "LeaseInfo(offsets=[5, 6], attempt=2)"
    assert "1 lease<" in reader.leases(after="6", limit=3)._repr_html_()
    assert [seen.query for seen in state.seen] == [{"limit": "100"}, {"limit": "3", "after": "6"}]


@pytest.mark.parametrize(
    "odd",
    [
        {"lease": "1-1", "expires_at": None, "messages": []},
        {"lease": None, "expires_at": None, "messages": [fake.message(1) | {"attempt": 1}]},
        {"lease": "1-1", "expires_at": TIME, "messages": [fake.message(1)]},
    ],
)
def test_an_answer_that_is_no_lease_is_of_unknown_outcome(subscribed, odd):
    _, reader = subscribed(answer({"topic": "orders", "subscriber": "billing", **odd}))
    with pytest.raises(OutcomeUnknown, match="not what the contract says"):
        reader.lease()


def test_a_leased_message_is_a_value(subscribed):
    _, reader = subscribed(leased(5, attempt=3), fetched(5))
    lease = reader.lease()
    message = lease[0]
    assert repr(message) == "LeasedMessage(offset=5, payload=50, attempt=3)"
    assert repr(lease) == "<Lease of 1 from orders, offsets 5 to 5>"
    assert repr(lease) == lease._repr_html_().partition("caption>")[2].partition("<")[0].join("<>")
    copy = pickle.loads(pickle.dumps(message))
    assert (copy, copy.attempt, copy.lease) == (message, 3, "7-11")
    assert message == reader.fetch()[0]  # the same message, whoever has read it
