"""Everything that can go wrong, as one tree with two branches.

QueueError
├── DefiniteError
│   ├── InvalidRequest
│   ├── KeyOrder
│   ├── LeaseExpired
│   ├── LeasesOut
│   ├── MessageTooLarge
│   ├── NotSent
│   ├── OffsetOutOfRange
│   ├── SequenceConflict
│   ├── StaleEpoch
│   ├── SubscriberNotFound
│   ├── TopicExists
│   ├── TopicNotFound
│   ├── Unauthorized
│   ├── Unavailable
│   └── UnreadableAnswer
│       └── UnreadableMessage
└── IndefiniteError
    └── OutcomeUnknown

A definite error says: it surely did not happen. An indefinite one says: it may have happened, or
may yet; only what changes something raises it, since a read that fails has done nothing. The first
line of a class's docstring is its message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST_DETAIL = 500


class QueueError(Exception):
    """The queue did not do what was asked.

    `detail` is what the server or the client had to say about this one case; `status`, `code` and
    `request_id` come from the server's answer and are None when there was none. `retry_after` is
    the pause in seconds that the server asked for. `published` holds the offsets that a
    `publish_many` had already stored when it failed, in order; of a buffer, those of the last 100
    batches.
    """

    published: Sequence[int] = ()

    def __init__(
        self,
        detail: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float = 0.0,
    ) -> None:
        """Keep the facts of this one case."""
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        """Return the class's message, then the detail."""
        # Under `python -OO` there are no docstrings.
        message = (type(self).__doc__ or type(self).__name__).splitlines()[0]
        return f"{message.rstrip('.')}: {self.detail}" if self.detail else message


class DefiniteError(QueueError):
    """It surely did not happen."""


class IndefiniteError(QueueError):
    """It may have happened, or may yet."""


class InvalidRequest(DefiniteError):
    """The request is not one that the queue understands."""


class KeyOrder(DefiniteError):
    """With order by key, messages of one key are settled in their order; nothing was done."""


class LeaseExpired(DefiniteError):
    """The lease holds these messages no longer; nothing was done.

    It has expired, or they were given back, or it is from before a reset or seek, or lost in a crash
    of the database. Others may work on them by now.
    """


class LeasesOut(DefiniteError):
    """Order by key cannot change while messages are leased, delayed or wait; nothing was done."""


class MessageTooLarge(DefiniteError):
    """The message, or the whole request, is larger than the queue takes."""


class NotSent(DefiniteError):
    """A message before it failed, and to keep the order this one was not sent.

    The cause is the error of that message. Only a buffer raises it.
    """


class OffsetOutOfRange(DefiniteError):
    """The offset is not within what the topic holds.

    `floor` is the first offset still kept and `head` the last one, when the server names them.
    """

    floor: int | None = None
    head: int | None = None


class SequenceConflict(DefiniteError):
    """The producer has used the sequence number before, for other messages."""


class StaleEpoch(DefiniteError):
    """The subscriber was reset, sought or made anew since the fetch that this call goes on from."""


class SubscriberNotFound(DefiniteError):
    """The topic has no subscriber of this name."""


class TopicExists(DefiniteError):
    """There is a topic of this name already."""


class TopicNotFound(DefiniteError):
    """There is no topic of this name."""


class Unauthorized(DefiniteError):
    """The queue does not accept this token."""


class Unavailable(DefiniteError):
    """The queue cannot be reached or cannot serve now; nothing was done."""


class UnreadableAnswer(DefiniteError):
    """What came back for a read is not what the contract says; nothing was done."""


class UnreadableMessage(UnreadableAnswer):
    """The queue keeps a message that this client cannot read; nothing was done.

    `offset` is its offset, and `epoch` the subscriber's when it was fetched, None from a browse. It
    is longer or nested deeper than the queue takes by now, or holds a longer number than Python
    does. It comes again until it is acknowledged: `ack(error.offset)` leaves it behind.
    """

    offset: int
    epoch: int | None = None


class OutcomeUnknown(IndefiniteError):
    """No valid answer came back: it may have happened, or may yet.

    From a publish it carries `producer` and `sequence`, so that the caller can repeat the publish
    under the same number; from anything else they are None.
    """

    producer: str | None = None
    sequence: int | None = None


_BY_CODE: dict[str, type[DefiniteError]] = {
    "body_too_large": MessageTooLarge,
    "disk_full": Unavailable,
    "invalid_message": InvalidRequest,
    "invalid_name": InvalidRequest,
    "invalid_request": InvalidRequest,
    "key_order": KeyOrder,
    "lease_expired": LeaseExpired,
    "leases_out": LeasesOut,
    "message_too_large": MessageTooLarge,
    "offset_out_of_range": OffsetOutOfRange,
    "sequence_conflict": SequenceConflict,
    "stale_epoch": StaleEpoch,
    "subscriber_not_found": SubscriberNotFound,
    "topic_exists": TopicExists,
    "topic_not_found": TopicNotFound,
    "unauthorized": Unauthorized,
    "unavailable": Unavailable,
}
# For a proxy's refusal, which has no code of ours.
_BY_STATUS: dict[int, type[DefiniteError]] = {
    401: Unauthorized,
    413: MessageTooLarge,
    429: Unavailable,
}


def from_answer(status: int, problem: Mapping[str, Any], retry_after: float = 0.0) -> QueueError:
    """Return the error that an answer other than 2xx stands for.

    `problem` is the answer's JSON object, empty when it had none; `retry_after` is in seconds.
    """
    code = _text(problem, "code")
    error = _class_for(status, code, problem.get("outcome"))(
        _text(problem, "detail") or f"HTTP status {status}",
        status=status,
        code=code,
        request_id=_text(problem, "request_id"),
        retry_after=retry_after,
    )
    if isinstance(error, OffsetOutOfRange):
        error.floor, error.head = _integer(problem, "floor"), _integer(problem, "head")
    return error


def is_broken(error: OutcomeUnknown) -> bool:
    """Tell whether an answer did come, but from no queue: to ask again would not help."""
    return error.status is not None and error.status < 500


def in_doubt(error: DefiniteError) -> OutcomeUnknown:
    """Return what the error of a last attempt means when an earlier one may have happened."""
    detail = f"after an attempt without answer: {error}"
    return OutcomeUnknown(detail, status=error.status, code=error.code, request_id=error.request_id)


def _class_for(status: int, code: str | None, outcome: object) -> type[QueueError]:
    if 400 <= status < 500:
        return _BY_CODE.get(code or "", _BY_STATUS.get(status, InvalidRequest))
    refused = outcome == "none" if status == 503 else status == 507 and outcome != "unknown"
    return Unavailable if refused else OutcomeUnknown


def _text(problem: Mapping[str, Any], name: str) -> str | None:
    value = problem.get(name)
    return value[:_LONGEST_DETAIL] if isinstance(value, str) else None


def _integer(problem: Mapping[str, Any], name: str) -> int | None:
    value = problem.get(name)
    return value if type(value) is int else None
