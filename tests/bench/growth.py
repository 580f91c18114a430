"""Growth: does a call cost more where there are 1,000 times the messages, or 1,000 times the topics?

Three databases: 10 topics with 10,000 messages in all, 10 topics with 10,000,000, and 10,000 topics with
1,000,000; every topic has ten subscribers. Each call goes to a topic drawn at random: publish one, publish 100,
fetch 100 from anywhere in the topic, ack one. The differences looked for are small, so rounds are short and there
are four times as many; what is compared is the median call. At SQL level, since nothing above it knows how much
there is. Left out: the sizes between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from psycopg2.extensions import cursor

from tests.bench.messages import array, payloads
from tests.bench.rounds import Contender, Result, clocked, interleave
from tests.bench.stand import Stand

PART = "growth"
_BATCH = 100
_SUBSCRIBERS = 10
_FINER = 4

_FILL = (
    "insert into queue.topic (name) select 'topic-' || n from generate_series(1, %(topics)s) n",
    """insert into queue.message (topic_id, "offset", published_at, payload)
       select t.topic_id, n, clock_timestamp(), %(payload)s
       from queue.topic t, generate_series(1, %(messages)s) n order by t.topic_id, n""",
    """insert into queue.subscriber (topic_id, name)
       select t.topic_id, 'reader-' || n from queue.topic t, generate_series(1, %(subscribers)s) n""",
    """insert into queue.position (subscriber_id, move, "offset", epoch, cause)
       select s.subscriber_id, 1, 0, 0, 'start' from queue.subscriber s""",
    "vacuum analyze",
    "checkpoint",
)


@dataclass(frozen=True)
class Size:
    """So many topics, and so many messages in each."""

    topics: int
    messages: int

    def __str__(self) -> str:
        return f"{self.topics:,} topics, {self.topics * self.messages:,} messages"


SMALL, MESSAGES, TOPICS = Size(10, 1_000), Size(10, 1_000_000), Size(10_000, 100)


class Queue:
    """A queue of a size, and the calls, each of a topic drawn at random."""

    def __init__(self, size: Size, cursor: cursor) -> None:
        self._size, self._cursor = size, cursor
        self._choose = Random(0)
        self._positions: Counter[tuple[str, str]] = Counter()
        self._text = payloads(1)[0]
        self._array = array(payloads(_BATCH))
        values = {
            "topics": size.topics,
            "messages": size.messages,
            "payload": self._text,
            "subscribers": _SUBSCRIBERS,
        }
        for statement in _FILL:
            cursor.execute(statement, values)

    def publish_one(self) -> None:
        """Publish one message."""
        self._cursor.execute("select queue.publish(%s, %s)", (self._topic(), self._text))

    def publish_batch(self) -> None:
        """Publish a batch."""
        self._cursor.execute("select queue.publish_batch(%s, %s)", (self._topic(), self._array))

    def fetch(self) -> None:
        """Fetch from anywhere in a topic."""
        after = self._choose.randint(0, self._size.messages - _BATCH)
        self._cursor.execute(
            "select \"offset\", payload::text from queue.fetch(%s, 'reader-1', %s, %s)",
            (self._topic(), _BATCH, after),
        )
        assert len(self._cursor.fetchall()) == _BATCH

    def ack(self) -> None:
        """Acknowledge the next message of a subscriber."""
        reader = (self._topic(), f"reader-{self._choose.randint(1, _SUBSCRIBERS)}")
        self._positions[reader] += 1
        self._cursor.execute("select queue.ack(%s, %s, %s, 0)", (*reader, self._positions[reader]))

    def _topic(self) -> str:
        return f"topic-{self._choose.randint(1, self._size.topics)}"


# Each call with its number of messages, and how often a round makes it.
CALLS: dict[str, tuple[Callable[[Queue], None], int, int]] = {
    "publish 1": (Queue.publish_one, 1, 150),
    "publish 100": (Queue.publish_batch, _BATCH, 10),
    "fetch 100": (Queue.fetch, _BATCH, 100),
    "ack 1": (Queue.ack, 1, 150),
}


def run(stand: Stand, rounds: int) -> list[Result]:
    """Fill the databases, then measure each call."""
    queues = {
        size: Queue(size, stand.cursor(stand.queue(str(size))))
        for size in (SMALL, MESSAGES, TOPICS)
    }
    results: list[Result] = []
    for name, (act, messages, times) in CALLS.items():
        contenders = [
            _contender(size, queue, act, messages, times) for size, queue in queues.items()
        ]
        results += interleave(PART, name, contenders, _FINER * rounds)
    return results


def _contender(
    size: Size, queue: Queue, act: Callable[[Queue], None], messages: int, times: int
) -> Contender:
    return Contender(
        str(size), lambda: clocked((lambda: act(queue) for _ in range(times)), messages)
    )
