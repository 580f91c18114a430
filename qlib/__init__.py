"""The Python client of Queue Lab: publish to topics, read them as subscribers, replay at will."""

from qlib.buffered import Buffered
from qlib.errors import (
    DefiniteError,
    IndefiniteError,
    InvalidRequest,
    KeyOrder,
    LeaseExpired,
    LeasesOut,
    MessageTooLarge,
    NotSent,
    OffsetOutOfRange,
    OutcomeUnknown,
    QueueError,
    SequenceConflict,
    StaleEpoch,
    SubscriberNotFound,
    TopicExists,
    TopicNotFound,
    Unauthorized,
    Unavailable,
    UnreadableAnswer,
    UnreadableMessage,
)
from qlib.handle import Handle
from qlib.lease import Lease
from qlib.leased import Acked, DeadLetter, LeasedMessage, LeaseInfo, Nacked
from qlib.models import Batch, Message, Reset, Subscriber, Topic
from qlib.publisher import QPublisher
from qlib.subscriber import QSubscriber

__all__ = [
    "Acked",
    "Batch",
    "Buffered",
    "DeadLetter",
    "DefiniteError",
    "Handle",
    "IndefiniteError",
    "InvalidRequest",
    "KeyOrder",
    "Lease",
    "LeaseExpired",
    "LeaseInfo",
    "LeasedMessage",
    "LeasesOut",
    "Message",
    "MessageTooLarge",
    "Nacked",
    "NotSent",
    "OffsetOutOfRange",
    "OutcomeUnknown",
    "QPublisher",
    "QSubscriber",
    "QueueError",
    "Reset",
    "SequenceConflict",
    "StaleEpoch",
    "Subscriber",
    "SubscriberNotFound",
    "Topic",
    "TopicExists",
    "TopicNotFound",
    "Unauthorized",
    "Unavailable",
    "UnreadableAnswer",
    "UnreadableMessage",
]
