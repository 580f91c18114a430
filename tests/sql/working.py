"""Workers for the tests of leases: one session, one subscriber."""

from dataclasses import dataclass
from typing import Any

from tests.sql.session import Session
from tests.waiting import until

LEASE = 'select lease, expires_at, "offset", attempt, payload::text, key from queue.lease({}, %s, %s, %s)'
LEDGER = ("crew", "hold", "settled", "extension", "turn", "dead")


@dataclass(frozen=True)
class Lease:
    """What one call of `queue.lease` returned."""

    id: str
    expires_at: Any
    offsets: list[int]
    attempts: list[int]
    payloads: list[str]
    keys: list[str | None]

    @property
    def act(self) -> int:
        return int(self.id.partition("-")[0])


NOTHING = Lease("", None, [], [], [], [])


class Crew:
    """The workers of one subscriber, all in one session."""

    def __init__(self, session: Session, topic: str = "orders", subscriber: str = "kitchen"):
        self.session = session
        self.topic, self.subscriber = topic, subscriber
        self._name = f"'{topic}', '{subscriber}'"

    def at(self, session: Session) -> "Crew":
        """The same workers, in another session."""
        return Crew(session, self.topic, self.subscriber)

    def call(self, function: str, *arguments: object) -> tuple[Any, ...]:
        """Call a function of the subscriber's; return its row."""
        return self.session.row(self.text(function, len(arguments)), *arguments)

    def text(self, function: str, arguments: int) -> str:
        """The statement that calls a function of the subscriber's."""
        return f"select * from queue.{function}({', '.join([self._name] + ['%s'] * arguments)})"

    def lease(self, limit: int = 1, seconds: float = 30, worker: str | None = None) -> Lease:
        rows = self.session.rows(LEASE.format(self._name), worker, limit, seconds)
        if not rows:
            return NOTHING
        ids, ends, *columns = zip(*rows, strict=True)
        assert len(set(ids)) == len(set(ends)) == 1
        return Lease(ids[0], ends[0], *map(list, columns))

    def lost(self, limit: int = 1, worker: str | None = None) -> Lease:
        """Lease for a moment, and wait until that is over."""
        lease = self.lease(limit, 0.001, worker)
        self.is_past(lease.expires_at)
        return lease

    def is_past(self, time: Any) -> bool:
        """Wait until the database's clock has passed a time."""
        return until(lambda: bool(self.session.value("select clock_timestamp() > %s", time)), 40)

    def ack(self, lease: Lease, *offsets: int) -> int:
        """Acknowledge some messages, or all; return how many it were."""
        return int(self.call("ack_lease", lease.id, list(offsets) or None)[0])

    def nack(self, lease: Lease, *offsets: int, delay: float | None = 0, error: str | None = None,
             untried: bool = False) -> tuple[Any, ...]:  # fmt: skip
        return self.call("nack", lease.id, list(offsets) or None, delay, error, untried)

    def extend(self, lease: Lease, seconds: float) -> Any:
        return self.call("extend", lease.id, seconds)[0]

    def configure(self, **settings: object) -> tuple[Any, ...]:
        named = ", ".join(f"p_{name} => %s" for name in settings)
        return self.session.row(
            f"select * from queue.configure({self._name}, {named})", *settings.values()
        )

    @property
    def position(self) -> int:
        return int(self.call("get_subscriber")[2])

    @property
    def epoch(self) -> int:
        return int(self.call("get_subscriber")[3])

    def dead(self) -> list[tuple[Any, ...]]:
        """Return offset, attempts, reason and error of each dead letter."""
        return self.session.rows(
            f'select "offset", attempts, reason, error from queue.list_dead({self._name})'
        )

    def rows(self) -> dict[str, int]:
        """Return how many rows there are in each table of the ledger."""
        count = "select count(*) from queue.{}"
        return {table: self.session.value(count.format(table)) for table in LEDGER}


def published(session: Session, count: int, topic: str = "orders", keys: str | None = None) -> None:
    """Publish as many messages; `keys` has a letter for each, "-" for none."""
    keyed = [None if letter == "-" else letter for letter in keys] if keys else None
    session.rows(
        "select queue.publish_batch(%s, (select json_agg(n) from generate_series(1, %s) n), %s)",
        topic, count, keyed,
    )  # fmt: skip
