"""Fusion: concurrent publishes to one topic share a transaction, and with it one wait for the disk.

A topic's offsets are given out in commit order, so its lock is held until a commit is on disk: one by one, publishes
would come to no more than the disk has writes in a second. Whoever finds a topic free leads: it carries out its own
publish and all those that wait by then in one transaction. Before it answers them it hands the lead to the first
who has come meanwhile; nobody stays in service for others.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from server.engines import Batch, Engine, Published
from server.http.errors import Problem

_MOST = 64  # publishes in a transaction, and
_SIZE = 1024 * 1024  # their characters together, but one publish in any case


class _Call:
    """A publish that waits on a lock of its own: on a shared one, all would wake for each."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.size = len(batch.payloads) + len(batch.headers or "")
        self.outcome: Published | Exception | None = None
        self.woken = threading.Lock()
        self.woken.acquire()


class Fusion:
    """Carries publishes out, a topic's concurrent ones together, each caller waiting for its own answer.

    A topic takes one of the engine's connections at the most: one whose lock is held by a stuck session harms no other.
    """

    def __init__(
        self, engine: Engine, published: Callable[[str], None], *, patience: float = 5.0
    ) -> None:
        """Call `published` with the topic after each commit; let a publish wait `patience` seconds for its turn."""
        self._engine = engine
        self._published = published
        self._patience = patience
        self._lock = threading.Lock()
        self._lines: dict[str, deque[_Call]] = {}  # who waits, for each topic that somebody leads

    def publish(self, topic: str, batch: Batch) -> Published:
        """Append a batch. Raises Problem; with 503 and outcome none when its turn did not come in time."""
        call = _Call(batch)
        with self._lock:
            leads = topic not in self._lines
            line = self._lines.setdefault(topic, deque())
            if not leads:
                line.append(call)
        if leads or self._promoted(line, call):
            self._lead(topic, line, call)
        if isinstance(call.outcome, Published):
            return call.outcome
        assert call.outcome is not None
        raise call.outcome

    def _promoted(self, line: deque[_Call], call: _Call) -> bool:
        if not call.woken.acquire(timeout=self._patience):
            with self._lock:
                if call in line:  # nobody has taken it, and now nobody will
                    line.remove(call)
                    raise Problem("unavailable", "too many wait for this topic")
            call.woken.acquire()  # whoever took it is bounded by the engine's timeouts
        return call.outcome is None

    def _lead(self, topic: str, line: deque[_Call], leader: _Call) -> None:
        calls, size = [leader], leader.size
        with self._lock:
            while line and len(calls) < _MOST and size + line[0].size <= _SIZE:
                calls.append(line.popleft())
                size += calls[-1].size
        outcomes = self._carry_out(topic, [call.batch for call in calls])
        with self._lock:
            if line:
                line.popleft().woken.release()  # without an outcome: it leads
            else:
                del self._lines[topic]
        for call, outcome in zip(calls, outcomes, strict=True):
            call.outcome = outcome
            call.woken.release()

    def _carry_out(self, topic: str, batches: Sequence[Batch]) -> Sequence[Published | Exception]:
        try:
            outcomes = self._engine.publish(topic, batches)
            self._published(topic)
            return outcomes
        except Problem as problem:
            if len(batches) == 1 or problem.status in (503, 507):
                return [problem] * len(batches)  # busy, lost or full: it is so for all of them
        except Exception as error:  # whatever it is, nobody may wait for ever
            return [error] * len(batches)
        # it did not happen, and one of them is the reason: each alone, so that none harms its neighbours
        return [outcome for batch in batches for outcome in self._carry_out(topic, [batch])]
