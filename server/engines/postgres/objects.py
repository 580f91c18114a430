"""The objects that answers are made of, as the SQL that makes their JSON text."""


def rfc3339(column: str) -> str:
    """Return the SQL of a time's text."""
    return f"""to_char({column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def _subscriber(settings: str) -> str:
    return f"""json_build_object('topic', s.topic, 'subscriber', s.subscriber,
    'position', s."position", 'epoch', s.epoch, 'head', s.head, 'lag', s.head - s."position",
    'created_at', {rfc3339("s.created_at")}, 'max_attempts', {settings}.max_attempts,
    'backoff_seconds', {settings}.backoff_seconds,
    'backoff_cap_seconds', {settings}.backoff_cap_seconds, 'ordered', {settings}.ordered)::text"""


TOPIC = f"""json_build_object('topic', t.topic, 'description', t.description,
    'created_at', {rfc3339("t.created_at")}, 'floor', t.floor, 'head', t.head,
    'subscribers', t.subscribers)::text"""
# A subscriber s with its settings c, which are no part of its row: what functions return never changes.
SUBSCRIBER = _subscriber(settings="c")
SETTINGS = "lateral queue.settings(s.topic, s.subscriber) c"
SUBSCRIBED = _subscriber(settings="r")  # as the statement itself has found or made them
