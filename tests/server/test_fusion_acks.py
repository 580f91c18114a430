"""Fusion of acks and looks: they share transactions, and nobody waits for another subscriber's stuck position."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from server.engines import Ack, Acked, Engine, Fetch, Fetched
from server.engines.errors import Busy, EngineError, Unavailable
from server.queue import fusion, lines, turns
from server.queue.fusion import Fusion
from server.queue.lines import Lines

LATER = 60.0  # seconds: not within a test


class Told:
    """An engine that acks when it is told, and remembers what it was given."""

    def __init__(self) -> None:
        self.groups: list[list[tuple[str, int]]] = []
        self.open = asyncio.Event()
        self.stuck: set[str] = set()
        self.stale: set[str] = set()
        self.failure: Exception | None = None
        self.released = asyncio.Event()

    async def ack(self, topic: str, acks: Sequence[Ack]) -> list[Acked]:
        """Answer with the offset as position, once `open`."""
        self.groups.append([(ack.subscriber, ack.offset) for ack in acks])
        await self.open.wait()
        if self.failure:
            raise self.failure
        if self.stuck & {ack.subscriber for ack in acks}:
            if len(acks) > 1:
                raise Busy("somebody holds a position")
            await self.released.wait()
        if self.stale & {ack.subscriber for ack in acks}:
            raise EngineError("stale_epoch", "the epoch is over")
        return [Acked(ack.offset, ack.epoch, 100, 100 - ack.offset) for ack in acks]


class Stand:
    """An engine, a fusion in front of it, and those who ack."""

    def __init__(self, patience: float = LATER) -> None:
        self.engine = Told()
        engine: Engine = self.engine  # type: ignore[assignment]
        self.fusion = Fusion(engine, lambda *_: None, patience=patience)

    def begin(self, *acks: tuple[str, int], topic: str = "t") -> list[asyncio.Task[Acked]]:
        """Begin acks of subscribers and offsets, in that order."""
        return [
            asyncio.ensure_future(self.fusion.ack(topic, Ack(name, offset, 1)))
            for name, offset in acks
        ]

    async def at_work(self, groups: int) -> None:
        """Wait until the engine has been given so many groups."""
        await until(lambda: len(self.engine.groups) >= groups)

    @property
    def lines(self) -> Lines[Ack, Acked]:
        return self.fusion._acks

    @property
    def waiting(self) -> int:
        """How many wait for the topic ``t``."""
        line = self.lines._lines.get("t")
        return len(line.waiting) if line else 0


async def until(condition: Callable[[], object]) -> None:
    """Let others have the loop until a condition holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def outcomes(tasks: list[asyncio.Task[Acked]]) -> list[int | str]:
    """Return positions, or what was raised."""
    async with asyncio.timeout(20):
        found = await asyncio.gather(*tasks, return_exceptions=True)
    return [
        one.position if isinstance(one, Acked) else getattr(one, "code", repr(one)) for one in found
    ]


Check = Callable[[], Awaitable[None]]


def runs(check: Check) -> None:
    """Run a check; in the end no line is left, and no task."""

    async def whole() -> None:
        await check()
        await until(lambda: len(asyncio.all_tasks()) == 1)

    asyncio.run(whole())


async def led(stand: Stand, *acks: tuple[str, int]) -> list[asyncio.Task[Acked]]:
    """Begin acks while another one, of ``first``, is at work; return all of them."""
    leader = stand.begin(("first", 1))
    await stand.at_work(1)
    others = stand.begin(*acks)
    await until(lambda: stand.waiting == len(acks))
    return leader + others


@pytest.fixture
def one_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group keeps all others waiting until it is answered."""
    monkeypatch.setattr(lines, "_SOON", LATER)


@pytest.fixture
def none_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group keeps only its own subscribers waiting."""
    monkeypatch.setattr(lines, "_SOON", 0)


