"""What leases do, in a few words of Python: to be compared with the functions, whatever is done in whatever order."""

from dataclasses import dataclass, field


class Refused(Exception):
    """The call does nothing; its only argument is the SQLSTATE."""


@dataclass
class Held:
    """A lease: when it ends, what it held, and what became of that."""

    until: float
    all: frozenset[int]
    rest: set[int]
    epoch: int
    done: set[int] = field(default_factory=set)


@dataclass
class Message:
    """One message, from the subscriber's point of view."""

    offset: int
    key: str | None
    attempts: int = 0
    due: float = 0.0
    lease: Held | None = None
    over: bool = False  # done, dead, or passed over by a plain ack
    suspect: bool = False  # its last attempt ended by expiry
    redriven: bool = False


class Model:
    """One subscriber, its messages, and its leases."""

    def __init__(self, keys: list[str | None], max_attempts: int, ordered: bool) -> None:
        self.time = 0.0
        self.max_attempts, self.ordered = max_attempts, ordered
        self.epoch = self.position = self.buried = 0
        self.keys = dict(enumerate(keys, 1))
        self.dead: dict[int, int] = {}  # offset: the epoch in which it died
        self.messages: dict[int, Message] = {}
        self.seek(0)

    def seek(self, position: int) -> None:
        self.epoch += 1
        self.position = position
        self.messages = {o: Message(o, key, over=o <= position) for o, key in self.keys.items()}

    def live(self, held: Held | None) -> bool:
        return held is not None and held.until > self.time

    def waits(self) -> list[Message]:
        """What is to be leased or buried, and nobody holds."""
        self.expire()
        return [
            m
            for m in self.messages.values()
            if not m.over and m.lease is None and m.due <= self.time
        ]

    def expire(self) -> None:
        for m in sorted(self.messages.values(), key=lambda m: -m.offset):  # the last of a key first
            if m.over or m.lease is None or self.live(m.lease):
                continue
            if self.follows(m, m.lease.rest):
                m.attempts -= 1
                m.suspect = m.attempts > 0
            else:
                m.suspect = True
            m.lease, m.due = None, self.time

    def dying(self) -> set[int]:
        return {m.offset for m in self.waits() if m.suspect and m.attempts >= self.max_attempts}

    def alone(self, m: Message) -> bool:
        return m.suspect and m.attempts > 0 and m.attempts + 1 >= self.max_attempts

    def free(self, m: Message, company: set[int]) -> bool:
        """Whether the messages before it in its key are over, or come along."""
        return not self.ordered or m.key is None or m.redriven or all(
            o.over or o.redriven or o.offset in company
            for o in self.messages.values() if o.key == m.key and o.offset < m.offset)  # fmt: skip

    def available(self, company: set[int]) -> set[int]:
        dying = self.dying()
        return {m.offset for m in self.waits() if m.offset not in dying and self.free(m, company)}

    def follows(self, m: Message, others: set[int]) -> bool:
        return self.ordered and m.key is not None and not m.redriven and any(
            o < m.offset and self.messages[o].key == m.key and not self.messages[o].redriven
            for o in others)  # fmt: skip

    def leased(self, got: list[int], attempts: list[int], limit: int, seconds: float) -> Held:
        """Take down what a lease returned; raise AssertionError when it could not."""
        company = set(got)
        available = self.available(company)
        assert company <= available, f"{company - available} were not to be had"
        assert len(got) == len(company) <= limit
        expected = [self.messages[o].attempts + 1 for o in got]
        assert attempts == expected, f"{got} have attempts {attempts}, not {expected}"
        lonely = {o for o in available if self.alone(self.messages[o])}
        if company & lonely:
            assert len(got) == 1, f"{company & lonely} were not leased alone"
        elif len(got) < limit and not lonely:
            assert available == company, f"{available - company} were left"
        held = Held(self.time + seconds, frozenset(got), set(got), self.epoch)
        for o in got:
            self.messages[o].attempts += 1
            self.messages[o].lease = held
            self.messages[o].suspect = False
        return held

    def found_dead(self, dead: set[tuple[int, int]]) -> None:
        """Take down who is dead now, and since which epoch; raise AssertionError when one should not be."""
        listed = {(o, epoch) for o, epoch in self.dead.items() if not self.out(o)}
        died = {o for o, _ in dead - listed}
        assert died <= self.dying(), f"{died} are dead, {self.dying()} were dying"
        assert {o for o, _ in listed} <= {o for o, _ in dead}, f"{listed - dead} are missing"
        for o in died:
            self.bury(self.messages[o])
        self.advance()

    def out(self, offset: int) -> bool:
        m = self.messages[offset]
        return m.redriven and not m.over

    def bury(self, m: Message) -> None:
        m.over, m.lease = True, None
        self.buried += 1
        self.dead[m.offset] = self.epoch

    def held(self, held: Held, asked: set[int] | None) -> set[int]:
        if held.epoch != self.epoch:
            raise Refused("QL010")
        part = held.rest if asked is None else asked & held.rest
        if part and not self.live(held):
            raise Refused("QL010")
        return set(part)

    def check_front(self, held: Held, part: set[int]) -> None:
        if any(self.follows(self.messages[o], held.rest - part) for o in part):
            raise Refused("QL011")

    def ack(self, held: Held, asked: set[int] | None) -> int:
        part = self.held(held, asked)
        gone = (held.all if asked is None else asked) - held.rest
        fine = gone <= held.done if asked is not None else bool(held.rest or gone & held.done)
        if gone and not fine:
            raise Refused("QL010")
        self.check_front(held, part)
        for o in part:
            m = self.messages[o]
            held.rest.discard(o)
            held.done.add(o)
            m.over, m.lease = True, None
            if m.redriven:
                self.dead.pop(o, None)
        self.advance()
        return len(part)

    def nack(
        self, held: Held, asked: set[int] | None, delay: float, untried: bool
    ) -> tuple[int, int]:
        part = self.held(held, asked)
        if not untried:
            self.check_front(held, part)
        behind = {o for o in held.rest - part if self.follows(self.messages[o], part)}
        dead = 0
        for o in part | behind:
            m = self.messages[o]
            held.rest.discard(o)
            if o in part and not untried and m.attempts >= self.max_attempts:
                dead += 1
                self.bury(m)
                continue
            if untried or o in behind:
                m.attempts -= 1
                m.suspect = m.attempts > 0  # who was alone stays alone
            else:
                m.suspect = False
            m.lease, m.due = None, self.time + (0 if untried or o in behind else delay)
        self.advance()
        return len(part) - dead, dead

    def extend(self, held: Held, seconds: float) -> None:
        if not self.held(held, None):
            raise Refused("QL010")
        held.until = max(held.until, self.time + seconds)

    def plain_ack(self, position: int) -> None:
        self.position = max(self.position, position)
        for m in self.messages.values():
            if m.offset <= self.position and not m.redriven:
                m.over = True
        self.advance()

    def redrive(self, limit: int) -> int:
        chosen = [o for o, epoch in sorted(self.dead.items())
                  if not self.out(o) and (o <= self.position or epoch == self.epoch)][:limit]  # fmt: skip
        for o in chosen:
            self.messages[o] = Message(o, self.keys[o], due=self.time, redriven=True)
        return len(chosen)

    def advance(self) -> None:
        while (m := self.messages.get(self.position + 1)) and (m.over or m.redriven):
            self.position += 1
