"""The workers of a subscriber, over HTTP."""

from contextlib import closing
from typing import Any

import psycopg2
import requests

from tests.server.answers import ok
from tests.server_process import ServerProcess
from tests.waiting import until

NOTHING = {"lease": None, "expires_at": None, "messages": []}
BACK = 40.0  # seconds within which a lease of a moment has expired, on any machine
LEDGER = ("hold", "settled", "extension", "turn", "dead")


def dsn_of(server: ServerProcess) -> str:
    """Where the server's database is."""
    return server.settings["DATABASE_URL"]


def ask(server: ServerProcess, statement: str) -> Any:
    """Ask the server's database for one value."""
    with closing(psycopg2.connect(dsn_of(server))) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(statement)
            (value,) = cursor.fetchone() or (None,)
    return value


class Crew:
    """A subscriber's workers: what they ask for, and is expected to work unless it goes by `call`."""

    def __init__(self, server: ServerProcess, topic: str, subscriber: str = "kitchen") -> None:
        self.server, self.topic, self.subscriber = server, topic, subscriber

    def at(self, server: ServerProcess) -> "Crew":
        """The same workers, at another server."""
        return Crew(server, self.topic, self.subscriber)

    def call(self, method: str, path: str = "", body: object = None) -> requests.Response:
        """Call a path below the subscriber's own."""
        own = f"/topics/{self.topic}/subscribers/{self.subscriber}"
        return self.server.call(method, own + path, body)

    def publish(self, count: int, keys: list[str | None] | None = None) -> None:
        batch = {"payloads": list(range(1, count + 1))} | ({"keys": keys} if keys else {})
        ok(self.server.call("POST", f"/topics/{self.topic}/messages", batch), 201)

    def subscribe(self, **settings: object) -> Any:
        body = {"subscriber": self.subscriber, "start": "earliest", **settings}
        return ok(self.server.call("POST", f"/topics/{self.topic}/subscribers", body), 201)

    def configure(self, **settings: object) -> Any:
        return ok(self.call("PATCH", body=settings))

    def lease(self, limit: int = 1, seconds: float = 600, **further: object) -> Any:
        """Lease; nobody is expected to wait for its expiry unless `seconds` says so."""
        body = {"limit": limit, "lease_seconds": seconds, **further}
        leased = ok(self.call("POST", "/leases", body))
        assert leased.keys() == {"topic", "subscriber", *NOTHING}
        return leased

    def lost(self, limit: int = 1) -> Any:
        """Lease for a moment, and wait until that is over."""
        leased = self.lease(limit, 0.001)
        self.has_expired(leased)
        return leased

    def has_expired(self, leased: Any) -> None:
        """Wait until a lease is not listed any more."""
        number = leased["lease"].partition("-")[0]
        until(lambda: number not in [one["lease"] for one in self.leases()], BACK)

    def of(self, leased: Any, verb: str, body: object) -> requests.Response:
        """Do something with a lease."""
        return self.call("POST", f"/leases/{leased['lease']}/{verb}", body)

    def ack(self, leased: Any, *offsets: int) -> tuple[int, int]:
        """Acknowledge some messages, or all; return how many it were, and the position."""
        done = ok(self.of(leased, "ack", {"offsets": list(offsets)} if offsets else {}))
        return done["acked"], done["position"]

    def nack(self, leased: Any, *offsets: int, **how: object) -> tuple[int, int]:
        """Give some messages back, or all; return how many, and how many are dead letters."""
        body = {"offsets": list(offsets)} if offsets else {}
        done = ok(self.of(leased, "nack", {"delay_seconds": 0, **body, **how}))
        return done["nacked"], done["dead"]

    def leases(self, query: str = "") -> Any:
        return ok(self.call("GET", f"/leases{query}"))["leases"]

    def dead(self, query: str = "") -> Any:
        return ok(self.call("GET", f"/dead{query}"))["dead"]

    def redrive(self, **which: object) -> int:
        return int(ok(self.call("POST", "/dead/redrive", which))["redriven"])

    def remove_dead(self, **which: object) -> int:
        return int(ok(self.call("DELETE", "/dead", which))["removed"])

    def ask(self, statement: str) -> Any:
        """Ask the server's database for one value; {id} is the subscriber's number."""
        number = f"(queue.get_subscriber('{self.topic}', '{self.subscriber}')).subscriber_id"
        return ask(self.server, statement.replace("{id}", f"(select {number})"))

    def rows(self) -> dict[str, int]:
        """Return how many rows of its own there are in each table of the ledger."""
        count = "select count(*) from queue.{} where subscriber_id = {{id}}"
        return {table: self.ask(count.format(table)) for table in LEDGER}

    def expire(self, leased: Any) -> None:
        """Let the time be over, now, for which it was leased; not that for which it was extended."""
        act = leased["lease"].partition("-")[0]
        self.ask(f"""update queue.hold set due_at = clock_timestamp()
                     where subscriber_id = {{id}} and act = {act} and due_at > clock_timestamp()
                     returning true""")

    @property
    def position(self) -> int:
        return int(ok(self.call("GET"))["position"])


def offsets(leased: Any) -> list[int]:
    """The offsets of a lease's messages, or of dead letters."""
    messages = leased["messages"] if isinstance(leased, dict) else leased
    return [message["offset"] for message in messages]


def attempts(leased: Any) -> list[int]:
    """Which attempt each message of a lease is."""
    return [message["attempt"] for message in leased["messages"]]
