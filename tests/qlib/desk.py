"""A subscriber made up for tests of work: it leases what its script says, and remembers what it is told."""

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any

from qlib import Acked, LeasedMessage, Nacked, QueueError, Subscriber
from qlib.reading import KeptOut, Leased
from qlib.workers import Workers
from tests.qlib.hostile import TIME, made, subscriber

MOMENT = datetime.fromisoformat(TIME)
LONG = 60.0  # the longest that a test waits for work to end
# What the queue leases in one call: offsets, or offsets with keys; or how it fails.
Script = Sequence[int] | dict[int, str] | QueueError


class Desk(Workers):
    """Leases "1-1", "2-1" … after each other; `failures` are raised by the verb first."""

    topic, subscriber = "orders", "kitchen"

    def __init__(
        self, *script: Script, ordered: bool = False, **failures: list[QueueError]
    ) -> None:
        self.script, self.ordered = deque(script), ordered
        self.failures = {"ack": [], "nack": [], "extend": [], **failures}
        self.calls: list[tuple[str, Any]] = []
        self.asked = 0
        self._worker = "cook 1"
        self._lock = Lock()
        self._leases = 0

    def __repr__(self) -> str:
        return "the desk"

    def info(self) -> Subscriber:
        return made(Subscriber, subscriber("kitchen", ordered=self.ordered))

    def told(self, verb: str) -> list[Any]:
        """Return what it was told by this verb."""
        with self._lock:
            return [what for how, what in self.calls if how == verb]

    def acked(self) -> list[int]:
        """Return the offsets of all acks, in order."""
        return [offset for offsets in self.told("ack") for offset in offsets]

    def _lease(self, limit: int, seconds: float, wait: float, outage: Any = None) -> Leased:
        with self._lock:
            self.asked += 1
            found = self.script.popleft() if self.script else ()
            if isinstance(found, QueueError):
                self._fail(found, outage)
            self._leases += bool(found)
            lease = f"{self._leases}-1"
        if not found:
            Event().wait(min(wait, 0.02))
            return Leased("orders", "kitchen", None, None, [])
        keys = found if isinstance(found, dict) else {}
        messages = [KeptOut(o, MOMENT, o * 10, keys.get(o), attempt=1) for o in found]
        return Leased("orders", "kitchen", lease, datetime.now(UTC), messages)

    def _ack_lease(self, lease: str, offsets: Sequence[int] | None, outage: Any = None) -> Acked:
        self._take("ack", list(offsets or ()), outage)
        return Acked(len(offsets or ()), 0, 1, 99, 99)

    def _nack(self, lease: str, fields: dict[str, Any], outage: Any = None) -> Nacked:
        self._take("nack", fields, outage)
        return Nacked(len(fields["offsets"]), 0)

    def _extend(self, lease: str, seconds: float, outage: Any = None) -> datetime:
        self._take("extend", lease, outage)
        return MOMENT

    def _take(self, verb: str, what: Any, outage: Any) -> None:
        with self._lock:
            if self.failures[verb]:
                self._fail(self.failures[verb].pop(0), outage)
            self.calls.append((verb, what))

    def _fail(self, error: QueueError, outage: Any) -> None:
        if outage:  # as the transport does
            outage.since = min(outage.since, monotonic())
        raise error


class Working(Thread):
    """Work in a thread of its own, until it has ended by itself or is told to stop."""

    def __init__(self, workers: Workers, handler: Any, **options: Any) -> None:
        super().__init__(daemon=True)
        self.stop = Event()
        self.error: BaseException | None = None
        self._act = lambda: workers.work(handler, stop=self.stop, **options)
        self.start()

    def run(self) -> None:
        try:
            self._act()
        except BaseException as error:
            self.error = error

    def ended(self) -> BaseException | None:
        """Wait for its end, and return by which error, if any."""
        self.join(LONG)
        assert not self.is_alive(), "work goes on"
        return self.error


@contextmanager
def working(workers: Workers, handler: Any, **options: Any) -> Iterable[Working]:
    """Work beside the block, and stop at its end; then it must have ended well."""
    thread = Working(workers, handler, **options)
    try:
        yield thread
    except BaseException:
        if isinstance(handler, Handler):
            handler.release()  # it will not be told any more
        raise
    finally:
        thread.stop.set()
        error = thread.ended()
    assert error is None, error


class Handler:
    """Remembers what it got; stays with the offsets in `at` until it may go on."""

    def __init__(self, *at: int) -> None:
        self.got: list[int] = []
        self.began: list[int] = []
        self.go_on = {offset: Event() for offset in at}

    def __call__(self, message: LeasedMessage) -> None:
        self.began.append(message.offset)
        if message.offset in self.go_on:
            assert self.go_on[message.offset].wait(LONG)
        self.got.append(message.offset)

    def release(self) -> None:
        """Let it go on with all."""
        for event in self.go_on.values():
            event.set()
