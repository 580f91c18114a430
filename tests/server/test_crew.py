"""The workers of a subscriber, on a loop with an engine of numbers: who gets what when, and what it costs."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

from server.engines import Engine, Lease, Leased, Nack, Nacked
from server.engines.errors import Busy, EngineError, Unavailable
from server.queue import crew, turns
from server.queue.crew import Crew
from server.queue.leases import Leases
from server.queue.turns import Turns
from server.queue.wakeups import Wakeups, work_of

NEVER = None
NONE = (None, "")


class Numbers:
    """An engine whose messages are numbers. `looks` are who was asked for; `open` lets their answers out."""

    def __init__(self) -> None:
        self.ready: deque[int] = deque()
        self.looks: list[list[str]] = []
        self.due: list[float | None] = []  # what the next looks in vain say; then: never
        self.open = asyncio.Event()
        self.open.set()
        self.failure: Exception | None = None
        self.once = False  # only the next look fails
        self.wrong: str | None = None  # a worker whose lease is refused
        self.back: list[Nack] = []
        self.out: dict[str, list[int]] = {}

    async def lease(self, topic: str, wanted: Sequence[Lease]) -> list[Leased]:
        """Hand numbers out, in the order in which they are asked for."""
        self.looks.append([one.worker or "" for one in wanted])
        await self.open.wait()
        if failure := self.failure:
            self.failure = None if self.once else failure
            raise failure
        if self.wrong in self.looks[-1]:
            raise EngineError("invalid_request", "text cannot hold \\u0000")
        taken = [self._taken(one) for one in wanted]
        due = (
            self.due.pop(0)
            if NONE in [(one.lease, one.messages) for one in taken] and self.due
            else NEVER
        )
        return [one if one.lease else one._replace(due_seconds=due) for one in taken]

    def _taken(self, wanted: Lease) -> Leased:
        numbers = [self.ready.popleft() for _ in range(min(wanted.limit, len(self.ready)))]
        if not numbers:
            return Leased(None, None, "", NEVER)
        name = f"{len(self.out) + 1}-7"
        self.out[name] = numbers
        return Leased(name, "then", ",".join(map(str, numbers)), None)

    async def nack(self, topic: str, nack: Nack) -> Nacked:
        """Take numbers back."""
        self.back.append(nack)
        if self.failure:
            raise self.failure
        self.ready.extendleft(reversed(self.out.pop(nack.lease)))
        return Nacked(1, 0)


class Stand:
    """Leases on an engine of numbers, and those who want some. No task of the wakeups runs."""

    def __init__(self, capacity: int = 10_000) -> None:
        self.engine = Numbers()
        engine: Engine = self.engine  # type: ignore[assignment]
        self.turns = Turns()
        self.wakeups = Wakeups(engine, capacity)
        self.leases = Leases(engine, self.wakeups, self.turns)

    def begin(
        self,
        *workers: str,
        wait: float = 60,
        limit: int = 1,
        topic: str = "t",
        subscriber: str = "s",
    ) -> list[asyncio.Task[Leased]]:
        """Begin leases of workers, in that order."""
        return [
            asyncio.ensure_future(
                self.leases.lease(topic, Lease(subscriber, worker, limit, 30), wait)
            )
            for worker in workers
        ]

    async def waiting(self, *workers: str, wait: float = 60) -> list[asyncio.Task[Leased]]:
        """Begin leases, and return when they wait."""
        expected = self.wakeups.waiting + len(workers)
        tasks = self.begin(*workers, wait=wait)
        await until(lambda: self.wakeups.waiting == expected)
        return tasks

    def publish(self, *numbers: int) -> None:
        """Have something to do."""
        self.engine.ready.extend(numbers)
        self.wakeups.happened("t")

    async def looked(self, times: int) -> None:
        """Wait until the engine was asked so often."""
        await until(lambda: len(self.engine.looks) >= times)


async def until(condition: Callable[[], object]) -> None:
    """Let others have the loop until a condition holds."""
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0)


async def messages(tasks: Sequence[asyncio.Task[Leased]]) -> list[str]:
    """Return what workers were answered: their messages, or what was raised."""
    async with asyncio.timeout(40):
        found = await asyncio.gather(*tasks, return_exceptions=True)
    return [
        one.messages if isinstance(one, Leased) else getattr(one, "code", repr(one))
        for one in found
    ]


Check = Callable[[Stand], Awaitable[None]]


def runs(check: Check, capacity: int = 10_000) -> None:
    """Run a check; in the end nobody waits, and no crew, no task and no timer is left."""

    async def whole() -> None:
        stand = Stand(capacity)
        await check(stand)
        await stand.leases.stop()
        await until(lambda: len(asyncio.all_tasks()) == 1)
        assert stand.leases._crews == stand.wakeups._watches == {}
        assert stand.wakeups.waiting == len(stand.turns) == 0
        loop: object = asyncio.get_running_loop()
        timers = [one for one in loop._scheduled if not one.cancelled()]  # type: ignore[attr-defined]
        assert timers == []

    asyncio.run(whole())


def test_what_is_there_is_answered_at_once() -> None:
    async def check(stand: Stand) -> None:
        stand.engine.ready.extend([1, 2, 3])
        (one,) = stand.begin("a", limit=2, wait=0)
        assert (await one) == Leased("1-7", "then", "1,2", None)
        (two,) = stand.begin("b", limit=2, wait=60)
        assert (await two).messages == "3"
        (three,) = stand.begin("c", wait=0)
        assert (await three) == Leased(None, None, "", None)
        assert stand.engine.looks == [["a"], ["b"], ["c"]]

    runs(check)


async def many_are_few(stand: Stand) -> None:
    """Expect a thousand who wait to cost few looks, whatever they get."""
    names = [f"w{n}" for n in range(1000)]
    tasks = await stand.waiting(*names)
    assert len(stand.engine.looks) == 1
    stand.publish(1)
    assert await messages(tasks[:1]) == ["1"]
    assert len(stand.engine.looks) == 2  # nobody else looked for what was gone
    stand.publish(2, 3, 4)
    assert await messages(tasks[1:4]) == ["2", "3", "4"]
    assert len(stand.engine.looks) == 3
    stand.publish(*range(5, 1001))
    assert await messages(tasks[4:]) == [str(n) for n in range(5, 1001)]
    assert len(stand.engine.looks) == 3 + 16  # the last of 996


def test_a_thousand_who_wait_cost_few_looks() -> None:
    runs(many_are_few)


async def each_in_its_turn(stand: Stand) -> None:
    """Expect who has waited longest to get first, and who got nothing to keep its place."""
    tasks = await stand.waiting("a", "b")
    tasks += await stand.waiting("c", "d")
    stand.publish(1)
    assert await messages(tasks[:1]) == ["1"]
    tasks += await stand.waiting("e")
    stand.publish(2, 3)
    assert await messages(tasks[1:3]) == ["2", "3"]
    stand.engine.ready.append(4)  # and somebody comes before the others are woken
    tasks += stand.begin("f")
    assert await messages(tasks[3:4]) == ["4"]
    stand.publish(5)
    assert await messages(tasks[4:5]) == ["5"]
    stand.publish(6)
    assert await messages(tasks[5:]) == ["6"]


def test_who_has_waited_longest_gets_first() -> None:
    runs(each_in_its_turn)


async def who_comes_meanwhile(stand: Stand) -> None:
    """Expect a look to say nothing to who came after it began, and nobody to be forgotten."""
    stand.engine.open.clear()
    tasks = stand.begin("a")
    await stand.looked(1)
    tasks += stand.begin("b", "c")
    stand.engine.open.set()
    await until(lambda: stand.wakeups.waiting == 3)
    assert stand.engine.looks == [["a"], ["a", "b", "c"]]
    stand.engine.open.clear()
    stand.wakeups.happened("t")
    await stand.looked(3)
    stand.publish(1, 2)  # the look that is under way may have begun before
    assert len(stand.engine.looks) == 3
    stand.engine.ready.clear()
    stand.engine.open.set()
    await stand.looked(4)
    stand.publish(1, 2, 3)
    assert await messages(tasks) == ["1", "2", "3"]


def test_who_comes_while_others_look_looks_after_them() -> None:
    runs(who_comes_meanwhile)


def test_those_who_come_at_the_same_time_look_together() -> None:
    async def check(stand: Stand) -> None:
        stand.engine.ready.extend(range(16))
        assert await messages(stand.begin(*"abcdefghijklmnop", wait=0)) == [
            str(n) for n in range(16)
        ]
        assert [len(look) for look in stand.engine.looks] == [16]

    runs(check)


def test_a_look_brings_no_more_than_64_of_the_largest_messages() -> None:
    async def check(stand: Stand) -> None:
        stand.engine.ready.extend(range(1000))
        for limit, workers in ((1, 70), (8, 10), (9, 70), (3, 30)):
            await messages(stand.begin(*["w"] * workers, wait=0, limit=limit))
        sizes = [len(look) for look in stand.engine.looks]
        assert sizes == [64, 6, 8, 2, 64, 6, 21, 9]

    runs(check)


@pytest.mark.parametrize("name", ["t", work_of("t", "s")])
def test_what_happens_to_the_topic_or_the_work_wakes(name: str) -> None:
    async def check(stand: Stand) -> None:
        tasks = await stand.waiting("a")
        for other in ("u", work_of("t", "u"), work_of("u", "s")):
            stand.wakeups.happened(other)
        await asyncio.sleep(0)
        assert len(stand.engine.looks) == 1
        stand.engine.ready.append(1)
        stand.wakeups.happened(name)
        assert await messages(tasks) == ["1"]

    runs(check)


def test_a_look_is_made_when_something_is_due_and_no_other() -> None:
    """An extension that moves the expiry is one more look in vain."""

    async def check(stand: Stand) -> None:
        stand.engine.due = [0.05, 0.05]
        tasks = await stand.waiting("a", "b")
        assert len(stand.engine.looks) == 1
        await stand.looked(2)
        stand.engine.ready.append(1)
        assert await messages(tasks[:1]) == ["1"]
        assert len(stand.engine.looks) == 3
        stand.publish(2)
        assert await messages(tasks[1:]) == ["2"]

    runs(check)


def test_a_later_look_says_anew_when_something_is_due() -> None:
    async def check(stand: Stand) -> None:
        stand.engine.due = [3600, NEVER]
        tasks = await stand.waiting("a")
        stand.wakeups.happened("t")
        await stand.looked(2)
        timers = [crew._timer for crew in stand.leases._crews.values()]
        assert [one and one.cancelled() for one in timers] == [True]
        stand.publish(1)
        assert await messages(tasks) == ["1"]

    runs(check)


def test_while_there_is_more_to_look_through_it_goes_on() -> None:
    """WORK.md C29: who waits, and for a moment who would not wait either."""

    async def check(stand: Stand) -> None:
        stand.engine.due = [0] * 50
        tasks = stand.begin("a") + stand.begin("b", wait=0)
        await until(lambda: not stand.engine.due)
        stand.publish(1, 2)
        assert await messages(tasks) == ["1", "2"]
        assert {tuple(look) for look in stand.engine.looks} == {("a", "b")}

    runs(check)


def test_what_counts_as_more_to_look_through_is_counted_in_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew, "_AT_ONCE", 3)
    monkeypatch.setattr(crew, "_PAUSE", 3600.0)

    async def check(stand: Stand) -> None:
        stand.engine.due = [0, 0, NEVER, 0, 0, NEVER]
        tasks = await stand.waiting("a")
        stand.wakeups.happened("t")
        await until(lambda: not stand.engine.due)
        stand.publish(1)
        assert await messages(tasks) == ["1"]

    runs(check)


def test_who_would_not_wait_does_not_stay_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_MORE", 0.05)
    monkeypatch.setattr(crew, "_AT_ONCE", 3)
    monkeypatch.setattr(crew, "_PAUSE", 0.001)

    async def check(stand: Stand) -> None:
        stand.engine.due = [0.0] * 10_000
        assert await messages(stand.begin("a", wait=0)) == [""]
        assert 3 < len(stand.engine.looks) < 100  # there were pauses

    runs(check)


def test_a_wait_ends_by_itself() -> None:
    async def check(stand: Stand) -> None:
        tasks = stand.begin("a", wait=0.05) + stand.begin("b", "c")
        assert await messages(tasks[:1]) == [""]
        assert len(stand.engine.looks) == 1  # it had been told already
        stand.publish(1, 2)
        assert await messages(tasks[1:]) == ["1", "2"]

    runs(check)


def test_a_wait_that_ends_during_a_look_ends_with_it() -> None:
    """It may bring a lease."""

    async def check(stand: Stand) -> None:
        tasks = await stand.waiting("a", wait=0.05)
        stand.engine.open.clear()
        stand.publish(1)
        await stand.looked(2)
        line = next(iter(stand.leases._crews.values()))._line
        (worker,) = line
        until_then = worker.until
        await until(
            lambda: worker.until != until_then or asyncio.get_running_loop().time() > until_then + 1
        )
        assert not tasks[0].done()
        stand.engine.open.set()
        assert await messages(tasks) == ["1"]
        tasks = await stand.waiting("b", wait=0.05)
        stand.engine.open.clear()
        stand.wakeups.happened("t")
        await stand.looked(4)
        await until(lambda: asyncio.get_running_loop().time() > worker.until + 0.2)
        stand.engine.open.set()
        assert await messages(tasks) == [""]

    runs(check)


async def left(stand: Stand) -> None:
    """Expect no lease to be made for who has left, and one that was to be given back untried."""
    tasks = await stand.waiting("a", "b", "c")
    stand.publish(1)
    tasks[0].cancel()  # before the look begins
    assert await messages(tasks[1:2]) == ["1"]
    assert stand.engine.looks[1] == ["b", "c"]
    tasks += await stand.waiting("d")
    stand.engine.open.clear()
    stand.publish(2)
    await stand.looked(4)
    tasks[2].cancel()  # a look is made for it
    stand.engine.open.set()
    assert await messages(tasks[3:]) == ["2"]
    assert stand.engine.back == [Nack("s", "2-7", untried=True)]


def test_who_has_left_gets_no_lease() -> None:
    """WORK.md C16, where it can be helped."""
    runs(left)


def test_who_leaves_at_the_moment_of_its_answer_gets_no_lease_either() -> None:
    async def check(stand: Stand) -> None:
        (task,) = await stand.waiting("a")
        (line,) = stand.leases._crews.values()
        end = line._end

        def ended(worker: crew._Worker, outcome: crew.Found) -> None:
            end(worker, outcome)
            task.cancel()  # before it has run

        line._end = ended  # type: ignore[method-assign]
        stand.publish(1)
        with pytest.raises(asyncio.CancelledError):
            await task
        await stand.leases.stop()
        assert stand.engine.back == [Nack("s", "1-7", untried=True)]
        assert list(stand.engine.ready) == [1]

    runs(check)


def test_the_last_one_that_leaves_during_a_look_leaves_nothing_behind() -> None:
    async def check(stand: Stand) -> None:
        stand.engine.due = [3600]
        stand.engine.open.clear()
        (task,) = stand.begin("a")
        await stand.looked(1)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        stand.engine.ready.append(1)
        others = stand.begin("b")
        await stand.looked(2)
        stand.engine.ready.clear()
        stand.engine.open.set()
        await until(lambda: stand.wakeups.waiting == 1)
        stand.publish(2)
        assert await messages(others) == ["2"]

    runs(check)


def test_what_cannot_be_given_back_is_out_until_it_expires(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def check(stand: Stand) -> None:
        stand.engine.ready.append(1)
        stand.engine.open.clear()
        (task,) = stand.begin("a")
        await stand.looked(1)
        task.cancel()
        stand.engine.open.set()
        await until(lambda: stand.engine.out)
        stand.engine.failure = EngineError("lease_expired", "too late")
        await until(lambda: stand.engine.back)

    runs(check)
    assert "out until it expires: too late" in caplog.text


def test_the_servers_end_is_the_end_of_all_waits() -> None:
    async def check(stand: Stand) -> None:
        tasks = await stand.waiting(*[f"w{n}" for n in range(300)])
        stand.engine.open.clear()
        stand.wakeups.happened("t")
        await stand.looked(2)
        late = stand.begin("late")
        await stand.wakeups.stop()
        # but those for whom a look is made, which may bring something
        assert await messages(tasks[64:]) == [""] * 236
        assert not any(task.done() for task in tasks[:64])
        stand.engine.ready.append(1)
        stand.engine.open.set()
        assert await messages(tasks[:64]) == ["1", *[""] * 63]
        assert await messages(late) == [""]
        assert await messages(stand.begin("later")) == [""]
        assert stand.engine.looks[2:] == [["late"], ["later"]]

    runs(check)


def test_a_place_is_taken_by_who_waits_alone() -> None:
    async def check(stand: Stand) -> None:
        tasks = await stand.waiting("a", "b")
        assert await messages(stand.begin("c")) == ["unavailable"]
        assert await messages(stand.begin("d", wait=0)) == [""]
        stand.publish(1, 2, 3)
        assert await messages([*tasks, *stand.begin("e")]) == ["1", "2", "3"]

    runs(check, capacity=2)


@pytest.mark.parametrize(
    "error",
    [Unavailable("no connection"), Busy("somebody has it"), Unavailable("full", code="disk_full")],
)
def test_what_is_so_for_all_is_told_to_all_who_came_before(error: Unavailable) -> None:
    async def check(stand: Stand) -> None:
        tasks = await stand.waiting(*[f"w{n}" for n in range(100)])
        stand.engine.open.clear()
        stand.engine.failure = error
        stand.wakeups.happened("t")
        await stand.looked(2)
        after = stand.begin("after", wait=0)
        await asyncio.sleep(0)
        stand.engine.open.set()
        assert await messages(tasks) == [error.code] * 100
        assert await messages(after) == [error.code]
        assert [len(look) for look in stand.engine.looks] == [64, 64, 1]

    runs(check)


async def never_again(stand: Stand) -> None:
    """Expect a look whose outcome is unknown to be told to those it was made for, and not to be repeated."""
    tasks = await stand.waiting(*[f"w{n}" for n in range(65)])
    stand.engine.open.clear()
    stand.engine.failure, stand.engine.once = Unavailable("lost", outcome="unknown"), True
    stand.publish(1, 2)
    await stand.looked(2)
    stand.engine.open.set()
    found = await asyncio.gather(*tasks[:64], return_exceptions=True)
    assert {getattr(one, "outcome", None) for one in found} == {"unknown"}
    assert await messages(tasks[64:]) == ["1"]  # nobody had sent its
    asked = [worker for look in stand.engine.looks[1:] for worker in look]
    assert sorted(asked) == sorted(f"w{n}" for n in range(65))  # each once


def test_a_lease_of_unknown_outcome_is_never_made_again() -> None:
    runs(never_again)


def test_one_bad_lease_harms_no_neighbour() -> None:
    async def check(stand: Stand) -> None:
        names = [f"w{n}" for n in range(64)]
        stand.engine.wrong = "w37"
        stand.engine.ready.extend(range(64))
        found = await messages(stand.begin(*names))
        expected = [str(n) for n in range(63)]
        expected.insert(37, "invalid_request")
        assert found == expected
        assert len(stand.engine.looks) == 1 + 2 * 6

    runs(check)


@pytest.mark.parametrize(
    "error",
    [EngineError("subscriber_not_found", "it is gone"), RuntimeError("what nobody thought of")],
)
def test_what_fails_is_told_to_everybody_in_few_looks(error: Exception) -> None:
    async def check(stand: Stand) -> None:
        tasks = await stand.waiting(*[f"w{n}" for n in range(1000)])
        stand.engine.failure = error
        stand.wakeups.happened("t")
        assert await messages(tasks) == [getattr(error, "code", repr(error))] * 1000
        assert len(stand.engine.looks) == 1 + 16

    runs(check)


def test_an_engine_that_answers_too_few_leaves_nobody_waiting() -> None:
    async def check(stand: Stand) -> None:
        lease = stand.engine.lease

        async def short(topic: str, wanted: Sequence[Lease]) -> list[Leased]:
            return (await lease(topic, wanted))[1:]

        stand.engine.lease = short  # type: ignore[method-assign]
        assert {one[:12] for one in await messages(stand.begin("a", "b"))} == {"RuntimeError"}

    runs(check)


async def others_go_on(stand: Stand) -> None:
    """Expect subscribers that are stuck to keep no other one, and no more than a few to look at a time."""
    lease, stuck = stand.engine.lease, asyncio.Event()
    at_once = most = 0

    async def slow(topic: str, wanted: Sequence[Lease]) -> list[Leased]:
        nonlocal at_once, most
        if wanted[0].subscriber.startswith("stuck"):
            await stuck.wait()
            return await lease(topic, wanted)
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return await lease(topic, wanted)

    stand.engine.lease = slow  # type: ignore[method-assign]
    names = [f"stuck{n}" for n in range(turns.ITS_LOOKS)]
    tasks = [task for name in names for task in stand.begin("a", subscriber=name, wait=0)]
    await until(lambda: len(stand.leases._crews) == len(names))
    others = [task for n in range(100) for task in stand.begin("b", subscriber=f"s{n}", wait=0)]
    async with asyncio.timeout(20):
        await asyncio.gather(*others)
    assert not any(task.done() for task in tasks)
    assert 1 < most <= turns.LOOKS
    stuck.set()
    await asyncio.gather(*tasks)


def test_a_subscriber_that_is_stuck_harms_no_other() -> None:
    runs(others_go_on)


class Forgetful(Crew):
    """A planted bug: who comes while a look is made is told what that has found."""

    def _tell(self, before, found):  # type: ignore[no-untyped-def]
        self._stale = False
        super()._tell(list(self._line), found)


class Unfair(Crew):
    """A planted bug: who got nothing goes to the end of the line."""

    def _rest(self, before, due):  # type: ignore[no-untyped-def]
        for worker in before[:2]:
            if worker in self._line:
                self._line[worker] = self._line.pop(worker)
        super()._rest(before, due)


class Careless(Crew):
    """A planted bug: what was leased for who has left is out."""

    def _end(self, worker, outcome):  # type: ignore[no-untyped-def]
        if worker.answer.done():
            outcome = None
        super()._end(worker, outcome)


class Stubborn(Crew):
    """A planted bug: what may have happened is done again."""

    def _tell(self, before, found):  # type: ignore[no-untyped-def]
        if getattr(found[0], "outcome", None) == "unknown":
            self._stale = True
            return
        super()._tell(before, found)


@contextmanager
def planted(name: str, bug: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a bug in the crews, or another bound."""
    with monkeypatch.context() as patched:
        if name == "Crew":
            patched.setattr("server.queue.leases.Crew", bug)
        else:
            patched.setattr(crew, name, bug)
        yield


@pytest.mark.parametrize(
    ("name", "bug", "check"),
    [
        ("_MOST", 1, many_are_few),
        ("Crew", Forgetful, who_comes_meanwhile),
        ("Crew", Unfair, each_in_its_turn),
        ("Crew", Careless, left),
        ("_first", lambda line: line[:64], left),
        ("Crew", Stubborn, never_again),
        ("_TURN", 60, others_go_on),
    ],
)
def test_planted_bugs_are_caught(
    name: str, bug: object, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the tests above."""

    async def fails() -> None:
        with pytest.raises((AssertionError, TimeoutError)):
            async with asyncio.timeout(2):
                await check(Stand())
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    with planted(name, bug, monkeypatch):
        asyncio.run(fails())
