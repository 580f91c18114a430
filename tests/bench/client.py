"""The process of a client: it does the work of a round when it is told to, and says what that took.

It runs by its path, with a checkout first on sys.path, and imports nothing but that checkout's `qlib`. An order is
a line of JSON on its standard input, the answer a line on its standard output; it ends with its input.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import qlib

Order = dict[str, Any]
Act = Callable[[], object]

_LIMIT = 10_000  # how many a reader that has to catch up fetches at a time


def fetching(opened: ExitStack, order: Order) -> Act:
    """Fetch the first `size` messages, `calls` times."""
    reader = _reader(opened, order, "reader")

    def act() -> None:
        for _ in range(order["calls"]):
            assert len(reader.fetch(order["size"])) == order["size"], "a fetch was short"

    return act


def publishing(opened: ExitStack, order: Order) -> Act:
    """Publish one message, `calls` times."""
    publisher = opened.enter_context(qlib.QPublisher(order["url"]))
    (payload,) = _payloads(1)

    def act() -> None:
        for _ in range(order["calls"]):
            publisher.publish(order["topic"], payload)

    return act


def publishing_many(opened: ExitStack, order: Order) -> Act:
    """Publish `size` messages with publish_many, `calls` times."""
    publisher = opened.enter_context(qlib.QPublisher(order["url"]))
    payloads = _payloads(order["size"])

    def act() -> None:
        for _ in range(order["calls"]):
            publisher.publish_many(order["topic"], payloads)

    return act


def fanning_out(opened: ExitStack, order: Order) -> Act:
    """Publish `size` messages in batches of 1,000; then `subscribers` at once receive and acknowledge all."""
    count = order["size"]
    publisher = opened.enter_context(qlib.QPublisher(order["url"]))
    readers = [_reader(opened, order, f"reader-{n}") for n in range(order["subscribers"])]
    threads = opened.enter_context(ThreadPoolExecutor(len(readers)))
    payloads = _payloads(count)

    def read(reader: qlib.QSubscriber) -> None:
        left = count
        while left:
            batch = reader.fetch(min(_LIMIT, left))
            assert batch, f"{left} of {count} messages are missing"
            reader.ack(batch[-1])
            left -= len(batch)

    def act() -> None:
        for first in range(0, count, 1000):
            publisher.publish_many(order["topic"], payloads[first : first + 1000])
        list(threads.map(read, readers))

    return act


WORKS = {act.__name__: act for act in (fetching, publishing, publishing_many, fanning_out)}


def done(order: Order) -> dict[str, float]:
    """Make ready, do the work and return its CPU and wall seconds."""
    with ExitStack() as opened:
        act = WORKS[order["work"]](opened, order)
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        act()
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def main() -> None:
    """Answer orders until there are no more."""
    print(json.dumps({"qlib": qlib.__file__}), flush=True)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = done(json.loads(line))
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


def _reader(opened: ExitStack, order: Order, name: str) -> qlib.QSubscriber:
    reader = qlib.QSubscriber(order["topic"], name, "earliest", url=order["url"])
    return opened.enter_context(reader)


def _payloads(count: int) -> list[dict[str, Any]]:
    return [{"id": number, "data": "x" * 76} for number in range(count)]  # some 100 bytes


if __name__ == "__main__":
    main()
