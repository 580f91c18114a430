"""The workers: processes that share the messages of one subscriber a topic, and are killed."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from qlib.errors import QueueError
from qlib.lab.history.watched import WatchedSubscriber
from qlib.lab.stress.records import recorder
from qlib.lab.stress.workers import Plan, Signals
from qlib.lease import Lease
from qlib.subscriber import QSubscriber

CREW = "crew"
_LIMITS = (1, 1, 1, 2, 5, 20)
_SECONDS = (0.3, 1.0, 5.0)
_WAITS = (0.0, 0.0, 0.0, 0.05)
_MOST_KEPT = 2


def crew(topic: str, number: int, plan: Plan, worker: str | None = None) -> QSubscriber:
    """Return a client of the crew of a topic: every second one works in the order of keys."""
    return QSubscriber(
        topic,
        CREW,
        start="earliest",
        worker=worker,
        max_attempts=4,
        backoff=0.05,
        backoff_cap=0.5,
        ordered=plan.topics.index(topic) % 2 == 1,
        url=plan.address(number),
    )


def worker(number: int, life: int, plan: Plan, signals: Signals) -> None:
    """Lease and settle until told to drain, and then until nothing is left; it may be killed."""
    topic, name = plan.topics[number % len(plan.topics)], f"worker-{number}.{life}"
    slot = plan.publishers + plan.subscribers + number
    logging.getLogger("qlib").setLevel(logging.ERROR)  # that zombies cannot give back is no news
    with (
        recorder(plan.directory, name, killed=True) as recording,
        crew(topic, number, plan, name) as client,
    ):
        hand = _Hand(WatchedSubscriber(client, recording), Random(f"{plan.seed} {name}"))
        signals.start(slot)
        while not signals.over():
            draining = signals.drain.is_set()
            with suppress(QueueError):
                lease = hand.drain() if draining else hand.turn()
                signals.messages[slot] += len(lease)
                signals.lags[slot] = hand.lag
                if draining and not lease and hand.queue.lag == 0:
                    return


@dataclass
class _Hand:
    queue: WatchedSubscriber
    choose: Random
    lag: int = 0
    kept: list[Lease] = field(default_factory=list)

    def drain(self) -> Lease:
        """Lease and acknowledge what there is."""
        lease = self.queue.lease(100, 10.0, wait=1.0)
        self._ack(lease)
        return lease

    def turn(self) -> Lease:
        """Lease some messages and do something with them, or nothing; return the lease."""
        choose = self.choose
        lease = self.queue.lease(
            choose.choice(_LIMITS), choose.choice(_SECONDS), choose.choice(_WAITS)
        )
        whims = (self._extend, self._nack, self._ack_some, self._keep, self._untried, self._redrive)
        act = choose.choice(whims) if choose.random() < 0.3 else self._ack
        # Who has lost its lease, or breaks the order of a key, is refused.
        with suppress(QueueError):
            act(lease)
        return lease

    def _ack(self, lease: Lease) -> None:
        if lease:
            self.lag = lease.ack().lag

    def _extend(self, lease: Lease) -> None:
        if lease:
            lease.extend(self.choose.choice(_SECONDS))
            self._ack(lease)

    def _nack(self, lease: Lease) -> None:
        some = [message for message in lease if self.choose.random() < 0.5]
        lease.nack(some, delay=self.choose.choice((None, 0.0, 0.2)), error="it burnt")
        self._ack(lease)

    def _ack_some(self, lease: Lease) -> None:
        """And leave the rest to whoever comes when it has expired."""
        lease.ack([message for message in lease if self.choose.random() < 0.7])

    def _keep(self, lease: Lease) -> None:
        """And come back to another one that was kept, which most likely has expired."""
        self.kept.append(lease)
        if len(self.kept) > _MOST_KEPT:
            zombie = self.kept.pop(self.choose.randrange(_MOST_KEPT))
            self.choose.choice((self._ack, self._extend, self._nack))(zombie)

    def _untried(self, lease: Lease) -> None:
        with lease:
            for message in lease:
                lease.ack(message)
                break

    def _redrive(self, lease: Lease) -> None:
        self._ack(lease)
        if dead := self.queue.dead(limit=20):
            self.queue.redrive(dead[: self.choose.randint(1, len(dead))])
