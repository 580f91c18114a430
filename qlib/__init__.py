"""The Python client of Queue Lab: publish to topics, read them as subscribers, replay at will."""

from qlib.buffered import Buffered
from qlib.errors import (
    DefiniteError,
    IndefiniteError,
    InvalidRequest,
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
from qlib.models import Batch, Message, Reset, Subscriber, Topic
from qlib.publisher import QPublisher
from qlib.subscriber import QSubscriber

__all__ = [
    "Batch",
    "Buffered",
    "DefiniteError",
    "Handle",
    "IndefiniteError",
    "InvalidRequest",
    "Message",
    "MessageTooLarge",
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
