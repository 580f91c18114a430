"""A queue that a page of code can be trusted with, and the history of a run against it."""

from collections.abc import Iterator
from itertools import count
from random import Random

from qlib.lab.stress.records import (
    OK,
    STALE,
    UNAVAILABLE,
    UNKNOWN,
    Ack,
    Fetch,
    History,
    Move,
    Publish,
    Stored,
    checksum,
)

TOPICS, PUBLISHERS, SUBSCRIBERS = 2, 3, 4


class Model:
    """The queue, its publishers and subscribers, and what they wrote down; one act at a time."""

    def __init__(self, seed: int) -> None:
        self.choose = Random(seed)
        self.clock = count(1, 10**6)
        self.logs: list[list[tuple[int, int]]] = [[] for _ in range(TOPICS)]
        self.sent = [0] * PUBLISHERS
        self.standing = [(0, 0)] * SUBSCRIBERS  # position and epoch
        self.publishes: list[list[Publish]] = [[] for _ in range(PUBLISHERS)]
        self.fetches: list[list[Fetch]] = [[] for _ in range(SUBSCRIBERS)]
        self.acks: list[list[Ack]] = [[] for _ in range(SUBSCRIBERS)]
        self.moves: list[Move] = []

    def run(self, acts: int) -> History:
        for _ in range(acts):
            self.choose.choices((self.publish, self.turn, self.move), (3, 4, 1))[0]()
        # The head goes on without an answer; then everybody drains.
        for number in range(SUBSCRIBERS):
            while self.turn(number, calm=True):
                pass
        return self.history()

    def history(self) -> History:
        stored = [
            [Stored(offset, *message) for offset, message in enumerate(log, 1)] for log in self.logs
        ]
        return History(TOPICS, self.publishes, self.fetches, self.acks, self.moves, stored)

    def outcome(self) -> tuple[int, bool]:
        """Return an outcome, and whether the thing was done."""
        outcome = self.choose.choices((OK, UNKNOWN, UNAVAILABLE), (20, 2, 1))[0]
        return outcome, outcome == OK or (outcome == UNKNOWN and self.choose.random() < 0.5)

    def times(self) -> Iterator[int]:
        return iter((next(self.clock), next(self.clock)))

    def publish(self) -> None:
        number, topic = self.choose.randrange(PUBLISHERS), self.choose.randrange(TOPICS)
        n, size, log = self.sent[number], self.choose.randint(1, 5), self.logs[topic]
        outcome, done = self.outcome()
        offset = len(log) + 1 if outcome == OK else 0
        if done:
            log += [(number, n + k) for k in range(size)]
        self.sent[number] += size
        self.publishes[number].append(Publish(topic, n, size, offset, outcome, *self.times()))

    def turn(self, number: int | None = None, calm: bool = False) -> int:
        """Fetch, let somebody move the subscriber or not, acknowledge; return what came."""
        number = self.choose.randrange(SUBSCRIBERS) if number is None else number
        (position, epoch), limit = self.standing[number], self.choose.randint(1, 8)
        log = self.logs[number % TOPICS]
        came = list(enumerate(log, 1))[position : position + limit]
        total = 0
        for offset, message in came:
            total = checksum(total, offset, *message)
        first, last = (came[0][0], came[-1][0]) if came else (0, 0)
        contents = (position, epoch, first, last, len(came), total)
        self.fetches[number].append(Fetch(limit, 0, *contents, OK, *self.times()))
        if came:
            if not calm and self.choose.random() < 0.3:
                self.move()
            self.ack(number, last if calm else self.choose.randint(first, last), epoch, calm)
        return len(came)

    def ack(self, number: int, offset: int, epoch: int, calm: bool) -> None:
        position, current = self.standing[number]
        outcome, done = (OK, True) if calm else self.outcome()
        if epoch != current:
            outcome, done = STALE, False
        if done:
            self.standing[number] = (max(position, offset), epoch)
        answer = self.standing[number][0] if outcome == OK else -1
        self.acks[number].append(Ack(offset, epoch, answer, outcome, *self.times()))

    def move(self) -> None:
        """Reset a topic or seek one subscriber."""
        topic, number = self.choose.randrange(TOPICS), -1
        moved = [it for it in range(SUBSCRIBERS) if it % TOPICS == topic]
        if self.choose.random() < 0.5:
            number = self.choose.choice(moved)
            moved = [number]
        position = self.choose.randint(0, len(self.logs[topic]))
        outcome, done = self.outcome()
        for it in moved if done else ():
            self.standing[it] = (position, self.standing[it][1] + 1)
        self.moves.append(Move(topic, number, position, outcome, *self.times()))
