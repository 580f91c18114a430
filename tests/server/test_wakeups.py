"""Waiting and waking on the loop, by themselves: places, books, looks, and the tasks that run as long as the server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from server.engines import Engine, Fetch, Fetched
from server.engines.errors import Unavailable
from server.http.routes import subscribers
from server.queue import housekeeping, tasks, wakeups
from server.queue.housekeeping import Housekeeping
from server.queue.wakeups import Wakeups, Watch

TOPICS = [f"t{n}" for n in range(1000)]


class Quiet:
    """An engine in which nothing happens but what a test says."""

    def __init__(self) -> None:
        self.announced: list[list[str]] = []
        self.asked: list[list[str]] = []
        self.now: dict[str, int] = {}
        self.failure: Exception | None = None
        self.heard: asyncio.Queue[set[str] | Exception] = asyncio.Queue()
        self.chunks = [3, 2, 0]

    async def listen(self) -> AsyncIterator[set[str]]:
        """Yield what a test puts in."""
        while True:
            one = await self.heard.get()
            if isinstance(one, Exception):
                raise one
            yield one

    async def heads(self, topics: list[str]) -> dict[str, int]:
        """Return ``now``."""
        self.asked.append(topics)
        if self.failure:
            raise self.failure
        return {topic: self.now[topic] for topic in topics if topic in self.now}

    async def announce(self, topics: list[str]) -> None:
        """Remember."""
        self.announced.append(topics)
        if self.failure:
            raise self.failure

    async def tidy(self) -> int:
        """Remove what is left."""
        if self.failure:
            raise self.failure
        return self.chunks.pop(0)


async def until(condition: Callable[[], object]) -> None:
    """Let others have the loop until a condition holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def on_a_loop(check: Callable[[Quiet, Wakeups], Awaitable[None]], capacity: int = 10_000) -> None:
    """Run a check with wakeups on a quiet engine; in the end nobody watches and no task is left."""

    async def whole() -> None:
        quiet = Quiet()
        engine: Engine = quiet  # type: ignore[assignment]
        made = Wakeups(engine, capacity)
        made.start()
        await asyncio.sleep(0)
        await check(quiet, made)
        await made.stop()
        assert (made.waiting, made._watches, made._seen) == (0, {}, {})
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole())


async def poll(made: Wakeups, topic: str, seconds: float = 60, head: int | None = None) -> bool:
    """Wait for something to happen to a topic, of which this head was seen, if any."""
    with made.watch(topic) as watch:
        if head is not None:
            made.seen(topic, head)
        return await watch.wait(seconds)


async def polls(
    made: Wakeups, topics: list[str], head: int | None = None
) -> list[asyncio.Task[bool]]:
    """Begin to wait for topics; return when all do."""
    before = made.waiting
    tasks = [asyncio.ensure_future(poll(made, topic, head=head)) for topic in topics]
    await until(lambda: made.waiting == before + len(topics))
    await asyncio.sleep(0)
    return tasks


def test_who_is_cancelled_frees_its_place_at_once() -> None:
    async def check(quiet: Quiet, made: Wakeups) -> None:
        tasks = await polls(made, ["t"] * 5)
        with pytest.raises(Unavailable, match="5 long polls wait already") as full:
            await poll(made, "t")
        assert full.value.outcome == "none"
        tasks[0].cancel()
        with suppress(asyncio.CancelledError):
            await tasks[0]
        assert made.waiting == 4
        (sixth,) = await polls(made, ["t"])
        made.happened("t")
        assert await asyncio.gather(sixth, *tasks[1:]) == [True] * 5

    on_a_loop(check, capacity=5)


def test_books_are_kept_only_of_what_somebody_watches() -> None:
    async def check(quiet: Quiet, made: Wakeups) -> None:
        quiet.now = dict.fromkeys(TOPICS, 7)
        tasks = await polls(made, TOPICS, head=7)  # as a look finds it, which then wakes nobody
        assert len(made._seen) == len(TOPICS)
        made._wake(TOPICS)
        await asyncio.gather(*tasks)
        assert (made._watches, made._seen) == ({}, {})
        for topic in TOPICS:  # nobody watches these
            made.happened(topic)
        await until(lambda: len(quiet.announced) == 1)
        assert quiet.announced == [sorted(TOPICS)]
        assert (made._watches, made._seen, made._untold) == ({}, {}, set())
        asked = len(quiet.asked)
        quiet.heard.put_nowait({"t1", "t2"})
        await until(quiet.heard.empty)
        assert len(quiet.asked) == asked

    on_a_loop(check)


def test_a_head_that_moves_while_its_last_watcher_leaves_has_no_book() -> None:
    async def check(quiet: Quiet, made: Wakeups) -> None:
        assert not made._has_moved("t", (1,))
        with made.watch("t"):
            assert made._has_moved("t", (1,))
            assert not made._has_moved("t", (1,))
            assert made._has_moved("t", ())

    on_a_loop(check)


def test_many_are_woken_some_at_a_time() -> None:
    """Others have the loop in between."""

    async def check(quiet: Quiet, made: Wakeups) -> None:
        tasks = await polls(made, ["t"] * 1000)
        made.happened("t")
        assert not any(task.done() for task in tasks)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        done = sum(task.done() for task in tasks)
        assert 0 < done < 1000
        assert await asyncio.gather(*tasks) == [True] * 1000

    on_a_loop(check)


