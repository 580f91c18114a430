"""The engine on PostgreSQL: one SQL function a verb, one statement and one round trip a call."""

import select
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import psycopg2
import psycopg2.extensions

from server.engines import Acked, Batch, Fetched, Health, Lag, Published
from server.engines.postgres.failures import did_not_happen, problem
from server.engines.postgres.pool import Pool
from server.engines.postgres.session import NotWritable, connect
from server.http.errors import Problem

CHANNEL = "queue_topics"
_ATTEMPTS = 3
_HEARTBEAT = 0.25


def _rfc3339(column: str) -> str:
    return f"""to_char({column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


TOPIC = f"""json_build_object('topic', t.topic, 'description', t.description,
    'created_at', {_rfc3339("t.created_at")}, 'floor', t.floor, 'head', t.head,
    'subscribers', t.subscribers)::text"""
SUBSCRIBER = f"""json_build_object('topic', s.topic, 'subscriber', s.subscriber,
    'position', s."position", 'epoch', s.epoch, 'head', s.head, 'lag', s.head - s."position",
    'created_at', {_rfc3339("s.created_at")})::text"""


class PostgresEngine:
    """The queue in a PostgreSQL database; any number of engines may share one."""

    def __init__(self, dsn: str, *, pool_size: int = 16, patience: float = 5.0) -> None:
        """Open nothing yet. `patience` is how long, in seconds, a call waits for a free connection."""
        self._dsn = dsn
        self._pool = Pool(dsn, pool_size, patience)
        self._announcer = Pool(dsn, 1, patience, synchronous_commit="off")
        self._announcing = 0  # its process in the database: we need not hear what we said

    def create_topic(self, topic: str, description: str | None) -> str:
        """Make a topic; return it."""
        sql = f"select {TOPIC} from queue.create_topic(%s, %s) t"
        return str(self._write(sql, topic, description)[0])

    def topics(self, after: str | None, limit: int) -> str:
        """Return a page of topics, without the brackets."""
        sql = f"select coalesce(string_agg({TOPIC}, ',' order by t.topic), '') from queue.list_topics(%s, %s) t"
        return str(self._rows(sql, [after, limit], writes=False)[0][0])

    def topic(self, topic: str) -> str:
        """Return one topic."""
        return str(self._read(f"select {TOPIC} from queue.get_topic(%s) t", topic)[0])

    def delete_topic(self, topic: str) -> None:
        """Remove a topic with its messages and subscribers."""
        self._write("select queue.delete_topic(%s)", topic)

    def publish(self, topic: str, batches: Sequence[Batch]) -> list[Published]:
        """Append batches in one transaction: all of them or none."""
        rows = ", ".join(
            f"({n}, %s::json, %s::text[], %s::json, %s, %s::bigint)" for n in range(len(batches))
        )
        sql = f"""select p.* from (values {rows}) b(n, payloads, keys, headers, producer, sequence),
                  queue.publish_batch(%s, b.payloads, b.keys, b.headers, b.producer, b.sequence) p order by b.n"""
        values = [value for batch in batches for value in batch]
        return [
            Published(*row)
            for row in self._rows(sql, [*values, topic], (topic, "write"), writes=True)
        ]

    def browse(self, topic: str, offset: int | None, limit: int) -> Fetched:
        """Read without a subscriber."""
        sql = "select floor, 0, head, messages from queue.browse_json(%s, %s, %s)"
        return Fetched(*self._read(sql, topic, offset, limit))

    def subscribe(
        self, topic: str, subscriber: str | None, start: str | int | datetime
    ) -> tuple[str, bool]:
        """Make or find a subscriber; return it and whether it is new."""
        sql = f"""select {SUBSCRIBER}, r.created
                  from queue.subscribe(%s, %s, %s, %s::bigint, %s::timestamptz) r,
                       lateral (select (r.subscriber).*) s"""
        word = start if isinstance(start, str) else None
        offset = start if isinstance(start, int) else None
        timestamp = start if isinstance(start, datetime) else None
        row = self._write(sql, topic, subscriber, word, offset, timestamp)
        return str(row[0]), bool(row[1])

    def subscribers(self, topic: str, after: str | None, limit: int) -> str:
        """Return a page of subscribers, without the brackets."""
        sql = f"""select coalesce(string_agg({SUBSCRIBER}, ',' order by s.subscriber), '')
                  from queue.list_subscribers(%s, %s, %s) s"""
        return str(self._read(sql, topic, after, limit)[0])

    def subscriber(self, topic: str, subscriber: str) -> str:
        """Return one subscriber."""
        sql = f"select {SUBSCRIBER} from queue.get_subscriber(%s, %s) s"
        return str(self._read(sql, topic, subscriber)[0])

    def unsubscribe(self, topic: str, subscriber: str) -> None:
        """Remove a subscriber."""
        self._write("select queue.unsubscribe(%s, %s)", topic, subscriber)

    def fetch(
        self, topic: str, subscriber: str, limit: int, after: int | None, epoch: int | None
    ) -> Fetched:
        """Read from the position on, or after another offset; all of it from one snapshot."""
        sql = "select * from queue.fetch_json(%s, %s, %s, %s, p_epoch => %s)"
        return Fetched(*self._read(sql, topic, subscriber, limit, after, epoch))

    def ack(self, topic: str, subscriber: str, offset: int, epoch: int) -> Acked:
        """Move a position forward."""
        return Acked(
            *self._move("select * from queue.ack(%s, %s, %s, %s)", topic, subscriber, offset, epoch)
        )

    def seek(
        self,
        topic: str,
        subscriber: str,
        offset: int | None,
        timestamp: datetime | None,
        dry_run: bool,
    ) -> str:
        """Move one subscriber; return it."""
        sql = f"select {SUBSCRIBER} from queue.seek(%s, %s, %s::bigint, %s::timestamptz, %s) s"
        return str(self._move(sql, topic, subscriber, offset, timestamp, dry_run)[0])

    def reset(
        self, topic: str, offset: int | None, timestamp: datetime | None, dry_run: bool
    ) -> tuple[int, int]:
        """Move all subscribers of a topic; return the position and how many they are."""
        sql = "select * from queue.reset(%s, %s::bigint, %s::timestamptz, %s)"
        row = self._write(sql, topic, offset, timestamp, dry_run)
        return row[0], row[1]

    def heads(self, topics: list[str]) -> dict[str, int]:
        """Return the heads of those topics that exist."""
        return dict(self._rows("select * from queue.heads(%s)", [topics], writes=False))

    def lags(self) -> tuple[list[Lag], int]:
        """Return the subscribers' lags, those furthest behind, and how many were left out."""
        lags = [Lag(*row) for row in self._rows("select * from queue.lags()", [], writes=False)]
        ((count,),) = self._rows("select queue.count_subscribers()", [], writes=False)
        return lags, max(0, count - len(lags))

    def tidy(self) -> int:
        """Remove a chunk of what nobody needs any more; return how many rows."""
        return int(self._rows("select queue.tidy()", [], writes=True)[0][0])

    def health(self) -> Health:
        """Say whether the database answers and keeps its promises."""
        sql = """select name, setting from pg_settings
                 where name in ('server_version', 'fsync', 'full_page_writes', 'synchronous_commit')"""
        found = dict(self._rows(sql, [], writes=False))
        return Health(
            found.pop("server_version"), sorted(name for name in found if found[name] == "off")
        )

    def announce(self, topics: list[str]) -> None:
        """Tell every server of this database that something happened to these topics.

        On a connection of its own, after the publish has committed: a NOTIFY inside the transaction would hold one lock
        for the whole instance over the commit's fsync. Nothing is lost with a notice, so it waits for no disk either.
        """
        sql = f"select pg_notify('{CHANNEL}', t) from unnest(%s::text[]) t"
        with self._announcer.connection() as connection:
            self._announcing = connection.backend
            connection.run(sql, [topics])

    def listen(self, heard: Callable[[set[str]], None], stopped: Callable[[], bool]) -> None:
        """Call `heard` with topics as others announce them, and with none now and then, until stopped or cut off.

        Raises psycopg2.Error when the database goes away, or takes no writes any more.
        """
        turns = self._pool.turns
        connection = connect(self._dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"listen {CHANNEL}")
            poll = select.poll()
            poll.register(connection.fileno(), select.POLLIN)
            while not stopped():
                poll.poll(_HEARTBEAT * 1000)
                connection.poll()
                notices = {n.payload for n in connection.notifies if n.pid != self._announcing}
                connection.notifies.clear()
                heard(notices)
                if self._pool.turns != turns:
                    raise NotWritable("the database was read only: it may have moved")
        finally:
            connection.close()

    def close(self) -> None:
        """Close every idle connection."""
        self._pool.close()
        self._announcer.close()

    # A topic is three users of the pool: who waits for its lock must not keep those from their work who need none, and
    # acks, of which one may wait for another, must not keep it from being read.

    def _read(self, sql: str, topic: str, *values: Any) -> tuple[Any, ...]:
        return self._rows(sql, [topic, *values], (topic, "read"), writes=False)[0]

    def _move(self, sql: str, topic: str, *values: Any) -> tuple[Any, ...]:
        return self._rows(sql, [topic, *values], (topic, "move"), writes=True)[0]

    def _write(self, sql: str, topic: str, *values: Any) -> tuple[Any, ...]:
        return self._rows(sql, [topic, *values], (topic, "write"), writes=True)[0]

    def _rows(
        self, sql: str, values: Sequence[Any], user: tuple[str, str] | None = None, *, writes: bool
    ) -> list[tuple[Any, ...]]:
        for attempt in range(1, _ATTEMPTS + 1):
            with self._pool.connection(user) as connection:
                try:
                    return connection.run(sql, values)
                except psycopg2.Error as error:
                    if did_not_happen(error) and attempt < _ATTEMPTS:
                        continue
                    raise problem(error, closed=bool(connection.closed), writes=writes) from error
                except UnicodeEncodeError as error:
                    raise Problem(
                        "invalid_request", "text cannot hold half a surrogate pair"
                    ) from error
                except ValueError as error:  # psycopg2 refuses NUL in text before anything is sent
                    raise Problem("invalid_request", "text cannot hold \\u0000") from error
        raise AssertionError("the last attempt returns or raises")
