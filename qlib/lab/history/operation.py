"""One operation of a client: when it ran, what it asked for, and what it was told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, TypeVar

from qlib.errors import DefiniteError, InvalidRequest, OutcomeUnknown
from qlib.leased import DeadLetter
from qlib.models import Message
from qlib.reading import Kept
from qlib.values import Encode, encoder

T = TypeVar("T")
Outcome = Literal["ok", "fail", "unknown"]

BEGUN = "Begun"  # the error of what is under way, or was when its process was killed

_TO_JSON = encoder()


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a client, from just before it was sent until just after it ended.

    `kind` is the verb. `start` and `end` are seconds of one monotonic clock. `outcome` is "ok",
    "fail" (it surely did not happen) or "unknown" (it may have happened, or may yet); `error` is
    then the error's class. `process` tells the clients apart. The other fields are None or empty
    unless the kind has a use for them:

    - publish: `values` sent and `offsets` returned, one a message; `producer` and `sequence` when
      it is known to be numbered
    - fetch: `limit`, and to read ahead `offset` and the `epoch` sent; `position`, `epoch`,
      `offsets`, `values`
    - browse: `offset` to begin at and `limit`; `offsets`, `values`
    - final_read: `floor`, `head`, `offsets`, `values` of the whole topic
    - ack: `offset` and `epoch` sent; `position` returned
    - seek, reset: `offset`, the position moved to, None when only a time is known
    - subscribe, info, configure: `position`, `epoch`, `max_attempts`, `backoff_cap` and `ordered` of
      the subscriber then; of a configure in doubt the settings sent, None for those that stay
    - lease: `limit`, `seconds` and `wait` sent; the id as `lease` and when it expires as `expires`,
      None when nothing came; `offsets`, `values`, `attempts`, and `keys` when a message has one
    - ack_lease: `lease` and `offsets` sent, none for all that it holds; `count` done by it;
      `position` and `epoch`
    - nack: `lease` and `offsets`, as for ack_lease, `delay` and `untried` sent; `count` given back
      and `buried`, how many are dead letters now
    - extend: `lease` and `seconds` sent; `expires`
    - redrive, remove_dead: `offsets` sent, none for the first ones, and `limit`; `count`
    - final_work: all dead letters of a subscriber, `offsets`, `values`, `attempts`; `position`,
      `epoch`, before they were read
    - restart: while it lasts the database ends, or is killed, and starts again; whoever tells one
      tells all, beginning with the start
    - dead, leases (the lists), dry_run (of a seek or reset), create_topic, delete_topic,
      unsubscribe, topic, topics, subscribers: no more

    `expires` is in seconds of the database's clock, from 1970 on. A value is a payload's canonical
    JSON text. It must be unique to its attempt to publish for the strongest check: of two messages
    with the same value, nobody can tell which one was lost.
    """

    kind: str
    topic: str
    start: float
    end: float
    outcome: Outcome = "ok"
    error: str | None = None
    process: str = ""
    subscriber: str | None = None
    offset: int | None = None
    limit: int | None = None
    position: int | None = None
    epoch: int | None = None
    floor: int | None = None
    head: int | None = None
    offsets: tuple[int, ...] = ()
    values: tuple[str, ...] = ()
    producer: str | None = None
    sequence: int | None = None
    keys: tuple[str | None, ...] = ()
    lease: str | None = None
    attempts: tuple[int, ...] = ()
    seconds: float | None = None
    expires: float | None = None
    wait: float | None = None
    delay: float | None = None
    untried: bool = False
    count: int | None = None
    buried: int | None = None
    max_attempts: int | None = None
    backoff_cap: float | None = None
    ordered: bool | None = None


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records the calls of one client, named `process`, with `keep`. Threads may share it.

    `begin` gets each call before it is sent, as one of unknown outcome.
    """

    process: str
    keep: Callable[[Operation], object]
    begin: Callable[[Operation], object] | None = None

    def call(
        self,
        kind: str,
        topic: str,
        act: Callable[[], T],
        told: Callable[[T], dict[str, Any]] = lambda result: {},
        **asked: Any,
    ) -> T:
        """Do `act` and return its result; record it with what was `asked` and what it `told`.

        Raises what `act` does, and records that as well.
        """
        start = monotonic()
        if self.begin:
            facts: dict[str, Any] = {"process": self.process, "outcome": "unknown", "error": BEGUN}
            self.begin(Operation(kind, topic, start, start, **(asked | facts)))
        try:
            result = act()
        except BaseException as error:
            end = monotonic()
            outcome: Outcome = "fail" if isinstance(error, DefiniteError) else "unknown"
            facts = {"outcome": outcome, "error": type(error).__name__, **self._number(kind, error)}
            self.keep(Operation(kind, topic, start, end, process=self.process, **(asked | facts)))
            raise
        end = monotonic()
        facts = told(result)
        self.keep(Operation(kind, topic, start, end, process=self.process, **(asked | facts)))
        return result

    def _number(self, kind: str, error: BaseException) -> dict[str, Any]:
        """Return what numbers a publish in doubt, so that its repetition is known for one."""
        if kind != "publish" or not isinstance(error, OutcomeUnknown) or error.sequence is None:
            return {}
        return {"producer": self.process, "sequence": error.sequence}


def messages(found: Iterable[Message | Kept | DeadLetter]) -> dict[str, Any]:
    """Return messages as the fields of an operation."""
    found = tuple(found)
    told: dict[str, Any] = {
        "offsets": tuple(message.offset for message in found),
        "values": tuple(_text(message.payload) for message in found),
    }
    if any(message.key is not None for message in found):
        told["keys"] = tuple(message.key for message in found)
    return told


def values(payloads: Iterable[Any], to_json: Encode = _TO_JSON) -> tuple[str, ...]:
    """Return payloads as the texts that they are read back as; `to_json` is the client's."""
    return tuple(_sent(payload, to_json) for payload in payloads)


def _sent(payload: Any, to_json: Encode) -> str:
    try:
        # There and back: a tuple comes back as a list, and a key of 1 as "1".
        return _text(json.loads(to_json(payload, "the payload")))
    except InvalidRequest:
        return repr(payload)  # The queue refuses it.


def _text(payload: Any) -> str:
    return json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