@pytest.fixture
def each_alone(none_leads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is a group of its own."""
    monkeypatch.setattr(lines, "_MOST", 1)


async def together() -> None:
    """Expect those who come meanwhile to share one transaction, in the order in which they came."""
    stand = Stand()
    tasks = await led(stand, ("c", 3), ("a", 1), ("b", 2), ("a", 4), ("c", 2))
    for _ in range(10):
        await asyncio.sleep(0)
    assert stand.waiting == 5
    stand.engine.open.set()
    assert await outcomes(tasks) == [1, 3, 1, 2, 4, 2]
    assert stand.engine.groups == [
        [("first", 1)],
        [("c", 3), ("a", 1), ("b", 2), ("a", 4), ("c", 2)],
    ]
    assert stand.lines._lines == {}


def test_those_who_wait_share_one_transaction(one_leads: None) -> None:
    runs(together)


def test_those_who_come_at_the_same_time_go_together_at_once() -> None:
    async def check() -> None:
        stand = Stand()
        stand.engine.open.set()
        assert await outcomes(stand.begin(("b", 1), ("a", 2))) == [1, 2]
        assert stand.engine.groups == [[("b", 1), ("a", 2)]]

    runs(check)


def test_topics_share_nothing(one_leads: None) -> None:
    async def check() -> None:
        stand = Stand()
        here, there = stand.begin(("s", 1)), stand.begin(("s", 2), topic="other")
        await stand.at_work(2)
        stand.engine.open.set()
        assert await outcomes(here + there) == [1, 2]

    runs(check)


def test_a_group_has_its_limit(one_leads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_MOST", 3)

    async def check() -> None:
        stand = Stand()
        tasks = await led(stand, *((f"s{n}", n) for n in range(7)))
        stand.engine.open.set()
        assert await outcomes(tasks) == [1, *range(7)]
        assert [len(group) for group in stand.engine.groups] == [1, 3, 3, 1]

    runs(check)


async def one_group_each() -> None:
    """Expect a subscriber to be in one group at a time, and nobody else to wait for that."""
    stand = Stand()
    leader = stand.begin(("first", 1))
    await stand.at_work(1)
    tasks = stand.begin(("first", 2), ("a", 1), ("first", 3))
    await stand.at_work(2)
    assert stand.engine.groups == [[("first", 1)], [("a", 1)]]
    assert stand.waiting == 2
    stand.engine.open.set()
    assert await outcomes(leader + tasks) == [1, 2, 1, 3]
    assert stand.engine.groups[2:] == [[("first", 2), ("first", 3)]]
    assert stand.lines._lines == {}


def test_a_subscriber_is_in_one_group_at_a_time(none_leads: None) -> None:
    runs(one_group_each)


async def stuck() -> None:
    """Expect a stuck subscriber to keep nobody but itself."""
    stand = Stand()
    stand.engine.stuck = {"b"}
    tasks = await led(stand, ("a", 1), ("b", 1), ("c", 1), ("c", 2))
    stand.engine.open.set()
    assert await outcomes([tasks[n] for n in (0, 1, 3, 4)]) == [1, 1, 1, 2]
    # each subscriber alone, all at the same time
    assert sorted(stand.engine.groups[2:]) == [[("a", 1)], [("b", 1)], [("c", 1), ("c", 2)]]
    more = stand.begin(("a", 5), ("b", 6), ("c", 7))
    assert await outcomes([more[0], more[2]]) == [5, 7]
    assert not tasks[2].done() and not more[1].done()
    stand.engine.released.set()
    assert await outcomes([tasks[2], more[1]]) == [1, 6]
    assert stand.lines._lines == {}


def test_a_stuck_subscriber_harms_no_other(one_leads: None) -> None:
    runs(stuck)


async def refused() -> None:
    """Expect each of a group to be answered for itself alone."""
    stand = Stand()
    stand.engine.stale = {"b"}
    tasks = await led(stand, ("a", 1), ("b", 1), ("b", 2), ("c", 1))
    stand.engine.open.set()
    assert await outcomes(tasks) == [1, 1, "stale_epoch", "stale_epoch", 1]
    assert stand.lines._lines == {}


def test_one_bad_ack_harms_no_neighbour(one_leads: None) -> None:
    runs(refused)


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("lost", outcome="unknown"),
        Unavailable("all connections are busy"),
        Unavailable("full", code="disk_full"),
        RuntimeError("what nobody thought of"),
    ],
)
def test_what_is_so_for_all_is_told_to_all_and_not_done_again(
    error: Exception, one_leads: None
) -> None:
    async def check() -> None:
        stand = Stand()
        tasks = await led(stand, ("a", 1), ("b", 1), ("a", 2))
        stand.engine.failure = error
        stand.engine.open.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(one is error for one in found)
        assert len(stand.engine.groups) == 2
        assert stand.lines._lines == {}

    runs(check)


async def in_vain(failure: Unavailable) -> list[int | str | None]:
    """Have acks of one subscriber fail for one of them, and then for something that is so for all; return outcomes."""
    stand = Stand()
    failures: list[EngineError] = [EngineError("stale_epoch", "the epoch is over"), failure]

    async def act(topic: str, acks: Sequence[Ack]) -> list[Acked]:
        stand.engine.groups.append([(ack.subscriber, ack.offset) for ack in acks])
        await stand.engine.open.wait()
        if len(acks) > 1 or len(failures) < 2:
            raise failures.pop(0)
        return [Acked(1, 1, 1, 0)]

    stand.lines._act = act
    tasks = await led(stand, *(("a", n) for n in range(8)))
    stand.engine.open.set()
    async with asyncio.timeout(20):
        found = await asyncio.gather(*tasks[1:], return_exceptions=True)
    assert [len(group) for group in stand.engine.groups] == [1, 8, 4]
    assert stand.lines._lines == {}
    assert all(isinstance(one, Unavailable) for one in found)
    return [getattr(one, "outcome", None) for one in found]


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (Unavailable("lost", outcome="unknown"), ["unknown"] * 4 + ["none"] * 4),
        (Unavailable("all connections are busy"), ["none"] * 8),
        (Busy("somebody holds a position"), ["none"] * 8),
    ],
)
def test_what_would_fail_like_those_before_it_is_not_sent(
    failure: Unavailable, expected: list[str], one_leads: None
) -> None:
    async def check() -> None:
        assert await in_vain(failure) == expected

    runs(check)


def test_halves_of_a_group_keep_each_subscribers_order(one_leads: None) -> None:
    async def check() -> None:
        stand = Stand()
        stand.engine.stale = {"b"}
        acks = [(name, n) for n in range(3) for name in "dbca"]
        tasks = await led(stand, *acks)
        stand.engine.open.set()
        assert await outcomes(tasks) == [1, *("stale_epoch" if s == "b" else n for s, n in acks)]
        done = [ack for group in stand.engine.groups[2:] for ack in group if "b" not in dict(group)]
        for name in "acd":
            assert [n for s, n in done if s == name] == [0, 1, 2]

    runs(check)


def test_an_engine_that_answers_too_few_leaves_nobody_waiting(one_leads: None) -> None:
    async def check() -> None:
        stand = Stand()
        act = stand.lines._act

        async def short(topic: str, acks: Sequence[Ack]) -> list[Acked]:
            return (await act(topic, acks))[:1]

        stand.lines._act = short
        tasks = await led(stand, ("a", 1), ("b", 1))
        stand.engine.open.set()
        found = await outcomes(tasks)
        assert found[0] == 1 and {str(one)[:12] for one in found[1:]} == {"RuntimeError"}

    runs(check)


async def left() -> None:
    """Expect who leaves the line not to be sent, and who leaves later to harm nobody."""
    stand = Stand()
    tasks = await led(stand, ("a", 1), ("b", 1), ("c", 1))
    tasks[2].cancel()
    await until(tasks[2].done)
    assert stand.waiting == 2
    tasks[0].cancel()  # it is at the engine, and goes on
    await until(tasks[0].done)
    assert stand.waiting == 2 and len(stand.engine.groups) == 1
    stand.engine.open.set()
    await stand.at_work(2)
    tasks[1].cancel()  # the group was given out
    assert await outcomes(tasks[3:]) == [1]
    assert stand.engine.groups == [[("first", 1)], [("a", 1), ("c", 1)]]
    assert stand.lines._lines == {}


def test_who_leaves_harms_nobody(one_leads: None) -> None:
    runs(left)


def test_who_leaves_at_once_is_not_sent() -> None:
    async def check() -> None:
        stand = Stand()
        (task,) = stand.begin(("a", 1))
        await asyncio.sleep(0)
        assert stand.waiting == 1
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await until(lambda: stand.lines._lines == {})
        assert stand.engine.groups == []

    runs(check)


async def patient() -> None:
    """Expect those whose turn does not come to be sent away, surely not sent."""
    stand = Stand(patience=0.05)
    tasks = await led(stand, ("a", 1), ("first", 2))
    found = await asyncio.gather(*tasks[1:], return_exceptions=True)
    assert [(type(one), getattr(one, "outcome", None)) for one in found] == [
        (Unavailable, "none")
    ] * 2
    assert not tasks[0].done()  # it is at the engine, which has a limit of its own
    assert stand.waiting == 0
    stand.engine.open.set()
    assert await outcomes(tasks[:1]) == [1]
    assert stand.engine.groups == [[("first", 1)]]
    assert stand.lines._lines == {}


def test_a_wait_is_bounded_and_who_gives_up_is_not_sent(one_leads: None) -> None:
    runs(patient)


def test_looks_for_the_same_are_one_look_that_began_after_all_of_them(one_leads: None) -> None:
    async def check() -> None:
        asked: list[list[Fetch]] = []
        go = asyncio.Event()

        class Found:
            ack = None

            async def fetch(self, topic: str, fetches: Sequence[Fetch]) -> list[Fetched]:
                asked.append(list(fetches))
                began = len(asked)
                await go.wait()
                return [Fetched(began, 0, 0, fetch.subscriber) for fetch in fetches]

        engine: Engine = Found()  # type: ignore[assignment]
        looks = Fusion(engine, lambda *_: None)
        same, other = Fetch("s", 1), Fetch("u", 1)
        first = asyncio.ensure_future(looks.look("t", same))
        await until(lambda: asked)  # what it finds may be older than what is asked now
        tasks = [asyncio.ensure_future(looks.look("t", one)) for one in [same, other] * 20]
        await until(lambda: len(looks._looks._lines["t"].waiting) == 40)
        go.set()
        assert (await first).position == 1
        found = await asyncio.gather(*tasks)
        assert [(one.position, one.messages) for one in found] == [(2, "s"), (2, "u")] * 20
        assert asked == [[same], [same, other]]

    runs(check)


def test_looks_of_many_topics_take_turns() -> None:
    async def check() -> None:
        at_once = most = 0

        class Counting:
            ack = None

            async def fetch(self, topic: str, fetches: Sequence[Fetch]) -> list[Fetched]:
                nonlocal at_once, most
                at_once += 1
                most = max(most, at_once)
                await asyncio.sleep(0)
                at_once -= 1
                return [Fetched(0, 0, 0, topic)]

        engine: Engine = Counting()  # type: ignore[assignment]
        looks = Fusion(engine, lambda *_: None)
        tasks = [looks.look(f"t{n}", Fetch("s", 1)) for n in range(100)]
        assert [one.messages for one in await asyncio.gather(*tasks)] == [
            f"t{n}" for n in range(100)
        ]
        assert most == turns.LOOKS
        assert looks._looks._lines == {}
        assert len(looks.turns) == 0

    runs(check)


async def shared(topic: str) -> None:
    """Expect a topic whose looks do not end to leave turns to another one."""
    stuck: list[str] = []

    class Full:
        ack = None

        async def fetch(self, topic: str, fetches: Sequence[Fetch]) -> list[Fetched]:
            if topic == "full":
                stuck.append(fetches[0].subscriber)
                await asyncio.Event().wait()
            return [Fetched(0, 0, 0, topic) for _ in fetches]

    engine: Engine = Full()  # type: ignore[assignment]
    looks = Fusion(engine, lambda *_: None)
    crowd = [
        asyncio.ensure_future(looks.look("full", Fetch(f"s{n}", 1))) for n in range(2 * turns.LOOKS)
    ]
    await until(lambda: stuck and len(looks._looks._lines["full"].held) == len(crowd))
    async with asyncio.timeout(1):
        found = await looks.look(topic, Fetch("s", 1))
    assert found.messages == topic
    assert len(stuck) == turns.ITS_LOOKS
    left = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
    for one in left:
        one.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def test_a_topic_whose_looks_are_stuck_leaves_turns_to_others(each_alone: None) -> None:
    runs(lambda: shared("other"))


def test_it_waits_for_itself(each_alone: None) -> None:
    """The control of the test above."""
    with pytest.raises(TimeoutError):
        runs(lambda: shared("full"))


class Mixed(Lines):  # type: ignore[type-arg]
    """A planted bug: the answers of a group are dealt out in the wrong order."""

    async def _outcomes(self, topic, calls):  # type: ignore[no-untyped-def]
        return list(reversed(await super()._outcomes(topic, calls)))


class Unheld(lines._Line):  # type: ignore[type-arg]
    """A planted bug: a subscriber may be in several groups."""

    def take(self):  # type: ignore[no-untyped-def]
        self.held.clear()
        return super().take()

    def let_go(self, calls):  # type: ignore[no-untyped-def]
        """Hold nobody."""


class Forgetful(Lines):  # type: ignore[type-arg]
    """A planted bug: who leaves stays in the line."""

    async def call(self, topic, item):  # type: ignore[no-untyped-def]
        return await asyncio.shield(super().call(topic, item))


class Impatient(Lines):  # type: ignore[type-arg]
    """A planted bug: who gives up stays in the line."""

    def _give_up(self, line, call):  # type: ignore[no-untyped-def]
        call.end(Unavailable("gave up"))


def alike(calls, outcomes):  # type: ignore[no-untyped-def]
    """A planted bug: what one is the reason of is so for all."""
    return []


def in_turn(calls, outcomes):  # type: ignore[no-untyped-def]
    """A planted bug: the stuck one is tried first, the others after it."""
    if isinstance(outcomes[0], Busy) and len(calls) > 1:
        (first, *others) = sorted(calls, key=lambda call: call.holder != "b")
        first.holder = others[0].holder = "b"
        return [[first], others]
    return []


@pytest.mark.parametrize(
    ("name", "planted", "check"),
    [
        ("Lines", Mixed, together),
        ("_SOON", 0, together),
        ("_Line", Unheld, one_group_each),
        ("_SOON", LATER, one_group_each),
        ("_parts", alike, stuck),
        ("_parts", in_turn, stuck),
        ("_parts", alike, refused),
        ("Lines", Forgetful, left),
        ("Lines", Impatient, patient),
    ],
)
def test_planted_bugs_are_caught(
    name: str, planted: object, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the tests above."""
    soon = 0 if check is one_group_each else LATER
    monkeypatch.setattr(lines, "_SOON", soon)
    monkeypatch.setattr(fusion if name == "Lines" else lines, name, planted)

    async def fails() -> None:
        with pytest.raises((AssertionError, TimeoutError, KeyError)):
            async with asyncio.timeout(1):
                await check()

    asyncio.run(fails())
