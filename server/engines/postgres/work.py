"""What workers ask for: leases and what becomes of them, dead letters, settings."""

import json
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from server.engines import (
    Lease,
    LeaseAck,
    LeaseAcked,
    Leased,
    Nack,
    Nacked,
    Workload,
    WorkSettings,
)
from server.engines.errors import Unavailable
from server.engines.postgres.calls import Calls, columns
from server.engines.postgres.objects import SUBSCRIBER, rfc3339

BRIEFLY = "set_config('lock_timeout', '200ms', true) <> ''"  # true; for this transaction alone


def _grouped(acks: Sequence[LeaseAck]) -> str:
    groups = [list(group) for _, group in groupby(acks, key=attrgetter("subscriber"))]
    return json.dumps(
        [
            {
                "subscriber": group[0].subscriber,
                "leases": [one.lease for one in group],
                "offsets": [one.offsets for one in group],
            }
            for group in groups
        ]
    )


class Work(Calls):
    """The verbs of workers."""

    async def lease(self, topic: str, leases: Sequence[Lease]) -> list[Leased]:
        """Lease messages to workers of one subscriber, in no more bytes than for one, but at least one message each.

        Nobody waits for the disk: a lease that is lost in a crash was none, and its messages are leased again.
        """
        (subscriber,) = {one.subscriber for one in leases}
        sql = f"""select l.lease, {rfc3339("l.expires_at")}, l.messages, l.due_seconds,
                         split_part(l.lease, '-', 1)::bigint
                  from queue.lease_json(%s, %s, %s::text[], %s::int[], %s::float8[], false) with ordinality l
                  order by l.ordinality"""
        _, workers, limits, seconds = columns(leases)
        values = [topic, subscriber, workers, limits, seconds]
        try:
            found = await self._rows(sql, values, (topic, "work"), writes=True)
        except Unavailable as error:
            if error.outcome == "unknown":
                said = f"{error.detail}; then its messages are out until they expire"
                raise Unavailable(said, outcome="unknown") from error
            raise
        return [Leased(*row) for row in found]

    async def ack_leases(self, topic: str, acks: Sequence[LeaseAck]) -> list[LeaseAcked]:
        """Say of messages of leases that they are done, in one transaction: all of them or none.

        Several together wait only briefly for a lease that somebody holds: all the others can do without it.
        """
        if len(acks) == 1:
            sql = """select a.*, s.ordered from (values (%s, %s)) t(topic, subscriber),
                     queue.ack_leases(t.topic, t.subscriber, array[%s], %s::json) a,
                     queue.settings(t.topic, t.subscriber) s"""
            subscriber, lease, offsets = acks[0]
            done = await self._move(sql, topic, subscriber, lease, json.dumps([offsets]))
            return [LeaseAcked(*done)]
        # in one order, whoever acknowledges: two transactions that wait for one another would both be stuck
        order = sorted(range(len(acks)), key=lambda n: acks[n].subscriber)
        sql = f"""select a.acked, a."position", a.epoch, a.head, a.lag, s.ordered
                  from rows from (json_to_recordset(%s::json) as (subscriber text, leases text[], offsets json))
                       with ordinality b(subscriber, leases, offsets, n),
                  (values (%s)) t(topic),
                  queue.ack_leases(t.topic, b.subscriber, case when {BRIEFLY} then b.leases end, b.offsets)
                       with ordinality a,
                  queue.settings(t.topic, b.subscriber) s
                  order by b.n, a.ordinality"""
        values = [_grouped([acks[n] for n in order]), topic]
        found = await self._rows(sql, values, (topic, "move"), writes=True)
        return [LeaseAcked(*row) for _, row in sorted(zip(order, found, strict=True))]

    async def nack(self, topic: str, nack: Nack) -> Nacked:
        """Give messages of a lease back. As with a lease, nobody waits for the disk."""
        sql = "select * from queue.nack(%s, %s, %s, %s::bigint[], %s, %s, %s, false)"
        return Nacked(*await self._work(sql, topic, *nack))

    async def extend(self, topic: str, subscriber: str, lease: str, seconds: float) -> str:
        """Hold what is left of a lease for longer; return until when. As with a lease, nobody waits for the disk."""
        sql = f"select {rfc3339('e')} from queue.extend(%s, %s, %s, %s, false) e"
        return str((await self._work(sql, topic, subscriber, lease, seconds))[0])

    async def leases(self, topic: str, subscriber: str, after: int | None, limit: int) -> str:
        """Return a page of leases, without the brackets."""
        sql = "select queue.leases_json(%s, %s, %s, %s)"
        return str((await self._read(sql, topic, subscriber, after, limit))[0])

    async def dead(self, topic: str, subscriber: str, after: int | None, limit: int) -> str:
        """Return a page of dead letters, without the brackets."""
        sql = "select queue.dead_json(%s, %s, %s, %s)"
        return str((await self._read(sql, topic, subscriber, after, limit))[0])

    async def redrive(
        self, topic: str, subscriber: str, offsets: list[int] | None, limit: int
    ) -> int:
        """Give dead letters to the workers again; return how many."""
        sql = "select queue.redrive(%s, %s, %s::bigint[], %s)"
        return int((await self._work(sql, topic, subscriber, offsets, limit))[0])

    async def remove_dead(
        self, topic: str, subscriber: str, offsets: list[int] | None, limit: int
    ) -> int:
        """Remove dead letters for good; return how many."""
        sql = "select queue.remove_dead(%s, %s, %s::bigint[], %s)"
        return int((await self._work(sql, topic, subscriber, offsets, limit))[0])

    async def configure(self, topic: str, subscriber: str, settings: WorkSettings) -> str:
        """Change settings of a subscriber, those that are given; return it."""
        sql = f"""with given(topic, subscriber) as (values (%s, %s))
                  select {SUBSCRIBER}
                  from given g, queue.configure(g.topic, g.subscriber, %s, %s, %s, %s) c,
                       queue.get_subscriber(g.topic, g.subscriber) s"""
        return str((await self._work(sql, topic, subscriber, *settings))[0])

    async def acts(self, works: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, int]]:
        """Return epoch and newest act of the workers of those topics and subscribers that exist."""
        sql = "select * from queue.acts(%s::text[], %s::text[])"
        found = await self._rows(sql, columns(works), writes=False)
        return {(topic, subscriber): (epoch, act) for topic, subscriber, epoch, act in found}

    async def workloads(self) -> list[Workload]:
        """Return what the workers of each subscriber that has, or had, any are at."""
        found = await self._rows("select * from queue.workloads()", [], writes=False)
        return [Workload(*row) for row in found]
