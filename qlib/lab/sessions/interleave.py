"""Every order in which the statements of a few sessions can meet, tried one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import chain
from typing import Any

from tqdm import tqdm

from qlib.lab.database.query import Table, sql
from qlib.lab.sessions.session import Session
from qlib.lab.sessions.steps import Rows, SessionError, Waiting
from qlib.lab.sessions.strategy import in_scratch, scratch

Statement = str | Callable[[Session], object]

_SETUP = "select queue.create_topic('orders'); select queue.subscribe('orders', 'kitchen')"

# Deleting a few rows is four times as fast as truncating the tables.
_CLEANING = """
select string_agg(statement, '; ') from (
    select format('delete from %s', c.oid::regclass) from pg_class c
    where c.relkind = 'r' and c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
    union all
    select format('select setval(%L, %s, false)', s.seqrelid::regclass, s.seqstart)
    from pg_sequence s) as cleaning (statement)
"""


class _Bar(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # or it leaves a thread behind


@dataclass(frozen=True)
class Outcome:
    """What came of one order, for the judge.

    `results` has for each session a list with the result of each statement: its rows, or None, as
    `Session.run` returns them, or the SessionError when it failed; of a function what it returned.
    """

    results: dict[str, list[Any]]
    _stage: Session

    def sql(self, text: str, *values: object) -> Rows | None:
        """Run a statement when the sessions are through, and return its rows, as `Session.run`."""
        rows = self._stage.run(text, *values)
        if isinstance(rows, Waiting):
            raise RuntimeError(f"{rows}, where nobody should keep it waiting")
        return rows


class Interleaving:
    """What came of all orders.

    `table` has a row for each: the order in words, whether a statement had to wait, whether one
    failed, and whether the promise was kept. `orders`, `waited`, `failed` and `broken` count them.
    `shortest` is the order that broke the promise with the fewest changes from one session to
    another, in words; "" when none did.
    """

    def __init__(self, plays: Sequence[_Play]) -> None:
        rows = [(", ".join(play.words), play.waited, play.failed, play.kept) for play in plays]
        self.table = Table(rows, columns=["order", "waited", "failed", "kept"])
        self.orders = len(plays)
        self.waited = sum(play.waited for play in plays)
        self.failed = sum(play.failed for play in plays)
        broken = [play for play in plays if not play.kept]
        self.broken = len(broken)
        self._steps = min(broken, key=lambda play: play.turns).words if broken else []
        self.shortest = ", ".join(self._steps)

    def __repr__(self) -> str:
        """Return the counts, and the shortest order that broke the promise."""
        return "\n".join([self._counts(), *(f"  {step}" for step in self._steps)])

    def _repr_html_(self) -> str:
        steps = "".join(f"<li>{escape(step)}</li>" for step in self._steps)
        return f"<p>{self._counts()}</p>" + (f"<ol>{steps}</ol>" if steps else "")

    def _counts(self) -> str:
        broken = f"{self.broken} of {self.orders} orders broke the promise"
        waited = f"a statement had to wait in {self.waited}, failed in {self.failed}"
        return f"{broken}; {waited}." + (" The shortest:" if self.broken else "")


def interleave(
    sessions: Mapping[str, Sequence[Statement]],
    judge: Callable[[Outcome], object],
    setup: str = _SETUP,
) -> Interleaving:
    """Run the statements of some sessions in every order, and let `judge` say if all went well.

    Each session keeps the order of its own statements. A statement is SQL text, also "commit" or
    "rollback", or a function that takes the `Session` and may run several as one step. A statement
    that has to wait is left waiting and the others go on; what its session has to say next follows
    as soon as it is free again. What is open when nothing is left to do is rolled back. A statement
    that fails is a result too, and `judge` returns something true when the promise was kept.

    Every order starts from an empty queue and `setup`: SQL that by default makes the topic `orders`
    and its subscriber `kitchen`; tables of its own it makes `if not exists`. It happens in a
    database of its own, or in that of the `strategy` around it, of which nothing is kept. Raises
    what `setup`, `judge` or a function raises, and RuntimeError when a session waits for somebody
    else.
    """
    plays = []
    with ExitStack() as opened:
        if not in_scratch():
            opened.enter_context(scratch())
        stage = opened.enter_context(Session("stage"))
        cast = {name: opened.enter_context(Session(name)) for name in sessions}
        for one in [stage, *cast.values()]:
            one.run("set synchronous_commit = off")  # no order is judged by what a crash leaves
            one.commit()
        clean = cleaning(stage, setup)
        every = list(orders({name: len(script) for name, script in sessions.items()}))
        for order in _Bar(every, "orders", leave=False, disable=None):
            play = _Play(cast, sessions)
            after = Outcome(play.results, stage)
            after.sql(clean)
            stage.commit()
            play.perform(order)
            play.kept = bool(judge(after))
            stage.rollback()
            plays.append(play)
    return Interleaving(plays)


def cleaning(stage: Session, setup: str) -> str:
    """Empty the database and set it up; return the SQL that does so, with the tables of `setup`."""

    def clean() -> str:
        return f"{sql(_CLEANING).iat[0, 0]!s}; {setup}"

    stage.run(clean())
    stage.commit()
    return clean()


def orders(left: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    """Yield every order in which each name comes as often as it has something left to do."""
    if not any(left.values()):
        yield ()
    for name in [name for name, times in left.items() if times]:
        for rest in orders({**left, name: left[name] - 1}):
            yield (name, *rest)


class _Play:
    """One order, performed."""

    def __init__(
        self, cast: dict[str, Session], scripts: Mapping[str, Sequence[Statement]]
    ) -> None:
        self.results: dict[str, list[Any]] = {name: [] for name in cast}
        self.kept = False
        self._cast = cast
        self._scripts = scripts

    def perform(self, order: Sequence[str]) -> None:
        for session in self._cast.values():
            session.events.clear()
        left = list(order)
        while left or any(s.waiting or not s.idle for s in self._cast.values()):
            free = next((name for name in left if not self._cast[name].waiting), None)
            if free:
                left.remove(free)
                self._step(free)
            else:
                self._roll_back()
            while any([self._heard(name) for name, s in self._cast.items() if s.waiting]):
                pass  # a failure lets others go on
        self._tell()

    def _step(self, name: str) -> None:
        statement = self._scripts[name][len(self.results[name])]
        session = self._cast[name]
        if isinstance(statement, str):
            self._heard(name, partial(session.run, statement))
        else:
            what = getattr(statement, "__name__", repr(statement))
            self._heard(name, partial(session.step, what, partial(statement, session)))

    def _heard(self, name: str, ask: Callable[[], object] | None = None) -> bool:
        """Note what there is to tell; say whether there was."""
        try:
            result = (ask or self._cast[name].result)()
        except SessionError as error:
            result = error
        if not isinstance(result, Waiting):
            self.results[name].append(result)
        return not isinstance(result, Waiting)

    def _roll_back(self) -> None:
        """End those who have nothing left to do, and for whom everybody else waits."""
        done = [s for s in self._cast.values() if not s.waiting and not s.idle]
        if not done:
            waiting = " and ".join(name for name, s in self._cast.items() if s.waiting)
            raise RuntimeError(f"{waiting} wait for somebody who is not part of this")
        for session in done:
            session.rollback()

    def _tell(self) -> None:
        told = [(e.started, name, e) for name, s in self._cast.items() for e in s.events]
        told.sort(key=lambda one: one[0])
        names = [name for _, name, _ in told]
        self.turns = sum(a != b for a, b in zip(names, names[1:], strict=False))
        self.words = [f"{name} {event}" for _, name, event in told]
        self.waited = any(event.waited_for for *_, event in told)
        results = chain.from_iterable(self.results.values())
        self.failed = any(isinstance(result, SessionError) for result in results)
