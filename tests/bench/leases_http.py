"""Workers over HTTP: 16 connections that lease and acknowledge; and a worker that waits for a publish."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from qlib.lab.stack.guarded import Guarded, environment, free_port
from tests.bench.load import wrk_script
from tests.bench.messages import HTTP, array, payloads, request_body
from tests.bench.rounds import RATE, Contender, Figures, percentiles
from tests.bench.stand import Stand
from tests.bench.wire import Wire

CONNECTIONS = 16
UNFUSED = "ours (HTTP), not fused"
_SCRIPT = Path(__file__).with_name("leases.lua")
_MESSAGES = 20_000  # more than are leased in the second that a round takes
_WAKES = 200
_BETWEEN_WAKES = 0.01  # seconds; in one hundredth the worker waits again
_LEASE = b'{"wait": 60}'


def contenders(stand: Stand, opened: ExitStack) -> list[Contender]:
    """Return the server as it is, and one beside it that fuses nothing."""
    urls = {HTTP: stand.url, UNFUSED: _unfused(stand, opened)}
    return [_contender(stand, name, url) for name, url in urls.items()]


def waking(stand: Stand, opened: ExitStack) -> Any:
    """Return what measures how long after a publish was sent a worker that waits has the message."""
    worker, publisher = (opened.enter_context(Wire(stand.url)) for _ in range(2))
    return partial(_wake, worker, publisher, _topic(stand))


def _contender(stand: Stand, name: str, url: str) -> Contender:
    topics: list[str] = []

    def work() -> Figures:
        path = f"/topics/{topics[-1]}/subscribers/workers/leases"
        found = wrk_script(url, _SCRIPT, [path], CONNECTIONS)
        return {RATE: found["acked"] / found["seconds"]}

    return Contender(name, work, lambda: topics.append(_topic(stand, _MESSAGES)))


def _topic(stand: Stand, messages: int = 0) -> str:
    topic, cursor = stand.topic(), stand.cursor()
    cursor.execute("select queue.subscribe(%s, 'workers', 'earliest')", (topic,))
    if messages:
        for _ in range(messages // 10_000):
            batch = array(payloads(10_000))
            cursor.execute("select queue.publish_batch(%s, %s)", (topic, batch))
    cursor.connection.close()
    return topic


def _unfused(stand: Stand, opened: ExitStack) -> str:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="queue-bench-"))) / "log"
    server = Guarded(
        [sys.executable, "-m", "tests.bench.unfused", "--port", str(port)],
        f"{url}/health",
        f"queue server on {url}",
        log=log,
        environment=environment() | {"DATABASE_URL": stand.served},
    )
    opened.callback(server.stop)
    return url


def _wake(worker: Wire, publisher: Wire, topic: str) -> Figures:
    body = request_body(payloads(1)).encode()
    seconds = []
    for _ in range(_WAKES):
        worker.begin(f"/topics/{topic}/subscribers/workers/leases", _LEASE)
        time.sleep(_BETWEEN_WAKES)
        begin = time.perf_counter()
        publisher.post(f"/topics/{topic}/messages", body)
        answer = worker.end()
        seconds.append(time.perf_counter() - begin)
        assert b'"attempt":' in answer, answer
    return percentiles(seconds)
