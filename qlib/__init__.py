"""The Python client of Queue Lab: publish to topics, read them as subscribers, replay at will."""

from qlib.errors import (
    DefiniteError,
    IndefiniteError,
    InvalidRequest,
    MessageTooLarge,
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
from qlib.models import Batch, Message, Reset, Subscriber, Topic
from qlib.publisher import QPublisher
from qlib.subscriber import QSubscriber

__all__ = [
    "Batch",
    "DefiniteError",
    "IndefiniteError",
    "InvalidRequest",
    "Message",
    "MessageTooLarge",
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
