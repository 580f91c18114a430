"""Lines: calls that come at the same time are carried out together, each answered as if it were alone.

Whoever comes first goes at once, with those who have come by then; those who come meanwhile go together next, in the
order of their arrival. Every call has a holder, what it must have for itself. A holder is in one group at a time, so
one that a stuck session keeps harms no other for long.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, groupby
from typing import Generic, TypeVar

from server.engines.errors import Busy, EngineError, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 64  # calls in a group, and
_SIZE = 1024 * 1024  # their size together, but one call in any case
_SOON = 0.02  # seconds after which a group keeps only its own holders waiting


class _Call(Generic[Item, Result]):
    def __init__(self, item: Item, holder: str, size: int) -> None:
        self.item = item
        self.holder = holder
        self.size = size
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def end(self, outcome: Result | Exception) -> None:
        if self.answer.done():
            return  # its caller has left
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class _Line(Generic[Item, Result]):
    """Who waits for a topic, in the order of arrival, and which holders are in a group.

    `lead` is there while a group keeps all others waiting: the timer that ends that.
    """

    def __init__(self) -> None:
        self.waiting: dict[_Call[Item, Result], None] = {}
        self.held = Counter[str]()
        self.lead: asyncio.TimerHandle | None = None

    def take(self) -> list[_Call[Item, Result]]:
        """Take those who may go together."""
        calls: list[_Call[Item, Result]] = []
        size = 0
        for call in self.waiting:
            if call.holder in self.held or call.answer.done():  # or its caller is leaving
                continue
            if calls and (len(calls) >= _MOST or size + call.size > _SIZE):
                break
            calls.append(call)
            size += call.size
        for call in calls:
            del self.waiting[call]
            self.held[call.holder] += 1
        return calls

    def let_go(self, calls: Sequence[_Call[Item, Result]]) -> None:
        for call in calls:
            self.held[call.holder] -= 1
            if not self.held[call.holder]:
                del self.held[call.holder]


class Lines(Generic[Item, Result]):
    """One kind of calls, in a line for each topic that somebody calls for.

    `act` carries several calls of a topic out in one transaction, all or none of them.
    """

    def __init__(
        self,
        act: Callable[[str, Sequence[Item]], Awaitable[list[Result]]],
        holder: Callable[[Item], str],
        size: Callable[[Item], int],
        patience: float,
    ) -> None:
        """Make no line yet."""
        self._act = act
        self._holder = holder
        self._size = size
        self._patience = patience
        self._lines: dict[str, _Line[Item, Result]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # a loop does not keep them itself

    async def call(self, topic: str, item: Item) -> Result:
        """Carry a call out, together with others."""
        call = _Call[Item, Result](item, self._holder(item), self._size(item))
        line = self._lines.setdefault(topic, _Line())
        line.waiting[call] = None
        if line.lead is None and call.holder not in line.held:
            self._begin(topic, line)
        timer = asyncio.get_running_loop().call_later(self._patience, self._give_up, line, call)
        try:
            return await call.answer
        finally:
            timer.cancel()
            line.waiting.pop(call, None)

    def _give_up(self, line: _Line[Item, Result], call: _Call[Item, Result]) -> None:
        if call in line.waiting:  # nobody has taken it, and now nobody will
            del line.waiting[call]
            call.end(Unavailable("its turn did not come in time: too many wait for the same"))

    def _begin(self, topic: str, line: _Line[Item, Result]) -> None:
        loop = asyncio.get_running_loop()
        line.lead = loop.call_later(_SOON, self._pass_on, topic, line)
        task = loop.create_task(self._go(topic, line, line.lead))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go(self, topic: str, line: _Line[Item, Result], lead: asyncio.TimerHandle) -> None:
        # with those who came while this task began
        await self._carry_out(topic, line, line.take(), lead)

    async def _carry_out(
        self,
        topic: str,
        line: _Line[Item, Result],
        calls: Sequence[_Call[Item, Result]],
        lead: asyncio.TimerHandle | None = None,
        failed: Unavailable | None = None,
    ) -> Unavailable | None:
        """Carry calls out together, or in parts when that fails because of one; answer each.

        Unless what came before has `failed`: nothing is sent then. Return why the next ones would fail, too.
        """
        outcomes = [failed] * len(calls) if failed else await self._outcomes(topic, calls)
        parts = _parts(calls, outcomes)
        if not parts:
            line.let_go(calls)
        if lead is not None:
            lead.cancel()
        if line.lead is lead or line.lead is None:
            self._pass_on(topic, line)  # first, since answers can wait
        if parts and parts[0][0].holder != parts[1][0].holder:
            await asyncio.gather(*(self._carry_out(topic, line, part) for part in parts))
            return None
        for part in parts:
            failed = await self._carry_out(topic, line, part, failed=failed)
        if parts:
            return failed
        for call, outcome in zip(calls, outcomes, strict=True):
            call.end(outcome)
        return _of_all(outcomes)

    def _pass_on(self, topic: str, line: _Line[Item, Result]) -> None:
        line.lead = None
        if any(call.holder not in line.held for call in line.waiting):
            self._begin(topic, line)
        elif not (line.waiting or line.held) and self._lines.get(topic) is line:
            del self._lines[topic]

    async def _outcomes(
        self, topic: str, calls: Sequence[_Call[Item, Result]]
    ) -> Sequence[Result | Exception]:
        if not calls:  # they left while the task began
            return []
        try:
            results = await self._act(topic, [call.item for call in calls])
            if len(results) != len(calls):
                raise RuntimeError(f"{len(results)} answers to {len(calls)} calls")
            return results
        except Exception as error:  # whatever it is, nobody may wait for ever
            return [error] * len(calls)


def _holder(call: _Call[Item, Result]) -> str:
    return call.holder


def _parts(
    calls: Sequence[_Call[Item, Result]], outcomes: Sequence[Result | Exception]
) -> Sequence[Sequence[_Call[Item, Result]]]:
    """Return the parts to try again when one of a group is the reason that nothing happened, else none."""
    error = outcomes[0] if outcomes else None
    if not isinstance(error, EngineError) or error.outcome == "unknown":
        return []
    holders = [list(part) for _, part in groupby(sorted(calls, key=_holder), key=_holder)]
    if isinstance(error, Busy):
        # at the same time: the one that is busy may keep only itself
        return holders if len(holders) > 1 else []
    if isinstance(error, Unavailable) or len(calls) == 1:
        return []  # full or gone: it is so for all of them
    units = holders if len(holders) > 1 else [[call] for call in calls]
    middle = len(units) // 2
    return [list(chain.from_iterable(half)) for half in (units[:middle], units[middle:])]


def _of_all(outcomes: Sequence[object]) -> Unavailable | None:
    """Return the error for calls of the same holder that were not sent, since these were in vain."""
    error = outcomes[0] if outcomes else None
    if isinstance(error, Unavailable) and error.outcome == "unknown":
        return Unavailable("what came before it was lost")
    return error if isinstance(error, Unavailable) else None
