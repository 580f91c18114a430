"""The engine on PostgreSQL: one SQL function a verb, one statement and one round trip a call."""

import select
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import psycopg2
import psycopg2.extensions

from server.engines import Acked, Fetched, Health, Lag, Published
from server.engines.failures import problem
from server.engines.pool import Pool, Turns, connect
from server.errors import Problem

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
MESSAGES = f"""coalesce(string_agg('{{"offset":' || m."offset"
    || ',"published_at":"' || {_rfc3339("m.published_at")} || '"'
    || coalesce(',"key":' || to_json(m.key)::text, '')
    || coalesce(',"headers":' || m.headers::text, '')
    || ',"payload":' || m.payload::text || '}}', ',' order by m."offset"), '')"""


class PostgresEngine:
    """The queue in a PostgreSQL database; any number of engines may share one."""

    def __init__(self, dsn: str, *, pool_size: int = 16, patience: float = 5.0) -> None:
        """Open nothing yet. `patience` is how long, in seconds, a call waits for a free connection."""
        self._dsn = dsn
        self._pool = Pool(dsn, pool_size, patience)
        self._turns = Turns(max(1, pool_size // 2), patience)
        self._announcer = Pool(dsn, 1, patience, synchronous_commit="off")

    def create_topic(self, topic: str, description: str | None) -> str:
        """Make a topic; return it."""
        sql = f"select {TOPIC} from queue.create_topic(%s, %s) t"
        return str(self._write(sql, topic, description)[0])

    def topics(self, after: str | None, limit: int) -> str:
        """Return a page of topics, without the brackets."""
        sql = f"select coalesce(string_agg({TOPIC}, ',' order by t.topic), '') from queue.list_topics(%s, %s) t"
        return str(self._read(sql, after, limit)[0])

    def topic(self, topic: str) -> str:
        """Return one topic."""
        return str(self._read(f"select {TOPIC} from queue.get_topic(%s) t", topic)[0])

    def delete_topic(self, topic: str) -> None:
        """Remove a topic with its messages and subscribers."""
        self._write("select queue.delete_topic(%s)", topic)

    def publish(
        self,
        topic: str,
        payloads: str,
        keys: list[str | None] | None,
        headers: str | None,
        producer: str | None,
        sequence: int | None,
    ) -> Published:
        """Append a batch."""
        sql = "select * from queue.publish_batch(%s, %s, %s::text[], %s, %s, %s)"
        with self._turns.taken(topic):
            row = self._write(sql, topic, payloads, keys, headers, producer, sequence)
        return Published(*row)

    def browse(self, topic: str, offset: int | None, limit: int) -> Fetched:
        """Read without a subscriber."""
        sql = f"""select t.floor, 0, t.head, (select {MESSAGES} from queue.browse(%s, %s, %s) m)
                  from queue.get_topic(%s) t"""
        return Fetched(*self._read(sql, topic, offset, limit, topic))

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

    def fetch(self, topic: str, subscriber: str, limit: int, after: int | None) -> Fetched:
        """Read from the position on, or after another offset; all of it from one snapshot."""
        sql = f"""select s."position", s.epoch, s.head, (select {MESSAGES} from queue.fetch(%s, %s, %s, %s) m)
                  from queue.get_subscriber(%s, %s) s"""
        return Fetched(*self._read(sql, topic, subscriber, limit, after, topic, subscriber))

    def ack(self, topic: str, subscriber: str, offset: int, epoch: int) -> Acked:
        """Move a position forward."""
        return Acked(
            *self._write(
                "select * from queue.ack(%s, %s, %s, %s)", topic, subscriber, offset, epoch
            )
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
        return str(self._write(sql, topic, subscriber, offset, timestamp, dry_run)[0])

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

    def lags(self) -> list[Lag]:
        """Return the subscribers' lags."""
        return [Lag(*row) for row in self._rows("select * from queue.lags()", [], writes=False)]

    def tidy(self) -> int:
        """Remove a chunk of what nobody needs any more; return how many rows."""
        return int(self._write("select queue.tidy()")[0])

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
        sql = f"select pg_notify('{CHANNEL}', t) from unnest(%s) t"
        with self._announcer.connection() as connection, connection.cursor() as cursor:
            cursor.execute(sql, (topics,))

    def listen(self, heard: Callable[[set[str]], None], stopped: Callable[[], bool]) -> None:
        """Call `heard` with topics as they are announced, and with none now and then, until stopped or cut off.

        Raises psycopg2.Error when the database goes away.
        """
        connection = connect(self._dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"listen {CHANNEL}")
            poll = select.poll()
            poll.register(connection.fileno(), select.POLLIN)
            while not stopped():
                poll.poll(_HEARTBEAT * 1000)
                connection.poll()
                notices = {notice.payload for notice in connection.notifies}
                connection.notifies.clear()
                heard(notices)
        finally:
            connection.close()

    def close(self) -> None:
        """Close every idle connection."""
        self._pool.close()
        self._announcer.close()

    def _read(self, sql: str, *values: Any) -> tuple[Any, ...]:
        return self._rows(sql, values, writes=False)[0]

    def _write(self, sql: str, *values: Any) -> tuple[Any, ...]:
        return self._rows(sql, values, writes=True)[0]

    def _rows(self, sql: str, values: Sequence[Any], *, writes: bool) -> list[tuple[Any, ...]]:
        for attempt in range(1, _ATTEMPTS + 1):
            with self._pool.connection() as connection:
                try:
                    with connection.cursor() as cursor:
                        cursor.execute(sql, values)
                        return list(cursor.fetchall())
                except psycopg2.Error as error:
                    if error.pgcode in ("40001", "40P01") and attempt < _ATTEMPTS:
                        continue  # rolled back by Postgres: it did not happen
                    raise problem(error, closed=bool(connection.closed), writes=writes) from error
                except ValueError as error:  # psycopg2 refuses NUL in text before anything is sent
                    raise Problem("invalid_request", "text cannot hold \\u0000") from error
        raise AssertionError("the last attempt returns or raises")
