"""The half of a stand-in that is about workers: their leases, and what they do with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from qlib.attempts import Outage
from qlib.lab.history.operation import Recorder
from qlib.leased import Acked, Nacked
from qlib.models import Subscriber
from qlib.reading import Leased
from qlib.subscriber import QSubscriber
from qlib.workers import Offsets, Workers

T = TypeVar("T")


class WatchedWorkers(Workers):
    """What every operation of Workers goes through; a lease made here acts through it, too."""

    _client: QSubscriber
    _recorder: Recorder

    def _call(
        self,
        kind: str,
        act: Callable[[], T],
        told: Callable[[T], dict[str, Any]] = lambda _: {},
        **facts: Any,
    ) -> T:
        return self._recorder.call(kind, self.topic, act, told, subscriber=self.subscriber, **facts)

    def _lease(
        self, limit: int, seconds: float, wait: float, outage: Outage | None = None
    ) -> Leased:
        return self._call("lease", act=lambda: self._client._lease(limit, seconds, wait, outage))

    def _ack_lease(
        self, lease: str, offsets: Sequence[int] | None, outage: Outage | None = None
    ) -> Acked:
        return self._call("ack_lease", act=lambda: self._client._ack_lease(lease, offsets, outage))

    def _nack(self, lease: str, fields: dict[str, Any], outage: Outage | None = None) -> Nacked:
        return self._call("nack", act=lambda: self._client._nack(lease, fields, outage))

    def _extend(self, lease: str, seconds: float, outage: Outage | None = None) -> datetime:
        return self._call("extend", act=lambda: self._client._extend(lease, seconds, outage))

    def redrive(self, offsets: Offsets | None = None, limit: int = 1000) -> int:
        """Give dead letters to the workers again."""
        return self._call("redrive", act=lambda: self._client.redrive(offsets, limit))

    def remove_dead(self, offsets: Offsets | None = None, limit: int = 1000) -> int:
        """Remove dead letters for good."""
        return self._call("remove_dead", act=lambda: self._client.remove_dead(offsets, limit))

    def _configure(self, fields: dict[str, Any]) -> Subscriber:
        return self._call("configure", act=lambda: self._client._configure(fields))
