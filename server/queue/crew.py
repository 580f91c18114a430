"""A crew: the workers of a subscriber who want a lease now, in the order in which they came.

One look at a time is made for those in front. If it finds nothing for one of them, there was nothing for anybody who
had come before it began: so a publish costs one look, however many wait, and who got nothing has kept its place.

Another look is made when something has happened, and when the last one said that something would be due. None begins
for who has left.
"""

import asyncio
from collections.abc import Callable, Sequence

from server.engines import Lease, Leased
from server.engines.errors import Unavailable
from server.queue.turns import Turns
from server.queue.wakeups import Wakeups, work_of

_NOTHING = Leased(None, None, "", None)
_MOST = 64  # workers in a look; or fewer, so that it brings no more than so many of the largest messages
_FEW = 8  # messages that a lease takes whatever their size
_TURN = 0.2  # seconds for a look, after which others have their turn although it has not ended
_MORE = (
    1.0  # seconds for which a worker stays who would not wait, while there is more to look through
)
_AT_ONCE = 1000  # looks in a row that found only that, before there is
_PAUSE = 0.02  # between them
_EARLY = 0.001  # by how much a timer may be

Found = Leased | Exception
Look = Callable[[Sequence[Lease]], "asyncio.Task[Sequence[Found]]"]


class _Worker:
    """Who wants a lease. `waits`: a look has found nothing for it; `until`: when its time is up."""

    def __init__(self, wanted: Lease, until: float) -> None:
        self.wanted = wanted
        self.until = until
        self.waits = False
        self.answer: asyncio.Future[Leased] = asyncio.get_running_loop().create_future()


class Crew:
    """The workers of one subscriber.

    `look` begins to look for several; its task never raises. `give_back` is told of a lease that nobody else will ever
    hear of.
    """

    def __init__(
        self,
        topic: str,
        subscriber: str,
        turns: Turns,
        wakeups: Wakeups,
        look: Look,
        give_back: Callable[[str], None],
    ) -> None:
        """Have nobody in line yet."""
        self._topic = topic
        self._work = work_of(topic, subscriber)
        self._turns = turns
        self._wakeups = wakeups
        self._look = look
        self._give_back = give_back
        self._line: dict[_Worker, None] = {}
        self._asking: list[_Worker] = []  # those for whom a look is made now
        self._stale = False  # something has happened since the last look began
        self._vain = 0  # looks in a row that found only more to look through
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def idle(self) -> bool:
        """Whether nobody is in line."""
        return not self._line

    async def lease(self, wanted: Lease, wait: float) -> Leased:
        """Stand in line until there is a lease; or nothing, for so many seconds."""
        worker = _Worker(wanted, self._loop.time() + wait)
        self._line[worker] = None
        self.wake()
        timer = self._loop.call_later(wait, self._time_is_up, worker)
        try:
            return await worker.answer
        except asyncio.CancelledError:
            self._left(worker)
            raise
        finally:
            timer.cancel()
            self._line.pop(worker, None)
            if worker.waits:
                self._wakeups.leave()
            if self.idle and self._timer:
                self._timer.cancel()

    def wake(self) -> None:
        """Look again, since something happened; let nobody wait when that is the server's end."""
        self._stale = True
        if self._wakeups.stopping:
            for worker in list(self._line):
                self._time_is_up(worker)
        if self._task is None:
            self._task = self._loop.create_task(self._look_on())

    async def _look_on(self) -> None:
        while self._stale and self._line:
            async with self._turns.of(self._topic):  # with those who have come by then
                self._stale = False
                if self._timer:
                    self._timer.cancel()
                before = list(self._line)
                self._asking = _first(before)
                if not self._asking:  # they are leaving
                    break
                look = self._look([one.wanted for one in self._asking])
                await asyncio.wait([look], timeout=_TURN)
            self._tell(before, await look)
        self._task = None

    def _tell(self, before: Sequence[_Worker], found: Sequence[Found]) -> None:
        """Answer those for whom there is one, which may be all who came before the look."""
        asking, self._asking = self._asking, []
        nothing = None
        for worker, one in zip(asking, found, strict=True):
            if isinstance(one, Leased) and one.lease is None:
                nothing = one
            else:
                self._end(worker, one)
                self._vain = 0
        if self._line:  # else others may wait by now
            acts = [one.act for one in found if isinstance(one, Leased) and one.act]
            self._wakeups.saw(self._work, max(acts, default=0))
        if nothing:
            self._rest(before, nothing.due_seconds)
            return
        self._stale = True  # there may be more
        last = found[-1]
        if isinstance(last, Unavailable) and last.outcome == "none":  # it is so for all
            for worker in before:
                self._end(worker, last)

    def _rest(self, before: Sequence[_Worker], due: float | None) -> None:
        """Let all who came before the look wait, or go: there was nothing, and will be something when it is due."""
        now = self._loop.time()
        patience = _MORE if due == 0 else 0.0
        for worker in before:
            if self._wakeups.stopping or now >= worker.until + patience:
                self._end(worker, _NOTHING)
            elif due != 0 and not worker.waits and worker in self._line:
                self._begin_to_wait(worker)
        self._vain = self._vain + 1 if due == 0 else 0
        if due == 0 and self._vain < _AT_ONCE:
            self._stale = True
        elif due is not None and self._line:
            self._timer = self._loop.call_later(due + _EARLY if due else _PAUSE, self.wake)

    def _begin_to_wait(self, worker: _Worker) -> None:
        try:
            self._wakeups.enter()
            worker.waits = True
        except Unavailable as full:
            self._end(worker, full)

    def _time_is_up(self, worker: _Worker) -> None:
        worker.until = self._loop.time()
        if worker.waits and worker not in self._asking:  # else the look ends its wait
            self._end(worker, _NOTHING)

    def _end(self, worker: _Worker, outcome: Found) -> None:
        self._line.pop(worker, None)
        if not worker.answer.done():
            if isinstance(outcome, Exception):
                worker.answer.set_exception(outcome)
            else:
                worker.answer.set_result(outcome)
        elif isinstance(outcome, Leased) and outcome.lease:  # its caller has left meanwhile
            self._give_back(outcome.lease)

    def _left(self, worker: _Worker) -> None:
        """See to a caller that left, be it at the very moment of its answer."""
        answer = worker.answer
        if not answer.cancelled() and not answer.exception() and (lease := answer.result().lease):
            self._give_back(lease)


def _first(line: Sequence[_Worker]) -> list[_Worker]:
    """Return those in front for whom a look may be made together, without those who are leaving."""
    first: list[_Worker] = []
    size = 0
    for worker in line:
        if worker.answer.done():
            continue
        limit = worker.wanted.limit
        size += limit if limit <= _FEW else 1
        if first and size > _MOST:
            break
        first.append(worker)
    return first
