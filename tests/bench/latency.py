"""From publish to delivery: how long a subscriber in a long poll waits for a message that is published.

The subscriber is a process of its own. A message carries the time at which it was due to be published; when
the answer that holds it is there, the difference is its latency: publish, commit, wake-up and fetch. Messages
are due at a steady 50 a second, or at half of the rate that one publisher reached just before, with the subscriber
listening. Over bare connections, and with the client. How long a single publish takes shows in the part
publishers. Left out: several subscribers at a time, and the peers, most of which are polled.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import partial

from qlib import QPublisher
from tests.bench.listener import listening
from tests.bench.messages import HTTP, QLIB
from tests.bench.rounds import RATE, Contender, Result, interleave, percentiles
from tests.bench.stand import Stand
from tests.bench.wire import Wire

PART = "latency"
LOW = "50 a second"
HALF = "half of the highest rate"
_LOW_RATE = 50.0
_SECONDS = 2.0
_CALIBRATION = 500  # messages

Publish = Callable[[float], object]


def run(stand: Stand, rounds: int) -> list[Result]:
    """Measure both cases."""
    topic = stand.topic()
    with Wire(stand.url) as wire, QPublisher(stand.url) as publisher:
        path = f"/topics/{topic}/messages"
        ways: dict[str, Publish] = {
            HTTP: lambda due: wire.post(path, json.dumps({"payloads": [due]}).encode()),
            QLIB: lambda due: publisher.publish(topic, due),
        }
        paced = {name: partial(deliver, stand.url, topic, name, ways[name]) for name in ways}

        def measure(case: str, rates: dict[str, float]) -> list[Result]:
            contenders = [
                Contender(name, partial(act, round(rates[name] * _SECONDS), rates[name]))
                for name, act in paced.items()
            ]
            return interleave(PART, case, contenders, rounds)

        low = measure(LOW, dict.fromkeys(ways, _LOW_RATE))
        half = {name: act(_CALIBRATION, math.inf)[RATE] / 2 for name, act in paced.items()}
        return low + measure(HALF, half)


def deliver(
    url: str, topic: str, way: str, publish: Publish, count: int, rate: float
) -> dict[str, float]:
    """Publish so many messages at a rate; return their latencies and the rate that was reached."""
    with listening(url, topic, way, count) as latencies:
        begin = time.monotonic()
        for number in range(count):
            due = max(begin + number / rate, begin)
            time.sleep(max(0.0, due - time.monotonic()))
            publish(due)
        reached = count / (time.monotonic() - begin)
        return {**percentiles(latencies()), RATE: reached}
