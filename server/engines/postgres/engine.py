"""The engine on PostgreSQL: one SQL function a verb, one statement and one round trip a call."""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from typing import Any

import psycopg2

from server.engines import (
    Ack,
    Acked,
    Batch,
    Fetch,
    Fetched,
    Health,
    Lag,
    Published,
    WorkSettings,
)
from server.engines.errors import Unavailable
from server.engines.postgres.calls import columns
from server.engines.postgres.connecting import connect
from server.engines.postgres.failures import problem
from server.engines.postgres.joining import joined, parted, runs
from server.engines.postgres.objects import SETTINGS, SUBSCRIBED, SUBSCRIBER, TOPIC
from server.engines.postgres.pool import Pool
from server.engines.postgres.work import BRIEFLY, Work

CHANNEL = "queue_topics"
_HEARTBEAT = 0.25
_MOST_BYTES = 8 * 2**20  # that a fetch reads


class PostgresEngine(Work):
    """The queue in a PostgreSQL database; any number of engines may share one."""

    def __init__(self, dsn: str, *, pool_size: int = 16, patience: float = 5.0) -> None:
        """Open nothing yet. `patience` is how long, in seconds, a call waits for a free connection."""
        super().__init__(dsn, pool_size, patience)
        self._dsn = dsn
        self._announcer = Pool(dsn, 1, patience, synchronous_commit="off")
        self._announcing = 0  # its process in the database: we need not hear what we said

    async def create_topic(self, topic: str, description: str | None) -> str:
        """Make a topic; return it."""
        sql = f"select {TOPIC} from queue.create_topic(%s, %s) t"
        return str((await self._write(sql, topic, description))[0])

    async def topics(self, after: str | None, limit: int) -> str:
        """Return a page of topics, without the brackets."""
        sql = f"select coalesce(string_agg({TOPIC}, ',' order by t.topic), '') from queue.list_topics(%s, %s) t"
        return str((await self._rows(sql, [after, limit], writes=False))[0][0])

    async def topic(self, topic: str) -> str:
        """Return one topic."""
        return str((await self._read(f"select {TOPIC} from queue.get_topic(%s) t", topic))[0])

    async def delete_topic(self, topic: str) -> None:
        """Remove a topic with its messages and subscribers."""
        await self._write("select queue.delete_topic(%s)", topic)

    async def publish(self, topic: str, batches: Sequence[Batch]) -> list[Published]:
        """Append batches in one transaction: all of them or none."""
        parts = runs(batches)
        rows = ", ".join(
            f"({n}, %s::json, %s::text[], %s::json, %s, %s::bigint)" for n in range(len(parts))
        )
        sql = f"""select p.* from (values {rows}) b(n, payloads, keys, headers, producer, sequence),
                  queue.publish_batch(%s, b.payloads, b.keys, b.headers, b.producer, b.sequence) p order by b.n"""
        values: list[Any] = []
        for one in map(joined, parts):
            values += (one.payloads, one.keys, one.headers, one.producer, one.sequence)
        stored = await self._rows(sql, [*values, topic], (topic, "write"), writes=True)
        answers = zip(parts, stored, strict=True)
        return [one for run, row in answers for one in parted(run, Published(*row))]

    async def browse(self, topic: str, offset: int | None, limit: int) -> Fetched:
        """Read without a subscriber."""
        sql = "select floor, 0, head, messages from queue.browse_json(%s, %s, %s)"
        return Fetched(*await self._read(sql, topic, offset, limit))

    async def subscribe(
        self,
        topic: str,
        subscriber: str | None,
        start: str | int | datetime,
        settings: WorkSettings | None = None,
    ) -> tuple[str, bool]:
        """Make or find a subscriber; return it and whether it is new."""
        sql = f"""select {SUBSCRIBED}, r.created
                  from queue.subscribe(%s, %s, %s, %s::bigint, %s::timestamptz, %s, %s, %s, %s) r,
                       lateral (select (r.subscriber).*) s"""
        word = start if isinstance(start, str) else None
        offset = start if isinstance(start, int) else None
        timestamp = start if isinstance(start, datetime) else None
        given = settings or WorkSettings()
        row = await self._write(sql, topic, subscriber, word, offset, timestamp, *given)
        return str(row[0]), bool(row[1])

    async def subscribers(self, topic: str, after: str | None, limit: int) -> str:
        """Return a page of subscribers, without the brackets."""
        sql = f"""select coalesce(string_agg({SUBSCRIBER}, ',' order by s.subscriber), '')
                  from queue.list_subscribers(%s, %s, %s) s, {SETTINGS}"""
        return str((await self._read(sql, topic, after, limit))[0])

    async def subscriber(self, topic: str, subscriber: str) -> str:
        """Return one subscriber."""
        sql = f"select {SUBSCRIBER} from queue.get_subscriber(%s, %s) s, {SETTINGS}"
        return str((await self._read(sql, topic, subscriber))[0])

    async def unsubscribe(self, topic: str, subscriber: str) -> None:
        """Remove a subscriber."""
        await self._write("select queue.unsubscribe(%s, %s)", topic, subscriber)

    async def fetch(self, topic: str, fetches: Sequence[Fetch]) -> list[Fetched]:
        """Read for several subscribers, in no more bytes than for one, but at least one message each: one snapshot."""
        sql = """select f.* from unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[])
                      with ordinality b(subscriber, "limit", after, epoch, n),
                  queue.fetch_json(%s, b.subscriber, b."limit", b.after, %s, b.epoch) f order by b.n"""
        values = [*columns(fetches), topic, _MOST_BYTES // len(fetches)]
        found = await self._rows(sql, values, (topic, "read"), writes=False)
        return [Fetched(*row) for row in found]

    async def ack(self, topic: str, acks: Sequence[Ack]) -> list[Acked]:
        """Move positions forward in one transaction: all of them or none.

        Several together wait only briefly for a position that somebody holds: all the others can be moved without it.
        """
        if len(acks) == 1:
            sql = "select * from queue.ack(%s, %s, %s, %s)"
            return [Acked(*await self._move(sql, topic, *acks[0]))]
        # in one order, whoever acknowledges: two transactions that wait for one another would both be stuck
        order = sorted(range(len(acks)), key=lambda n: acks[n].subscriber)
        sql = f"""select a.* from unnest(%s::text[], %s::bigint[], %s::bigint[])
                      with ordinality b(subscriber, "offset", epoch, n),
                  queue.ack(%s, b.subscriber, b."offset", case when {BRIEFLY} then b.epoch end) a order by b.n"""
        values = [*columns([acks[n] for n in order]), topic]
        found = await self._rows(sql, values, (topic, "move"), writes=True)
        return [Acked(*row) for _, row in sorted(zip(order, found, strict=True))]

    async def seek(
        self,
        topic: str,
        subscriber: str,
        offset: int | None,
        timestamp: datetime | None,
        dry_run: bool,
    ) -> str:
        """Move one subscriber; return it."""
        sql = f"""select {SUBSCRIBER}
                  from queue.seek(%s, %s, %s::bigint, %s::timestamptz, %s) s, {SETTINGS}"""
        values = [topic, subscriber, offset, timestamp, dry_run]
        return str((await self._rows(sql, values, (topic, "move"), writes=not dry_run))[0][0])

    async def reset(
        self, topic: str, offset: int | None, timestamp: datetime | None, dry_run: bool
    ) -> tuple[int, int]:
        """Move all subscribers of a topic; return the position and how many they are."""
        sql = "select * from queue.reset(%s, %s::bigint, %s::timestamptz, %s)"
        values = [topic, offset, timestamp, dry_run]
        (found,) = await self._rows(sql, values, (topic, "write"), writes=not dry_run)
        return found[0], found[1]

    async def heads(self, topics: list[str]) -> dict[str, int]:
        """Return the heads of those topics that exist."""
        return dict(await self._rows("select * from queue.heads(%s)", [topics], writes=False))

    async def lags(self) -> tuple[list[Lag], int]:
        """Return the subscribers' lags, those furthest behind, and how many were left out."""
        found = await self._rows("select * from queue.lags()", [], writes=False)
        lags = [Lag(*row) for row in found]
        ((count,),) = await self._rows("select queue.count_subscribers()", [], writes=False)
        return lags, max(0, count - len(lags))

    async def tidy(self) -> int:
        """Remove a chunk of what nobody needs any more; return how many rows."""
        return int((await self._rows("select queue.tidy()", [], writes=True))[0][0])

    async def health(self) -> Health:
        """Say whether the database answers and keeps its promises."""
        sql = """select name, setting from pg_settings
                 where name in ('server_version', 'fsync', 'full_page_writes', 'synchronous_commit')"""
        found: dict[str, str] = dict(await self._rows(sql, [], writes=False))
        name = f"PostgreSQL {found.pop('server_version')}"
        return Health(name, sorted(name for name in found if found[name] == "off"))

    async def announce(self, names: list[str]) -> None:
        """Tell every server of this database that something happened under these names.

        On a session of its own, after the publish has committed: a NOTIFY inside the transaction would hold one lock
        for the whole instance over the commit's fsync. Nothing is lost with a notice, so it waits for no disk either.
        """
        sql = f"select pg_notify('{CHANNEL}', n) from unnest(%s::text[]) n"
        session = await self._announcer.take()
        try:
            self._announcing = session.backend
            await session.run(sql, [names])
        except psycopg2.Error as error:
            raise problem(error, writes=False) from error
        finally:
            self._announcer.give_back(session)

    async def listen(self) -> AsyncIterator[set[str]]:
        """Yield names as others announce them, and none now and then; raise when cut off."""
        turns = self._pool.turns
        with ExitStack() as opened:
            try:
                session = opened.enter_context(closing(await connect(self._dsn)))
                await session.execute(f"listen {CHANNEL}")
                while self._pool.turns == turns:
                    heard = await session.heard(_HEARTBEAT)
                    yield {notice.payload for notice in heard if notice.pid != self._announcing}
            except psycopg2.Error as error:
                raise Unavailable(str(error).strip().replace("\n", " ")) from error
        raise Unavailable("the database was read only: it may have moved")

    async def close(self) -> None:
        """Close every connection: those that are idle now, the others when they are given back."""
        await self._pool.close()
        await self._announcer.close()
