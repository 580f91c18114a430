"""A worker that is killed after each of its statements in turn, and started again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from inspect import signature

from qlib.lab.database.query import Table
from qlib.lab.sessions.interleave import Outcome, cleaning
from qlib.lab.sessions.session import Session
from qlib.lab.sessions.steps import Rows, Waiting
from qlib.lab.sessions.strategy import in_scratch, scratch

_MOST = 1_000  # statements of a worker, which may go round in a circle


def crash_points(worker: Callable[..., object], count: str, setup: str) -> Table:
    """Kill a worker after each of its statements, start it again, and count what came of it.

    `worker` is a function that does what there is to do and returns. Its parameters name the
    sessions that it gets: connections of one program, each with a transaction of its own. It is
    killed before its first statement, in another try after that, then after the second one, until
    it comes to its end; there it is killed too. All its connections end at once, and what was not
    committed is rolled back. Then it is started again, and lives. `count` is a query for one
    number: what came of both lives. Returns a row for each try: what the worker was `killed after`,
    and the number, under the name that `count` gives to it.

    Every try starts from an empty queue and `setup`: SQL that makes topics, subscribers, messages
    and, `if not exists`, tables. It happens in a database of its own, or in that of the `strategy`
    around it, of which nothing is kept. Raises what the worker raises; RuntimeError when it has to
    wait, for itself, or does not end.
    """
    rows: list[tuple[str, object]] = []
    with ExitStack() as opened:
        if not in_scratch():
            opened.enter_context(scratch())
        stage = opened.enter_context(Session("stage"))
        stage.run("set synchronous_commit = off")  # nothing is judged by what its crash leaves
        stage.commit()
        after = Outcome({}, stage)
        clean = cleaning(stage, setup)
        heirs = _cast(worker, opened)
        life = _Life(most=0)
        while not rows or life.killed:
            after.sql(clean)
            stage.commit()
            life = _killed_after(worker, len(rows))
            _to_its_end(worker, heirs)
            found = after.sql(count) or Rows([], [])
            stage.commit()
            rows.append((life.last, found[0][0]))
    return Table(rows, columns=["killed after", *found.columns])


class _Killed(BaseException):
    """No worker can catch its own end."""


class _Life:
    """What a worker did until its end, which comes after `most` statements, if not before."""

    def __init__(self, most: int) -> None:
        self.left = most
        self.last = "nothing"
        self.killed = False


class _Mortal(Session):
    """A session of a worker whose life may end."""

    life: _Life

    def run(self, statement: str, *values: object) -> Rows | Waiting | None:
        """Run a statement, if the worker lives."""
        if not self.life.left:
            raise _Killed
        self.life.left -= 1
        rows = super().run(statement, *values)
        if isinstance(rows, Waiting):
            raise RuntimeError(f"{rows}, and nobody else is there")
        self.life.last = f"{self.name} {self.events[-1].what}"
        return rows


def _cast(worker: Callable[..., object], opened: ExitStack) -> list[_Mortal]:
    return [opened.enter_context(_Mortal(name)) for name in signature(worker).parameters]


def _live(worker: Callable[..., object], cast: list[_Mortal], most: int) -> _Life:
    life = _Life(most)
    for session in cast:
        session.life = life
    try:
        worker(*cast)
    except _Killed:
        life.killed = True
    return life


def _killed_after(worker: Callable[..., object], statements: int) -> _Life:
    with ExitStack() as opened:
        cast = _cast(worker, opened)
        life = _live(worker, cast, statements)
        for session in cast:
            session.kill()
    return life


def _to_its_end(worker: Callable[..., object], cast: list[_Mortal]) -> None:
    life = _live(worker, cast, _MOST)
    if life.killed:
        raise RuntimeError(
            f"{worker.__name__} does not end: {_MOST} statements, and no end in sight"
        )
    for session in cast:
        session.rollback()