def test_what_is_heard_and_what_is_seen_wakes() -> None:
    async def check(quiet: Quiet, made: Wakeups) -> None:
        quiet.now = {"seen": 1, "heard": 1}
        with made.watch("seen") as seen, made.watch("heard") as heard:
            await until(lambda: made._seen == {"seen": (1,), "heard": (1,)})
            assert await seen.wait(60) and await heard.wait(60)  # the first look
            quiet.heard.put_nowait({"heard"})
            assert await heard.wait(60)
            quiet.now["seen"] = 2
            assert await seen.wait(60)
            assert not await heard.wait(0.01)
            del quiet.now["seen"]  # the topic is gone
            assert await seen.wait(60)

    on_a_loop(check)


def test_who_cannot_listen_wakes_all_and_listens_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_BETWEEN_ATTEMPTS", 0)

    async def check(quiet: Quiet, made: Wakeups) -> None:
        tasks = await polls(made, ["a", "b"])
        quiet.heard.put_nowait(Unavailable("the database is gone"))
        assert await asyncio.gather(*tasks) == [True, True]
        tasks = await polls(made, ["a"])
        quiet.heard.put_nowait({"a"})
        assert await asyncio.gather(*tasks) == [True]
        quiet.failure = Unavailable("no connection")
        made.happened("a")
        await until(lambda: "not announced: no connection" in caplog.text)
        tasks = await polls(made, ["a"])
        await until(lambda: "not looked: no connection" in caplog.text)
        quiet.failure = None
        announced = len(quiet.announced)
        made.happened("a")
        await until(lambda: len(quiet.announced) > announced)
        await asyncio.gather(*tasks)

    on_a_loop(check)
    assert "not listening: the database is gone" in caplog.text


def test_a_task_that_fails_begins_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_PAUSE", 0)

    async def check(quiet: Quiet, made: Wakeups) -> None:
        waiting = await polls(made, ["a", "b"])
        quiet.heard.put_nowait(RuntimeError("a bug"))
        assert await asyncio.gather(*waiting) == [True, True]  # what was announced is lost
        quiet.failure = RuntimeError("a bug")
        made.happened("a")
        waiting = await polls(made, ["a"])
        for name in ("listen", "look", "announce"):
            await until(lambda name=name: f"the task wakeups-{name} has failed" in caplog.text)
        quiet.failure = None
        announced, asked = len(quiet.announced), len(quiet.asked)
        made.happened("c")
        await until(lambda: len(quiet.announced) > announced and len(quiet.asked) > asked)
        quiet.heard.put_nowait({"a"})
        assert await asyncio.gather(*waiting) == [True]

    on_a_loop(check)


def test_a_look_that_sees_what_the_watcher_saw_wakes_nobody() -> None:
    async def check(quiet: Quiet, made: Wakeups) -> None:
        quiet.now = {"t": 5, "u": 5}
        with made.watch("t") as watch, made.watch("u") as unseen:
            made.seen("t", 5)
            assert await unseen.wait(60)  # the control: a look has seen both
            assert not await watch.wait(0)
            quiet.now["t"] = 6
            assert await watch.wait(60)

    on_a_loop(check)


def test_a_fetch_that_waits_says_what_it_saw() -> None:
    """It looks again when something has happened, and not at the first look of the others."""

    async def check(quiet: Quiet, made: Wakeups) -> None:
        quiet.now = {"t": 5}
        looked: list[int] = []

        async def look(topic: str, fetch: Fetch) -> Fetched:
            looked.append(quiet.now[topic])
            return Fetched(0, 0, quiet.now[topic], "" if quiet.now[topic] == 5 else "{}")

        context: Any = SimpleNamespace(wakeups=made, fusion=SimpleNamespace(look=look))
        waits = asyncio.ensure_future(subscribers._wait(context, "t", Fetch("s", 1), 60))
        await until(lambda: len(quiet.asked) > 2)
        assert looked == [5]
        quiet.now["t"] = 6
        assert (await waits).head == 6

    on_a_loop(check)


def test_who_saw_less_than_another_is_woken() -> None:
    async def check(quiet: Quiet, made: Wakeups) -> None:
        quiet.now = {"t": 6}
        with made.watch("t") as watch, made.watch("t"):
            made.seen("t", 6)
            made.seen("t", 5)  # it had looked before the publish, and was answered later
            assert await watch.wait(60)

    on_a_loop(check)


def test_the_end_ends_all_waiting() -> None:
    async def check(quiet: Quiet, made: Wakeups) -> None:
        tasks = await polls(made, ["a"] * 300)
        assert not made.stopping
        await made.stop()
        assert made.stopping
        await asyncio.gather(*tasks)

    on_a_loop(check)


def test_what_happened_before_the_wait_is_not_missed() -> None:
    async def check() -> None:
        watch = Watch()
        watch.wake()
        watch.wake()
        assert await watch.wait(60)
        assert not await watch.wait(0)

    asyncio.run(check())


def test_housekeeping_tidies_until_there_is_nothing_to_do(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "_BETWEEN_ROUNDS", 0.001)
    monkeypatch.setattr(housekeeping, "_BETWEEN_CHUNKS", 0)
    monkeypatch.setattr(tasks, "_PAUSE", 0)

    async def check() -> None:
        quiet = Quiet()
        keeping = Housekeeping(quiet)  # type: ignore[arg-type]
        await keeping.stop()  # it has not begun
        quiet.failure = Unavailable("busy")
        keeping.start()
        await until(lambda: "not tidied: busy" in caplog.text)
        quiet.failure = None
        await until(lambda: not quiet.chunks)
        # a bug: the list is empty; the log says so, and the task begins again
        await until(lambda: "the task housekeeping has failed" in caplog.text)
        quiet.chunks = [1, 0]
        await until(lambda: not quiet.chunks)
        await keeping.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with caplog.at_level(logging.WARNING):
        asyncio.run(check())
