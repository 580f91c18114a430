"""Redis Streams: an append-only file on disk, a consumer group for each reader.

A batch is one script, so it is all or nothing; a pipeline of 1,000 XADD would cost the client ten times as much. A
reader acknowledges what it has read with one XACK.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from tests.bench.peers.peer import PATIENCE, Peer, Stand
from tests.bench.peers.process import directory, program, running
from tests.waiting import until

_STREAM = "orders"
_BATCH = (
    "for _, payload in ipairs(ARGV) do redis.call('XADD', KEYS[1], '*', 'payload', payload) end"
)
_MEANS = {"always": "fsync", "everysec": "≤ 1 s lost"}


class RedisStreams(Peer):
    """The stream `orders` in a server of our own; `appendfsync` is its setting of that name."""

    def __init__(self, name: str, stand: Stand, appendfsync: str) -> None:
        super().__init__(name, stand)
        self.ack_means = _MEANS[appendfsync]
        self._appendfsync = appendfsync

    def prepare(self, subscribers: int) -> None:
        """Make a stream and its groups anew."""
        groups = [f"reader-{number}" for number in range(subscribers)]
        self._client.delete(_STREAM)
        for group in groups:
            self._client.xgroup_create(_STREAM, group, "0", mkstream=True)
        self._readers = [partial(self._receive, group) for group in groups]

    def publish(self, payloads: Sequence[str]) -> None:
        """Add one entry, or run the script that adds all."""
        if len(payloads) == 1:
            self._client.xadd(_STREAM, {"payload": payloads[0]})
        else:
            self._script(keys=[_STREAM], args=payloads)

    def _start(self, opened: ExitStack) -> None:
        import redis  # not everybody who measures has it

        home = opened.enter_context(directory())
        socket = home / "socket"
        options = {
            "dir": home,
            "unixsocket": socket,
            "port": 0,
            "save": "",
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
        }
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        opened.enter_context(running([str(program("redis-server")), *flags], home / "log"))
        until(socket.exists)
        self._client = redis.Redis(
            unix_socket_path=str(socket), protocol=2, socket_timeout=PATIENCE
        )
        opened.callback(self._client.close)
        self._client.set_response_callback("XREADGROUP", _as_it_came)
        self._script = self._client.register_script(_BATCH)

    def _receive(self, group: str, limit: int) -> int:
        read: Any = self._client.xreadgroup(group, "reader", {_STREAM: ">"}, count=limit)
        if not read:
            return 0
        ((_, entries),) = read
        self._client.xack(_STREAM, group, *(number for number, _ in entries))
        return len(entries)


def _as_it_came(answer: Any, **_: object) -> Any:
    return answer  # lists: to make a dictionary of every entry takes longer than to receive it
