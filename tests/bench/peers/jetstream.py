"""NATS JetStream: a stream in a file, a durable pull consumer for each reader.

A batch is sent without a wait in between, and has returned when all of it is acknowledged. A reader acknowledges the
last message it got, which stands for those before, and waits for the answer. The client is Python alone and takes
most of the time; calling it from outside of its event loop takes a third of that of a single message.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from threading import Thread
from typing import Any, TypeVar

from tests.bench.peers.peer import PATIENCE, Peer
from tests.bench.peers.process import directory, program, running
from tests.waiting import until

T = TypeVar("T")

_EMPTY = 30.0  # seconds without a message after which there are no more


class JetStream(Peer):
    """Streams `orders-1`, `orders-2` … in a server of our own, on a free port.

    A deleted one may still be leaving the disk when the next is made, which under its name would then be refused.
    """

    ack_means = "OS cache, fsync every 2 min"

    def prepare(self, subscribers: int) -> None:
        """Make the stream and its consumers anew."""
        consumers = self._wait(self._create(subscribers))
        self._readers = [partial(self._read, consumer) for consumer in consumers]

    def publish(self, payloads: Sequence[str]) -> None:
        """Publish one message, or all before the first answer."""
        if len(payloads) == 1:
            self._wait(self._stream.publish(self._name, payloads[0].encode()))
        else:
            self._wait(self._publish_all(payloads))

    def _start(self, opened: ExitStack) -> None:
        self._numbers = count(1)
        home = opened.enter_context(directory())
        flags = ["--jetstream", "--addr", "127.0.0.1", "--port", "-1"]
        flags += ["--store_dir", str(home), "--ports_file_dir", str(home)]
        opened.enter_context(running([str(program("nats-server")), *flags], home / "log"))
        (ports,) = until(lambda: [file for file in home.glob("*.ports") if file.stat().st_size])
        self._loop = opened.enter_context(_event_loop())
        self._wait(self._connect(json.loads(ports.read_text())["nats"][0]))
        opened.callback(lambda: self._wait(self._client.close()))

    async def _connect(self, url: str) -> None:
        import nats  # not everybody who measures has it

        self._client = await nats.connect(url)
        self._stream = self._client.jetstream(timeout=PATIENCE)

    async def _create(self, subscribers: int) -> list[Any]:
        from nats.js.api import AckPolicy, ConsumerConfig, StorageType

        if self._readers:
            await self._stream.delete_stream(self._name)
        self._name = f"orders-{next(self._numbers)}"
        await self._stream.add_stream(
            name=self._name, subjects=[self._name], storage=StorageType.FILE
        )
        config = ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=-1)
        return [
            await self._stream.pull_subscribe(self._name, f"reader-{number}", config=config)
            for number in range(subscribers)
        ]

    async def _publish_all(self, payloads: Sequence[str]) -> None:
        publish = self._stream.publish_async
        await asyncio.gather(*[await publish(self._name, text.encode()) for text in payloads])

    def _read(self, consumer: Any, limit: int) -> int:
        return self._wait(self._fetch(consumer, limit))

    async def _fetch(self, consumer: Any, limit: int) -> int:
        from nats.errors import TimeoutError

        try:
            messages = await consumer.fetch(limit, timeout=_EMPTY)
        except TimeoutError:
            return 0
        await messages[-1].ack_sync(PATIENCE)
        return len(messages)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread of its own, so that the client also answers while nobody calls it."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="event loop")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
