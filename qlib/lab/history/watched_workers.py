"""The half of a stand-in that is about workers: their leases, and what they do with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from qlib.attempts import Outage
from qlib.lab.history.operation import Recorder, messages
from qlib.leased import Acked, DeadLetter, LeaseInfo, Nacked
from qlib.models import Subscriber
from qlib.reading import Leased
from qlib.subscriber import QSubscriber
from qlib.workers import Offsets, Workers, several

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
        return self._call(
            "lease",
            act=lambda: self._client._lease(limit, seconds, wait, outage),
            told=_leased,
            limit=limit,
            seconds=seconds,
            wait=wait,
        )

    def _ack_lease(
        self, lease: str, offsets: Sequence[int] | None, outage: Outage | None = None
    ) -> Acked:
        return self._call(
            "ack_lease",
            act=lambda: self._client._ack_lease(lease, offsets, outage),
            told=lambda it: {"count": it.acked, "position": it.position, "epoch": it.epoch},
            lease=lease,
            offsets=tuple(offsets or ()),
        )

    def _nack(self, lease: str, fields: dict[str, Any], outage: Outage | None = None) -> Nacked:
        return self._call(
            "nack",
            act=lambda: self._client._nack(lease, fields, outage),
            told=lambda it: {"count": it.nacked, "buried": it.dead},
            lease=lease,
            offsets=tuple(fields.get("offsets", ())),
            delay=fields.get("delay_seconds"),
            untried=fields.get("untried", False),
        )

    def _extend(self, lease: str, seconds: float, outage: Outage | None = None) -> datetime:
        return self._call(
            "extend",
            act=lambda: self._client._extend(lease, seconds, outage),
            told=lambda expires_at: {"expires": expires_at.timestamp()},
            lease=lease,
            seconds=seconds,
        )

    def dead(self, after: int | None = None, limit: int = 100) -> list[DeadLetter]:
        """Return dead letters."""
        return self._call("dead", act=lambda: self._client.dead(after, limit))

    def leases(self, after: str | None = None, limit: int = 100) -> list[LeaseInfo]:
        """Return leases that are out."""
        return self._call("leases", act=lambda: self._client.leases(after, limit))

    def redrive(self, offsets: Offsets | None = None, limit: int = 1000) -> int:
        """Give dead letters to the workers again."""
        return self._chosen("redrive", self._client.redrive, offsets, limit)

    def remove_dead(self, offsets: Offsets | None = None, limit: int = 1000) -> int:
        """Remove dead letters for good."""
        return self._chosen("remove_dead", self._client.remove_dead, offsets, limit)

    def _chosen(
        self,
        kind: str,
        act: Callable[[Offsets | None, int], int],
        offsets: Offsets | None,
        limit: int,
    ) -> int:
        chosen = several(offsets)
        return self._call(
            kind,
            act=lambda: act(chosen, limit),
            told=lambda count: {"count": count},
            offsets=tuple(chosen or ()),
            limit=limit,
        )

    def _configure(self, fields: dict[str, Any]) -> Subscriber:
        return self._call(
            "configure",
            act=lambda: self._client._configure(fields),
            told=standing,
            max_attempts=fields.get("max_attempts"),
            backoff_cap=fields.get("backoff_cap_seconds"),
            ordered=fields.get("ordered"),
        )


def standing(subscriber: Subscriber) -> dict[str, Any]:
    """Return where a subscriber stands, and how its workers work, as fields of an operation."""
    return {
        "position": subscriber.position,
        "epoch": subscriber.epoch,
        "max_attempts": subscriber.max_attempts,
        "backoff_cap": subscriber.backoff_cap_seconds,
        "ordered": subscriber.ordered,
    }


def _leased(found: Leased) -> dict[str, Any]:
    if found.expires_at is None:
        return {}
    return messages(found.messages) | {
        "lease": found.lease,
        "expires": found.expires_at.timestamp(),
        "attempts": tuple(message.attempt for message in found.messages),
    }
