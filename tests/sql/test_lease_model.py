"""Any history of leases, acks, nacks, moves and time that passes: the functions do what the model says."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.sql.lease_model import Held, Model, Refused
from tests.sql.session import Session, plant
from tests.sql.working import Crew, Lease, published

CLOCK = """
create table public.clock (time timestamptz not null);
insert into public.clock values ('2026-01-01 00:00:00+00');
create function public.clock() returns timestamptz language sql security definer set search_path = public
as 'select time from public.clock';
"""
FUNCTIONS = """
select pg_get_functiondef(oid) from pg_proc
where pronamespace = 'queue'::regnamespace and prosrc like '%clock_timestamp()%' and proname not like '%publish%'
"""
MESSAGES = 30
SEARCHED = settings(
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # to shrink a history takes minutes
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def timed(sql: Session) -> Session:
    """A session on a queue whose clock the test sets."""
    sql.rows(CLOCK)
    for (source,) in sql.rows(FUNCTIONS):
        sql.run(source.replace("clock_timestamp()", "public.clock()"))
    view = sql.value("select pg_get_viewdef('queue.leases'::regclass)")
    assert "statement_timestamp()" in view
    sql.run(
        f"create or replace view queue.leases as {view.replace('statement_timestamp()', 'public.clock()')}"
    )
    return sql


def history(
    session: Session, ordered: bool, max_attempts: int, steps: list[int]
) -> type[RuleBasedStateMachine]:
    """The machine that does anything to a topic of its own, in the database and in the model."""

    class History(RuleBasedStateMachine):
        topics = 0
        leases: list[tuple[Lease, Held]]

        @initialize(keys=st.text("ab-", min_size=MESSAGES, max_size=MESSAGES))  # fmt: skip
        def begin(self, keys: str) -> None:
            type(self).topics += 1
            topic = f"topic-{type(self).topics}"
            session.rows("select queue.create_topic(%s)", topic)
            published(session, MESSAGES, topic, keys)
            session.rows("select queue.subscribe(%s, 'kitchen', 'earliest', p_max_attempts => %s, p_ordered => %s)",
                         topic, max_attempts, ordered)  # fmt: skip
            session.run("update public.clock set time = '2026-01-01 00:00:00+00'")
            self.crew = Crew(session, topic)
            self.model = Model([None if key == "-" else key for key in keys], max_attempts, ordered)
            self.leases = []

        @rule(limit=st.sampled_from((1, 1, 2, 3, 5, 40)), seconds=st.sampled_from((5, 30, 30, 900)))
        def lease(self, limit: int, seconds: float) -> None:
            lease = self.crew.lease(limit, seconds)
            self.model.found_dead(self.dead())
            due = session.value(
                "select queue.next_due(%s, 'kitchen') <= public.clock()", self.crew.topic
            )
            # with order, a call may have parked all that it looked at, and wants to be made again
            if not (ordered and len(lease.offsets) < limit and due) or lease.offsets:
                held = self.model.leased(
                    lease.offsets,
                    lease.attempts,
                    limit if not (ordered and due) else len(lease.offsets),
                    seconds,
                )
                if lease.offsets:
                    self.leases.append((lease, held))

        @rule(which=st.integers(0, 99), part=st.sets(st.integers(0, 9), max_size=4))
        def ack(self, which: int, part: set[int]) -> None:
            self.settle(which, part, lambda held, asked: self.model.ack(held, asked),
                        lambda lease, asked: self.crew.ack(lease, *asked))  # fmt: skip

        @rule(which=st.integers(0, 99), part=st.sets(st.integers(0, 9), max_size=4),
              delay=st.sampled_from((0, 0, 7, 100)), untried=st.booleans())  # fmt: skip
        def nack(self, which: int, part: set[int], delay: float, untried: bool) -> None:
            self.settle(which, part, lambda held, asked: self.model.nack(held, asked, delay, untried),
                        lambda lease, asked: self.crew.nack(lease, *asked, delay=delay, untried=untried))  # fmt: skip

        @rule(which=st.integers(0, 99), seconds=st.sampled_from((1, 60)))
        def extend(self, which: int, seconds: float) -> None:
            self.settle(which, set(), lambda held, _: self.model.extend(held, seconds),
                        lambda lease, _: self.crew.extend(lease, seconds) and None)  # fmt: skip

        @rule(seconds=st.sampled_from((0.5, 3, 6, 31, 1000)))
        def wait(self, seconds: float) -> None:
            session.rows("update public.clock set time = time + make_interval(secs => %s)", seconds)
            self.model.time += seconds

        @rule(limit=st.integers(1, 3), seconds=st.sampled_from((5, 30)))
        def outlive(self, limit: int, seconds: float) -> None:
            """Have a lease extended, and be past its first end: by chance that seldom comes together."""
            self.lease(limit, seconds)
            self.extend(0, 60)
            self.wait(seconds + 1)

        @rule(back=st.integers(0, 8), chance=st.integers(0, 4))
        def move(self, back: int, chance: int) -> None:
            if chance == 0:
                position = max(0, self.model.position + 3 - back)
                session.rows(
                    "select queue.seek(%s, 'kitchen', %s)", self.crew.topic, min(position, MESSAGES)
                )
                self.model.seek(min(position, MESSAGES))

        @rule(ahead=st.integers(0, 3), chance=st.integers(0, 3))
        def plain_ack(self, ahead: int, chance: int) -> None:
            if (
                chance == 0 and not ordered
            ):  # with order, keys are freed later: test_35_a_plain_ack_frees_keys
                position = min(MESSAGES, self.model.position + ahead)
                self.crew.call("ack", position, self.crew.epoch)
                self.model.plain_ack(position)

        @rule(limit=st.integers(1, 5))
        def redrive(self, limit: int) -> None:
            self.sweep()
            assert self.crew.call("redrive", None, limit) == (self.model.redrive(limit),)

        @rule(chunk=st.sampled_from((3, 10_000)), chance=st.integers(0, 2))
        def tidy(self, chunk: int, chance: int) -> None:
            if chance == 0:
                session.rows("select queue.tidy(%s)", chunk)
                self.sweep()

        @invariant()
        def nothing_else_is_different(self) -> None:
            if not hasattr(self, "model"):
                return
            steps[0] += 1
            steps[1] += self.model.buried > 0
            position = self.crew.position
            assert position <= self.model.position
            live = {lease.act: held.rest for lease, held in self.leases
                    if held.epoch == self.model.epoch and self.model.live(held)}  # fmt: skip
            listed = session.rows("select lease, array(select o from unnest(offsets) u, "
                                  "generate_series(lower(u), upper(u) - 1) o) "
                                  "from queue.leases where topic = %s", self.crew.topic)  # fmt: skip
            over = {
                m.offset
                for m in self.model.messages.values()
                if m.offset <= position and not m.redriven
            }
            assert {act: set(offsets) for act, offsets in listed} == {
                act: rest - over for act, rest in live.items() if rest - over
            }

        def settle(self, which: int, part: set[int], expected: Callable[[Held, set[int] | None], Any],
                   call: Callable[[Lease, list[int]], Any]) -> None:  # fmt: skip
            """Do something to one of the leases, mostly to a late one, and to some of its messages, or all."""
            if not self.leases:
                return
            lease, held = self.leases[-1 - which % min(len(self.leases), 6)]
            asked = sorted({lease.offsets[n % len(lease.offsets)] for n in part})
            try:
                wanted = expected(held, set(asked) or None)
            except Refused as refused:
                wanted = refused.args[0]
            try:
                outcome = call(lease, asked)
            except psycopg2.Error as error:
                outcome = error.pgcode
            forgotten = held.until + 600 < self.model.time and outcome == "QL010"
            taken = held.until <= self.model.time and outcome == (
                0,
                0,
            )  # it was buried, say: there is nothing to give back
            assert outcome == wanted or forgotten or taken, (outcome, wanted)
            self.sweep()

        def sweep(self) -> None:
            self.model.found_dead(self.dead())

        def dead(self) -> set[tuple[int, int]]:
            """Return which messages are dead letters, and of which epoch."""
            letters = ('select "offset", epoch from queue.dead join queue.dead_letters '
                       'using (subscriber_id, "offset") where topic = %s')  # fmt: skip
            begun = self.crew.epoch - self.model.epoch
            return {
                (offset, epoch - begun) for offset, epoch in session.rows(letters, self.crew.topic)
            }

    return History


@contextmanager
def searched(
    session: Session, ordered: bool, max_attempts: int, examples: int = 40
) -> Iterator[list[int]]:
    steps = [0, 0]  # all, and those after somebody died
    chosen = settings(SEARCHED, max_examples=examples)
    run_state_machine_as_test(history(session, ordered, max_attempts, steps), settings=chosen)
    yield steps


@pytest.mark.parametrize("max_attempts", [1, 3])
@pytest.mark.parametrize("ordered", [False, True], ids=["any order", "ordered"])
def test_any_history(timed: Session, ordered: bool, max_attempts: int) -> None:
    with searched(timed, ordered, max_attempts) as steps:
        assert steps[0] > 1000 and (max_attempts > 1 or steps[1] > 20), steps


BUGS = {
    "an ack ignores expiry": ("queue.held", ('if expires_at <= "time" and', "if false and"), False),
    "a lease ignores extensions": ("queue.take_up", ("when x.expires_at > p_time then", "when false then"), False),
    "a cursor that is not kept": (
        "queue.lease_many", ("v_state.cursor_offset := v_from;", "v_state.cursor_offset := 0;"), False),
    "a follower of a key is let through": (
        "queue.pass_over", ('or queue.is_over(p_id, p_epoch, p_position, t."offset") as free', "or true as free"),
        True),
}  # fmt: skip


@pytest.mark.parametrize("bug", BUGS)
def test_control_a_planted_bug_is_caught(timed: Session, bug: str) -> None:
    function, change, ordered = BUGS[bug]
    plant(timed, function, change)
    with (
        pytest.raises(AssertionError),
        searched(timed, ordered, 3, 400),
    ):  # the first one that fails ends it
        pass
