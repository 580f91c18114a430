"""Single messages through a buffer: one thread publishes to one topic, one message a call, with qlib.

`publish` waits for each answer; `buffered` returns at once and sends batches of 1,000 behind its caller's back,
the end of the block included in the time. Once the caller keeps every handle and asks each for its offset at the
end, once it keeps none. `publish_many` gets the same Python objects as one list. Left out: keys, headers, and
several threads.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

from qlib import QPublisher
from tests.bench import messages
from tests.bench.rounds import Contender, Result, interleave
from tests.bench.stand import Stand

PART = "buffered"
CASE = "single × 100 B, one thread"
PLAIN, KEPT, NOT_KEPT, MANY = "publish", "buffered, handles kept", "buffered", "publish_many"
_PLAIN_MESSAGES, _MESSAGES = 500, 50_000
_LINGER, _BATCH = 0.005, 1_000


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure the one case."""
    with ExitStack() as opened:
        publisher = opened.enter_context(QPublisher(stand.url))
        return interleave(PART, CASE, contenders(publisher, stand), rounds)


def contenders(publisher: QPublisher, stand: Stand) -> list[Contender]:
    """Return those who publish, each to a topic of its own."""
    plain, kept, not_kept, many = stand.topics(4)
    payloads = [json.loads(text) for text in messages.payloads(_MESSAGES)]
    return [
        Contender(PLAIN, lambda: _plain(publisher, plain, payloads[:_PLAIN_MESSAGES])),
        Contender(KEPT, lambda: _keeping(publisher, kept, payloads)),
        Contender(NOT_KEPT, lambda: _keeping_none(publisher, not_kept, payloads)),
        Contender(MANY, lambda: len(publisher.publish_many(many, payloads))),
    ]


def _plain(publisher: QPublisher, topic: str, payloads: list[Any]) -> int:
    for payload in payloads:
        publisher.publish(topic, payload)
    return len(payloads)


def _keeping(publisher: QPublisher, topic: str, payloads: list[Any]) -> int:
    with publisher.buffered(topic, linger=_LINGER, batch=_BATCH) as out:
        handles = [out.publish(payload) for payload in payloads]
    return len({handle.result() for handle in handles})


def _keeping_none(publisher: QPublisher, topic: str, payloads: list[Any]) -> int:
    with publisher.buffered(topic, linger=_LINGER, batch=_BATCH) as out:
        for payload in payloads:
            out.publish(payload)
    return len(payloads)
