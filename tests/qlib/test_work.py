"""What work promises about handlers, acks, extensions and its end; the queue is made up, and exact."""

import logging
import signal
import threading
import time
from functools import partial

import pytest

from qlib import (
    InvalidRequest,
    KeyOrder,
    LeaseExpired,
    OutcomeUnknown,
    SubscriberNotFound,
    Unavailable,
    board,
    held,
)
from qlib.errors import in_doubt
from qlib.reading import Leased
from tests import waiting
from tests.qlib.desk import MOMENT, Desk, Handler, Working, working

until = partial(waiting.until, timeout=45.0)  # a machine may be slow


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a condition that will not come true fail soon."""
    monkeypatch.setattr("tests.qlib.test_work.until", partial(waiting.until, timeout=2.0))


def test_each_message_is_handled_and_acked_and_at_0_work_ends_with_the_last():
    desk, handler = Desk(range(1, 11), range(11, 15)), Handler()
    desk.work(handler, wait=0)
    assert handler.got == sorted(desk.acked()) == list(range(1, 15))
    assert desk.told("nack") == []
    assert desk.asked >= 3


@pytest.mark.parametrize("threads", [2, 8])
def test_threads_take_the_next_message_each(threads):
    desk, handler = Desk(range(1, 101), range(101, 201)), Handler()
    desk.work(handler, threads, wait=0)
    assert sorted(handler.got) == sorted(desk.acked()) == list(range(1, 201))


def one_slow_handler_of_two() -> None:
    desk, handler = Desk(range(1, 11), [11]), Handler(1)
    with working(desk, handler, threads=2):
        until(lambda: len(handler.got) == 10)
        until(lambda: len(desk.acked()) == 10)
        assert sorted(handler.began) == list(range(1, 12)) and 1 not in handler.got
        handler.release()
    assert sorted(desk.acked()) == list(range(1, 12))


def test_a_slow_handler_does_not_hold_up_the_others():
    one_slow_handler_of_two()


def test_a_message_is_acked_when_its_handler_returns_and_not_when_the_lease_is_through():
    desk, handler = Desk([1, 2, 3]), Handler(2, 3)
    with working(desk, handler):
        until(lambda: desk.told("ack") == [[1]])
        handler.go_on[2].set()
        until(lambda: desk.told("ack") == [[1], [2]])
        handler.release()
        until(lambda: desk.told("ack") == [[1], [2], [3]])


def test_control_an_ack_at_the_end_of_the_lease_is_caught(monkeypatch):
    news = held.Held.news
    late = lambda it: None if it.waiting or it.at_work else news(it)  # noqa: E731
    monkeypatch.setattr(held.Held, "news", late)
    impatient(monkeypatch)
    with pytest.raises(AssertionError):
        test_a_message_is_acked_when_its_handler_returns_and_not_when_the_lease_is_through()


def test_what_is_done_while_an_ack_is_under_way_goes_together():
    desk, handler = Desk(range(1, 6)), Handler(2)
    under_way, go_on = threading.Event(), threading.Event()
    take = desk._take

    def slow(*told):
        under_way.set()
        assert go_on.wait(60)
        take(*told)

    desk._take = slow
    with working(desk, handler):
        assert under_way.wait(60)
        handler.release()
        until(lambda: len(handler.got) == 5)
        go_on.set()
    assert desk.told("ack") == [[1], [2, 3, 4, 5]]


def test_it_leases_only_when_a_handler_has_nothing_to_do():
    desk, handler = Desk([1], [2], [3]), Handler(1)
    with working(desk, handler, limit=1):
        until(lambda: handler.began == [1])
        assert desk.asked == 1
        handler.release()
        until(lambda: len(handler.got) == 3)
    assert desk.acked() == [1, 2, 3]


def failing(message):
    if message.offset == 2:
        raise KeyError("salt")


def test_what_fails_is_given_back_with_its_words_and_the_log_has_the_traceback(caplog):
    desk = Desk([1, 2, 3])
    desk.work(failing, wait=0)
    assert desk.acked() == [1, 3]
    assert desk.told("nack") == [{"offsets": [2], "error": "KeyError: 'salt'"}]
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("qlib", "WARNING")
    assert "at offset 2 of the desk, attempt 1: KeyError: 'salt'" in record.message
    assert record.exc_info[0] is KeyError


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError


class Leaving(Exception):
    def __str__(self):
        raise SystemExit


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError(), "ValueError"),
        (Unspeakable(), "Unspeakable: it cannot say what"),
        (Leaving(), "Leaving: it cannot say what"),
        (ValueError("a\0b \ud800"), "ValueError: a\ufffdb ?"),
        (ValueError("x" * 10_000), "ValueError: " + "x" * 987 + "…"),
    ],
    ids=["no words", "none at all", "not even that", "odd", "long"],
)
def test_any_error_is_told_in_words_that_the_queue_takes(error, told, caplog):
    def handler(message):
        raise error

    caplog.set_level(logging.CRITICAL, "qlib")  # no report of a test can hold the odd one
    desk = Desk([1])
    desk.work(handler, wait=0)
    assert desk.told("nack") == [{"offsets": [1], "error": told}]


def test_a_log_that_fails_ends_the_work_and_is_told(monkeypatch):
    def full(*told, **more):
        raise OSError("no space left")

    monkeypatch.setattr("qlib.hands._log.warning", full)
    desk = Desk([1, 2, 3])
    with pytest.raises(OSError, match="no space left"):
        desk.work(failing)
    assert desk.acked()[0] == 1
    assert desk.told("nack")[0] == {"offsets": [2], "error": "KeyError: 'salt'"}


def test_a_log_that_fails_does_not_stop_the_thread_that_extends(monkeypatch):
    def full(*told, **more):
        raise OSError("no space left")

    monkeypatch.setattr("qlib.board._log.warning", full)
    desk, handler = Desk([1, 2], [3]), Handler(1, 3)
    work = Working(desk, handler, threads=2, limit=2, seconds=0.3, handler_seconds=0.2)
    until(lambda: work.error)
    handler.release()
    assert isinstance(work.ended(), OSError)


def test_a_handler_that_leaves_the_process_ends_the_work(caplog):
    def handler(message):
        if message.offset == 2:
            raise SystemExit(3)

    desk = Desk([1, 2, 3])
    with pytest.raises(SystemExit) as raised:
        desk.work(handler)
    assert raised.value.code == 3
    assert desk.acked() == [1]
    assert desk.told("nack") == [
        {"offsets": [2], "error": "SystemExit: 3"},
        {"offsets": [3], "untried": True},
    ]


class Unrun:
    """Handlers that look like plain ones, and of which nothing has run when they return."""

    async def __call__(self, message):
        """Nobody would wait for it."""

    def generator(self, message):
        yield

    async def asynchronous(self, message):
        yield


@pytest.mark.parametrize(
    "handler",
    [Unrun(), lambda it: Unrun()(it), lambda it: Unrun().generator(it), Unrun().asynchronous],
)
def test_a_message_is_not_done_when_nothing_of_its_handler_has_run(handler):
    desk = Desk([1])
    desk.work(handler, wait=0)
    assert desk.acked() == []
    (told,) = desk.told("nack")
    assert "no plain function" in told["error"]


def test_a_stop_in_an_outage_is_not_put_off_by_each_thing_that_is_still_to_tell(caplog):
    stop, tried = threading.Event(), set()

    class Cut(Desk):
        def _nack(self, lease, fields, outage=None):
            tried.update(fields["offsets"])
            return super()._nack(lease, fields, outage)

    def handler(message):
        if message.offset == 5:
            stop.set()
        raise KeyError("salt")

    desk = Cut(range(1, 6), nack=[Unavailable("it is gone")] * 1000)
    desk.work(handler, stop=stop)
    assert tried == {1}
    left = [it for it in caplog.messages if "could not be given back" in it]
    assert len(left) == 5


# order by key


def keys_one_by_one(ordered: bool = True) -> None:
    """Two threads, two keys: of each the first is held up, and its followers must wait."""
    desk = Desk({1: "a", 2: "a", 3: "b", 4: "a", 5: "b"}, ordered=ordered)
    handler = Handler(1, 3)
    with working(desk, handler, threads=2):
        until(lambda: len(handler.began) == 2)
        assert sorted(handler.began) == [1, 3]
        handler.go_on[3].set()
        until(lambda: 5 in handler.got)
        assert sorted(handler.began) == [1, 3, 5]
        handler.release()
        until(lambda: len(desk.acked()) == 5)
    assert [offset for offset in handler.began if offset not in (3, 5)] == [1, 2, 4]
    assert sorted(desk.acked()) == [1, 2, 3, 4, 5]


def test_messages_of_a_key_come_one_after_the_other():
    keys_one_by_one()


def test_control_without_order_they_come_side_by_side(monkeypatch):
    impatient(monkeypatch)
    with pytest.raises(AssertionError):
        keys_one_by_one(ordered=False)


def test_what_has_no_key_has_no_order():
    desk, handler = Desk([1, 2], ordered=True), Handler(1)
    with working(desk, handler, threads=2):
        until(lambda: handler.got == [2])
        handler.release()


def behind_one_that_failed(ordered: bool) -> list[int]:
    began = []

    def handler(message):
        began.append(message.offset)
        failing(message)

    desk = Desk({1: "a", 2: "a", 3: "b", 4: "a"}, ordered=ordered)
    desk.work(handler, wait=0)
    assert desk.told("nack") == [{"offsets": [2], "error": "KeyError: 'salt'"}]
    verbs = [verb for verb, _ in desk.calls]
    assert verbs.index("nack") > 0  # what is before it in its key was acknowledged before
    return began


def test_behind_one_that_failed_a_key_stands_still(caplog):
    assert behind_one_that_failed(ordered=True) == [1, 2, 3]  # the queue takes 4 back by itself
    assert behind_one_that_failed(ordered=False) == [1, 2, 3, 4]


# extensions


def test_a_lease_is_extended_while_a_handler_works():
    desk, handler = Desk([1, 2]), Handler(1)
    with working(desk, handler, seconds=0.3):
        until(lambda: len(desk.told("extend")) >= 5)
        assert handler.began == [1]
        handler.release()
        until(lambda: len(desk.acked()) == 2)
        extended = len(desk.told("extend"))
    assert set(desk.told("extend")) == {"1-1"}
    assert len(desk.told("extend")) <= extended + 1  # one may have been under way


def test_a_lease_is_extended_when_a_third_of_its_time_is_over():
    it = held.Held(Leased("orders", "kitchen", "1-1", MOMENT, []), 30.0, 100.0, False)
    assert (it.next_beat, it.kept_until) == (110.0, 130.0)
    it.kept(111.0)
    assert (it.next_beat, it.kept_until) == (121.0, 141.0)


def test_an_extension_that_does_not_get_through_is_tried_again():
    lost = [Unavailable(), OutcomeUnknown(), Unavailable()]
    desk, handler = Desk([1], extend=lost), Handler(1)
    with working(desk, handler, seconds=0.3):
        until(lambda: len(desk.told("extend")) >= 2)
        handler.release()
    assert desk.acked() == [1]
    assert lost == []


def test_what_waits_of_a_lease_that_was_lost_is_not_begun(caplog):
    desk, handler = Desk([1, 2, 3], [4]), Handler(1)
    with working(desk, handler, seconds=0.3):
        until(lambda: handler.began)
        desk.failures["extend"].append(LeaseExpired())
        until(lambda: "others may have offsets [1, 2, 3]" in caplog.text)
        handler.release()
        until(lambda: 4 in handler.got)
    assert handler.got == [1, 4]
    assert desk.told("nack") == []


def stood_still(monkeypatch, *refusals: LeaseExpired) -> tuple[Desk, Handler]:
    """Work after the process stood still for a thousand seconds, just when it leased 1 and 2."""
    passed = 0.0
    for module in ("board", "hands", "work"):
        monkeypatch.setattr(f"qlib.{module}.monotonic", lambda: time.monotonic() + passed)

    class Late(Desk):
        def _lease(self, *wanted, **more):
            nonlocal passed
            found = super()._lease(*wanted, **more)
            passed += 1000.0 * (found.lease == "1-1")
            return found

    desk, handler = Late([1, 2], [3], extend=list(refusals)), Handler()
    desk.work(handler, wait=0)
    assert handler.got == desk.acked()
    return desk, handler


def test_when_the_process_stood_still_nothing_is_begun_that_others_may_have(monkeypatch, caplog):
    _, handler = stood_still(monkeypatch, LeaseExpired())
    assert handler.got == [3]
    assert "others may have offsets [1, 2]" in caplog.text
    desk, handler = stood_still(monkeypatch)
    assert handler.got == [1, 2, 3]
    assert desk.told("extend") == ["1-1"]


def too_slow(caplog, monkeypatch) -> None:
    """Let a thousand seconds pass when all but the first handler are through."""
    passed = 0.0
    for module in ("board", "hands", "work"):
        monkeypatch.setattr(f"qlib.{module}.monotonic", lambda: time.monotonic() + passed)
    desk, handler = Desk([1, 2, 3]), Handler(1)
    with working(desk, handler, threads=2, seconds=0.3, handler_seconds=500) as work:
        until(lambda: sorted(desk.acked()) == [2, 3] and desk.told("extend"))
        passed = 1000.0
        until(lambda: "the handler of offset 1 has taken 500 seconds" in caplog.text)
        extended = len(desk.told("extend"))
        desk.script.append([4])
        until(lambda: sorted(desk.acked()) == [2, 3, 4])
        work.stop.set()
        assert work.ended() is None  # it is not waited for
        assert desk.told("extend").count("1-1") <= extended + 1  # one may have been under way
        assert 1 not in desk.acked()
        handler.release()


def test_a_lease_whose_handler_is_too_slow_is_not_extended_and_not_waited_for(caplog, monkeypatch):
    too_slow(caplog, monkeypatch)


def test_control_a_handler_that_has_for_ever_is_waited_for(caplog, monkeypatch):
    monkeypatch.setattr(board.Board, "_look_at_the_clock", lambda self, now: None)
    impatient(monkeypatch)
    with pytest.raises(AssertionError):
        too_slow(caplog, monkeypatch)


def test_behind_a_handler_that_is_too_slow_nothing_waits():
    desk, handler = Desk([1, 2, 3]), Handler(1)
    with working(desk, handler, seconds=30.0, handler_seconds=0.2):
        until(lambda: desk.told("nack") == [{"offsets": [2, 3], "untried": True}])
        handler.release()
    assert (handler.got, desk.acked()) == ([1], [1])  # not too late: it has not expired yet


@pytest.mark.parametrize(
    "refused", [LeaseExpired("too late"), KeyOrder(), in_doubt(LeaseExpired())]
)
def test_a_result_that_comes_too_late_is_told_and_work_goes_on(caplog, refused):
    if isinstance(refused, OutcomeUnknown):
        refused.__cause__ = LeaseExpired()
    desk, handler = Desk([1], [2], ack=[refused]), Handler()
    desk.work(handler, wait=0)
    assert handler.got == [1, 2] and desk.acked() == [2]
    (line,) = caplog.messages
    assert line.startswith("the desk: offsets [1] could not be acknowledged, and come again")


# the end


def drained(threads: int) -> None:
    """Stop while every handler works and the rest of the lease waits."""
    at_work = list(range(1, threads + 1))
    desk, handler = Desk([*at_work, 8, 9], [10]), Handler(*at_work)
    with working(desk, handler, threads=threads) as work:
        until(lambda: len(handler.began) == threads)
        work.stop.set()
        until(lambda: desk.told("nack") == [{"offsets": [8, 9], "untried": True}])
        assert work.is_alive()
        handler.release()
    assert sorted(handler.began) == sorted(handler.got) == sorted(desk.acked()) == at_work
    assert list(desk.script) == [[10]]  # nothing was leased any more


@pytest.mark.parametrize("threads", [1, 3])
def test_a_stop_gives_back_what_is_not_begun_and_waits_for_what_is(threads):
    drained(threads)


def test_no_thread_is_left(caplog, monkeypatch):
    before = set(threading.enumerate())
    drained(3)
    too_slow(caplog, monkeypatch)
    until(lambda: set(threading.enumerate()) == before)


def test_work_ends_when_nothing_came_for_so_long():
    desk, handler = Desk([1], (), (), [2]), Handler()
    desk.work(handler, wait=2)
    assert handler.got == desk.acked() == [1, 2]
    assert desk.asked > 5


def test_a_handler_that_works_on_keeps_work_from_ending():
    desk, handler = Desk([1]), Handler(1)
    work = Working(desk, handler, wait=0)
    until(lambda: handler.began)
    assert work.is_alive()
    desk.script.append([2])
    handler.release()
    assert work.ended() is None
    assert handler.got == [1, 2]


@pytest.mark.parametrize(("wait", "poll"), [(0, 0.0), (0.25, 0.25), (600, 1.0), (None, 1.0)])
def test_beside_a_handler_that_works_on_messages_are_waited_for(wait, poll):
    polls = []

    class Told(Desk):
        def _lease(self, limit, seconds, wait, outage=None):
            polls.append(wait)
            return super()._lease(limit, seconds, wait, outage)

    desk, handler = Told([1]), Handler(1)
    with working(desk, handler, threads=2, wait=wait):
        until(lambda: handler.began and len(polls) > 1)
        handler.release()
    assert polls[1] == poll


def test_what_became_of_a_lease_while_another_was_asked_for_is_not_missed(monkeypatch):
    monkeypatch.setattr(board, "_SLICE", 3600.0)
    asked, through = threading.Event(), threading.Event()
    told = board.Board.told

    class Slow(Desk):
        def _lease(self, *wanted, **more):
            if not self.script:
                asked.set()
                assert through.wait(60)
            return super()._lease(*wanted, **more)

        def _ack_lease(self, *what, **more):
            assert asked.wait(60)
            return super()._ack_lease(*what, **more)

    def tell(self, news):
        told(self, news)
        through.set()

    monkeypatch.setattr(board.Board, "told", tell)
    desk, handler = Slow([1]), Handler()
    assert Working(desk, handler, wait=0).ended() is None
    assert desk.acked() == [1]


def test_an_event_that_is_set_already_ends_it_before_it_begins():
    desk, event = Desk([1]), threading.Event()
    event.set()
    desk.work(Handler(), stop=event)
    assert (desk.asked, desk.calls) == (0, [])


@pytest.mark.parametrize("where", ["lease", "ack", "extend"])
def test_any_other_error_ends_the_work_when_the_handlers_have_ended(where, caplog):
    gone = SubscriberNotFound("kitchen")
    desk, handler = Desk([1, 2]), Handler(1, 2)
    work = Working(desk, handler, threads=3, seconds=0.3)
    until(lambda: len(handler.began) == 2)
    if where == "lease":
        desk.script.append(gone)
    else:
        desk.failures[where].append(gone)
    handler.go_on[1].set()
    until(lambda: not desk.script and not any(desk.failures.values()))
    assert work.is_alive()
    handler.release()
    assert work.ended() is gone
    assert sorted(handler.got) == [1, 2] and 2 in desk.acked()


# outages


def test_an_outage_is_sat_through_and_told_once(caplog):
    down = [Unavailable(), OutcomeUnknown("lost"), Unavailable()]
    desk, handler = Desk([1], *down, [2], ack=[*down]), Handler()
    with working(desk, handler):
        until(lambda: len(desk.acked()) == 2)
    assert sorted(handler.got) == [1, 2]  # none of them twice
    told = [line for line in caplog.messages if "goes on when the queue answers again" in line]
    assert len(told) == len(caplog.messages) == 2  # the one that leases, and the one that tells


@pytest.mark.parametrize("options", [{"patience": 0.0}, {"wait": 0.0}])
def test_patience_ends(options, caplog):
    desk = Desk([1], *[Unavailable("down")] * 1000)
    with pytest.raises(Unavailable):
        desk.work(Handler(), **options)
    assert desk.acked() == [1]


def test_a_stop_in_an_outage_does_not_wait_for_its_end(caplog, monkeypatch):
    monkeypatch.setattr("qlib.work._LEAVING_SECONDS", 0.2)
    desk, handler = Desk([1], ack=[Unavailable("down")] * 10_000), Handler()
    with working(desk, handler):
        until(lambda: "goes on when" in caplog.text)
    assert "offsets [1] could not be acknowledged" in caplog.text
    desk = Desk(*[Unavailable("down")] * 10_000)
    with working(desk, Handler()):
        until(lambda: desk.asked > 2)


# signals


def test_signals_stop_it_in_the_main_thread_and_mean_what_they_did_afterwards():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        desk = Desk([1, 2])

        def handler(message, number=number):
            signal.pthread_kill(threading.main_thread().ident, number)

        desk.work(handler)
        assert 1 in desk.acked()
        assert {number: signal.getsignal(number) for number in before} == before


def test_another_thread_leaves_signals_alone():
    before = signal.getsignal(signal.SIGTERM)
    with working(Desk([1]), Handler()):
        assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        desk, seen = Desk([1]), []
        desk.work(lambda message: seen.append(signal.getsignal(signal.SIGTERM)), wait=0)
        assert seen == [signal.SIG_IGN]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_by_itself_it_has_one_thread_and_leases_ten_for_half_a_minute():
    asked = []

    class Told(Desk):
        def _lease(self, limit, seconds, wait, outage=None):
            asked.append((limit, seconds))
            return super()._lease(limit, seconds, wait, outage)

    desk, handler = Told([1, 2]), Handler(1)
    with working(desk, handler):
        until(lambda: handler.began)
        assert asked == [(10, 30.0)]
        handler.release()
        until(lambda: desk.acked() == [1, 2])
    assert handler.began == [1, 2]  # one after the other


async def async_handler(message):
    """Nobody would wait for it."""


def generator_handler(message):
    yield


@pytest.mark.parametrize(
    ("handler", "options", "said"),
    [
        (None, {}, "cannot be called"),
        (async_handler, {}, "plain function"),
        (generator_handler, {}, "plain function"),
        (print, {"threads": 0}, "threads"),
        (print, {"threads": 1.5}, "threads"),
        (print, {"limit": "1"}, "limit"),
        (print, {"seconds": 0}, "seconds"),
        (print, {"wait": -1}, "wait"),
        (print, {"handler_seconds": 0}, "handler_seconds"),
        (print, {"stop": 1}, "stop"),
        (print, {"patience": -1}, "patience"),
    ],
)
def test_what_cannot_be_meant_is_said(handler, options, said):
    desk = Desk([1])
    with pytest.raises(InvalidRequest, match=said):
        desk.work(handler, **options)
    assert desk.asked == 0
