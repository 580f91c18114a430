"""A right queue in memory, and random histories of several processes that use it at once."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from qlib.lab.history import History, Operation

Process = Generator[None, None, None]
Doing = Generator[None, None, Operation]
Act = Callable[[], dict[str, Any]]

TOPICS = ("orders", "parcels")
SUBSCRIBERS = ("kitchen", "billing")


class Refused(Exception):
    """The queue says no: its one argument is the name of the error."""


@dataclass
class Topic:
    log: list[str] = field(default_factory=list)
    floor: int = 1
    standing: dict[str, tuple[int, int]] = field(default_factory=dict)  # position and epoch
    numbers: dict[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)

    def publish(self, values: tuple[str, ...], number: tuple[str, int] | None) -> tuple[int, ...]:
        if (known := self.known(number)) is not None:
            return known
        head = len(self.log)
        self.log += values
        offsets = tuple(range(head + 1, head + 1 + len(values)))
        if number is not None:
            self.numbers[number] = offsets
        return offsets

    def known(self, number: tuple[str, int] | None) -> tuple[int, ...] | None:
        return None if number is None else self.numbers.get(number)

    def head(self) -> int:
        return len(self.log)

    def read(self, after: int, limit: int) -> dict[str, tuple[Any, ...]]:
        if not self.floor - 1 <= after <= len(self.log):
            raise Refused("OffsetOutOfRange")
        values = tuple(self.log[after : after + limit])
        return {"offsets": tuple(range(after + 1, after + 1 + len(values))), "values": values}

    def fetch(
        self, subscriber: str, after: int | None, limit: int, sent: int | None
    ) -> dict[str, Any]:
        position, epoch = self.standing[subscriber]
        if sent not in (None, epoch):
            raise Refused("StaleEpoch")
        found = self.read(self.first(position) if after is None else after, limit)
        return {"position": position, "epoch": epoch, **found}

    def first(self, position: int) -> int:
        return position

    def ack(self, subscriber: str, offset: int, sent: int) -> dict[str, Any]:
        position, epoch = self.standing[subscriber]
        if sent != epoch:
            raise Refused("StaleEpoch")
        if offset > self.head():
            raise Refused("OffsetOutOfRange")
        self.standing[subscriber] = max(position, offset), epoch
        return {"position": max(position, offset)}

    def move(self, offset: int, *subscribers: str) -> dict[str, Any]:
        if not self.floor - 1 <= offset <= len(self.log):
            raise Refused("OffsetOutOfRange")
        for name in subscribers:
            self.standing[name] = offset, self.standing[name][1] + 1
        return {}


class Run:
    """Processes that take turns at random: each operation starts, takes effect and ends."""

    def __init__(self, seed: int, faults: bool) -> None:
        self.choose, self.faults = Random(seed), faults
        self.topics = {name: Topic() for name in TOPICS}
        self.history = History()
        self.clock, self.values = count(1), count(1)
        self.processes: list[Process] = []

    def play(self, turns: int) -> History:
        for topic in TOPICS:
            for name in SUBSCRIBERS:
                self.topics[topic].standing[name] = 0, 0
                self.processes += [self.reader(topic, name) for _ in range(2)]
            self.processes += [self.publisher(topic, f"{topic}-{n}") for n in range(2)]
            self.processes += [self.mover(topic), self.browser(topic)]
        for _ in range(turns):
            process = self.choose.choice(self.processes)
            if next(process, process) is process:
                self.processes.remove(process)
        for process in self.processes:
            process.close()
        for name, topic in self.topics.items():
            start = next(self.clock)
            found = topic.read(topic.floor - 1, len(topic.log))
            facts = {"floor": topic.floor, "head": len(topic.log), **found}
            self.history.add(Operation("final_read", name, start, next(self.clock), **facts))
        return self.history

    def do(self, kind: str, topic: str, act: Act, **asked: Any) -> Doing:
        """One operation; whatever is under way at the end of the run has an unknown outcome."""
        start = next(self.clock)
        facts: dict[str, Any] = {"outcome": "unknown", "error": "OutcomeUnknown"}
        try:
            yield
            told = self.act(act)
            yield
            facts = told
        finally:
            operation = Operation(kind, topic, start, next(self.clock), **(asked | facts))
            self.history.add(operation)
        return operation

    def act(self, act: Act) -> dict[str, Any]:
        if self.faults and self.choose.random() < 0.1:
            if self.choose.random() < 0.5:
                self.processes.append(self.late(act))
            return {"outcome": "unknown", "error": "OutcomeUnknown"}
        try:
            return act()
        except Refused as refusal:
            return {"outcome": "fail", "error": str(refusal)}

    def late(self, act: Act) -> Process:
        yield
        try:
            act()
        except Refused:
            return

    def publisher(self, topic: str, producer: str) -> Process:
        queue = self.topics[topic]
        for sequence in count(1):
            size = self.choose.choice((1, 1, 2, 4))
            values = tuple(f'"{next(self.values)}"' for _ in range(size))
            number = (producer, sequence) if self.choose.random() < 0.5 else None
            asked = dict(zip(("producer", "sequence"), number, strict=True)) if number else {}
            for _ in range(self.choose.randint(1, 3) if number else 1):
                act = lambda v=values, n=number: {"offsets": queue.publish(v, n)}  # noqa: E731
                yield from self.do("publish", topic, act, values=values, **asked)

    def reader(self, topic: str, name: str) -> Process:
        queue, choose = self.topics[topic], self.choose
        about = {"subscriber": name}
        stand = lambda: dict(zip(("position", "epoch"), queue.standing[name], strict=True))  # noqa: E731
        epoch = (yield from self.do("subscribe", topic, stand, **about)).epoch
        while True:
            after = choose.randint(0, len(queue.log)) if choose.random() < 0.1 else None
            known = None if after is None else epoch
            ask = {"limit": choose.randint(1, 6), "offset": after, "epoch": known}
            fetch = lambda a=ask: queue.fetch(name, a["offset"], a["limit"], a["epoch"])  # noqa: E731
            told = yield from self.do("fetch", topic, fetch, **ask, **about)
            epoch = told.epoch if told.outcome == "ok" else epoch
            if told.outcome == "ok" and (told.offsets or choose.random() < 0.1):
                offset = choose.choice(told.offsets or (1,))
                if choose.random() < 0.1:
                    offset = choose.randint(0, len(queue.log) + 20)
                sent = {"offset": offset, "epoch": told.epoch}
                ack = lambda s=sent: queue.ack(name, s["offset"], s["epoch"])  # noqa: E731
                yield from self.do("ack", topic, ack, **sent, **about)
            if choose.random() < 0.1:
                yield from self.do("info", topic, stand, **about)

    def browser(self, topic: str) -> Process:
        queue = self.topics[topic]
        while True:
            offset = self.choose.randint(queue.floor, len(queue.log) + 1)
            browse = lambda o=offset: queue.read(o - 1, 5)  # noqa: E731
            yield from self.do("browse", topic, browse, offset=offset, limit=5)

    def mover(self, topic: str) -> Process:
        queue = self.topics[topic]
        while True:
            for _ in range(self.choose.randint(1, 60)):
                yield
            offset, name = self.choose.randint(0, len(queue.log)), self.choose.choice(SUBSCRIBERS)
            if self.choose.random() < 0.1:
                queue.floor = max(queue.floor, self.choose.randint(1, len(queue.log) + 1) // 2)
            elif self.choose.random() < 0.5:
                act = lambda o=offset: queue.move(o, *SUBSCRIBERS)  # noqa: E731
                yield from self.do("reset", topic, act, offset=offset)
            else:
                act = lambda o=offset, n=name: queue.move(o, n)  # noqa: E731
                yield from self.do("seek", topic, act, offset=offset, subscriber=name)


def random_history(seed: int, *, turns: int = 300, faults: bool = True) -> History:
    """Return a history in which the queue did nothing wrong."""
    return Run(seed, faults).play(turns)
