"""A right queue with workers, in memory, and random histories of many who use it at once.

It is the model that the SQL functions are compared with. Its clock is ahead of the processes' own,
and a crash takes back what had not been waited for on the disk.
"""

from copy import deepcopy
from itertools import count
from typing import Any

from qlib.lab.history import History, Operation
from tests.lab.checker.model_queue import Act, Doing, Process, Refused, Run
from tests.sql.lease_model import Held, Model
from tests.sql.lease_model import Refused as Code

AHEAD = 500.0
CODES = {"QL010": "LeaseExpired", "QL011": "KeyOrder"}
WHO: dict[str, Any] = {"subscriber": "kitchen"}


class Work(Run):
    """Workers of one subscriber of one topic, and whoever disturbs them."""

    def __init__(self, seed: int, faults: bool, ordered: bool) -> None:
        super().__init__(seed, faults)
        self.max_attempts = self.choose.choice((1, 2, 3, 5))
        self.keys = [
            self.choose.choice((None, "a", "b")) for _ in range(self.choose.choice((3, 12)))
        ]
        self.model = Model(self.keys, self.max_attempts, ordered)
        self.held: dict[str, Held] = {}
        self.disk = deepcopy((self.model, self.held))
        self.ids = count(1)

    def play(self, turns: int) -> History:
        for n in range(len(self.keys)):
            told = {"values": (f'"{n + 1}"',), "offsets": (n + 1,)}
            start = next(self.clock)
            self.history.add(Operation("publish", "orders", start, next(self.clock), **told))
        faults, self.faults = self.faults, False
        self.run_to_its_end(self.tell("subscribe"))
        self.run_to_its_end(self.do("restart", "", dict))
        self.faults = faults
        self.processes += [self.crasher()] * faults
        self.processes += [self.worker() for _ in range(4)]
        self.processes += [self.seeker(), self.redriver(), self.reader_of_standing(), self.acker()]
        for _ in range(turns):
            process = self.choose.choice(self.processes)
            if next(process, process) is process:
                self.processes.remove(process)
        for process in self.processes:
            process.close()
        self.faults = False
        self.drain()
        return self.history

    def run_to_its_end(self, doing: Doing) -> Operation:
        while True:
            try:
                next(doing)
            except StopIteration as end:
                return end.value

    def drain(self) -> None:
        """Do what is left, look whether there is more, and at what is dead."""
        while True:
            self.clock = count(next(self.clock) + 500)
            lease = self.run_to_its_end(self.lease(3, 20, wait=2.0))
            if not lease.lease:
                break
            self.run_to_its_end(self.ack(lease, ()))
        self.run_to_its_end(self.tell("final_work"))
        start = next(self.clock)
        offsets = tuple(range(1, len(self.keys) + 1))
        told = {"offsets": offsets, "values": tuple(f'"{o}"' for o in offsets)}
        told |= {"keys": tuple(self.keys), "floor": 1, "head": len(offsets)}
        self.history.add(Operation("final_read", "orders", start, next(self.clock), **told))

    def act(self, act: Act) -> dict[str, Any]:
        def timed() -> dict[str, Any]:
            self.model.time = max(self.model.time, next(self.clock) + AHEAD)
            try:
                return act()
            except Code as code:
                raise Refused(CODES[code.args[0]]) from None

        return super().act(timed)

    def durable(self) -> None:
        self.disk = deepcopy((self.model, self.held))

    def tell(self, kind: str) -> Doing:
        def act() -> dict[str, Any]:
            dead = sorted(o for o in self.model.dead if not self.model.out(o))
            told = {
                **{"position": self.model.position, "epoch": self.model.epoch},
                **{"max_attempts": self.max_attempts, "ordered": self.model.ordered},
                "backoff_cap": 30.0,
            }
            letters = {"offsets": tuple(dead), "values": tuple(f'"{o}"' for o in dead)}
            return told | (letters if kind == "final_work" else {})

        return self.do(kind, "orders", act, **WHO)

    def lease(self, limit: int, seconds: float, **asked: Any) -> Doing:
        def act() -> dict[str, Any]:
            model = self.model
            dying = model.dying()
            listed = {(o, epoch) for o, epoch in model.dead.items() if not model.out(o)}
            model.found_dead(
                listed - {(o, model.dead.get(o)) for o in dying} | {(o, model.epoch) for o in dying}
            )
            got: list[int] = []
            for offset in sorted(model.messages):
                lonely = offset in model.available({*got, offset}) and model.alone(
                    model.messages[offset]
                )
                if (
                    len(got) < limit
                    and offset in model.available({*got, offset})
                    and not (lonely and got)
                ):
                    got.append(offset)
                    if lonely:
                        break
            if not got:
                return {}
            attempts = [model.messages[o].attempts + 1 for o in got]
            lease = f"{next(self.ids)}"
            until = model.time + seconds
            self.held[lease] = held = Held(until, frozenset(got), set(got), model.epoch)
            for o in got:
                model.messages[o].attempts += 1
                model.messages[o].lease, model.messages[o].suspect = held, False
            keys = tuple(self.keys[o - 1] for o in got)
            return {
                **{"lease": lease, "expires": until, "offsets": tuple(got), "keys": keys},
                **{"values": tuple(f'"{o}"' for o in got), "attempts": tuple(attempts)},
            }

        return self.do("lease", "orders", act, limit=limit, seconds=seconds, **asked, **WHO)

    def find(self, lease: Operation) -> Held:
        held = self.held.get(lease.lease or "")
        if held is None:
            raise Code("QL010")
        return held

    def ack(self, lease: Operation, offsets: tuple[int, ...]) -> Doing:
        def act() -> dict[str, Any]:
            acked = self.model.ack(self.find(lease), set(offsets) or None)
            self.durable()
            return {"count": acked, "position": self.model.position, "epoch": self.model.epoch}

        return self.do("ack_lease", "orders", act, lease=lease.lease, offsets=offsets, **WHO)

    def nack(self, lease: Operation, offsets: tuple[int, ...]) -> Doing:
        delay, untried = self.choose.choice((0.0, 0.0, 10.0, 30.0)), self.choose.random() < 0.3

        def act() -> dict[str, Any]:
            asked = set(offsets) or None
            nacked, dead = self.model.nack(self.find(lease), asked, delay, untried)
            return {"count": nacked, "buried": dead}

        told = {"delay": None if delay == 30.0 else delay, "untried": untried}
        return self.do("nack", "orders", act, lease=lease.lease, offsets=offsets, **told, **WHO)

    def extend(self, lease: Operation, seconds: float) -> Doing:
        def act() -> dict[str, Any]:
            held = self.find(lease)
            self.model.extend(held, seconds)
            return {"expires": held.until}

        return self.do("extend", "orders", act, lease=lease.lease, seconds=seconds, **WHO)

    def worker(self) -> Process:
        choose = self.choose
        while True:
            limit, seconds = choose.choice((1, 2, 5)), choose.choice((3.0, 20.0, 200.0))
            lease = yield from self.lease(limit, seconds)
            if lease.outcome != "ok" or not lease.lease:
                for _ in range(choose.randint(1, 20)):
                    yield
                continue
            for _ in range(choose.randint(0, 4)):
                some = tuple(o for o in lease.offsets if choose.random() < 0.6)
                kind = choose.choice(("ack", "ack", "nack", "extend"))
                if kind == "extend":
                    yield from self.extend(lease, choose.choice((5.0, 100.0)))
                elif some or choose.random() < 0.3:
                    yield from getattr(self, kind)(lease, some)

    def seeker(self) -> Process:
        while True:
            for _ in range(self.choose.randint(1, 200)):
                yield
            to = self.choose.randint(0, len(self.keys))

            def act(to: int = to) -> dict[str, Any]:
                self.model.seek(to)
                self.durable()
                return {}

            yield from self.do("seek", "orders", act, offset=to, **WHO)

    def redriver(self) -> Process:
        while True:
            for _ in range(self.choose.randint(1, 100)):
                yield
            limit = self.choose.choice((1, 9))

            def act(limit: int = limit) -> dict[str, Any]:
                found = self.model.redrive(limit)
                self.durable()
                return {"count": found}

            yield from self.do("redrive", "orders", act, limit=limit, **WHO)

    def reader_of_standing(self) -> Process:
        while True:
            for _ in range(self.choose.randint(1, 20)):
                yield
            yield from self.tell("info")

    def acker(self) -> Process:
        """Who sometimes acknowledges as if alone."""
        while True:
            for _ in range(self.choose.randint(1, 300)):
                yield
            standing = yield from self.tell("info")
            if standing.outcome != "ok" or standing.position is None:
                continue
            offset, sent = min(standing.position + 1, len(self.keys)), standing.epoch

            def act(offset: int = offset, sent: int | None = sent) -> dict[str, Any]:
                if self.model.epoch != sent:
                    raise Refused("StaleEpoch")
                self.model.plain_ack(offset)
                self.durable()
                return {"position": self.model.position}

            yield from self.do("ack", "orders", act, offset=offset, epoch=sent, **WHO)

    def crasher(self) -> Process:
        while True:
            for _ in range(self.choose.randint(1, 150)):
                yield
            start = next(self.clock)
            try:
                yield
                time = self.model.time
                self.model, self.held = deepcopy(self.disk)
                self.model.time = time
                yield
            finally:
                self.history.add(Operation("restart", "", start, next(self.clock)))


def random_work(
    seed: int, *, turns: int = 1200, faults: bool = True, ordered: bool = False
) -> History:
    """Return a history of workers in which the queue did nothing wrong."""
    return Work(seed, faults, ordered).play(turns)
