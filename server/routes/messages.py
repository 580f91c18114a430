"""Messages: publish and browse."""

import json
from itertools import repeat

import msgspec

from server import schemas
from server.body import check_messages
from server.errors import Problem
from server.metrics import PUBLISHED
from server.operations import Answer, Context, operation


@operation(
    "POST",
    "/topics/<topic>/messages",
    body=schemas.Batch,
    answer=schemas.Published,
    statuses=(201,),
    errors=("topic_not_found", "sequence_conflict", "message_too_large", "invalid_message"),
)
def publish(context: Context, body: schemas.Batch, topic: str) -> Answer:
    """Publish messages: all of them or none, with offsets one after the other."""
    _check(body)
    stored = context.engine.publish(
        topic,
        _array(body.payloads),
        body.keys,
        None if body.headers is None else _array(body.headers),
        body.producer,
        body.sequence,
    )
    context.wakeups.happened(topic)
    count = stored.last_offset - stored.first_offset + 1
    if not stored.duplicate:
        PUBLISHED.inc(count)
    return Answer(json.dumps({"topic": topic, "count": count} | stored._asdict()))


@operation(
    "GET",
    "/topics/<topic>/messages",
    query=schemas.BrowseQuery,
    answer=schemas.Browsed,
    errors=("topic_not_found", "offset_out_of_range"),
)
def browse(context: Context, query: schemas.BrowseQuery, topic: str) -> Answer:
    """Read messages without a subscriber; the first one is at `offset`."""
    limit = min(query.limit, schemas.MAX_LIMIT)
    found = context.engine.browse(topic, query.offset, limit)
    return Answer(
        f'{{"topic":"{topic}","floor":{found.position},"head":{found.head},"messages":[{found.messages}]}}'
    )


def _check(body: schemas.Batch) -> None:
    for name in ("keys", "headers"):
        given = getattr(body, name)
        if given is not None and len(given) != len(body.payloads):
            raise Problem(
                "invalid_request",
                f"there are {len(body.payloads)} payloads and {len(given)} {name}",
            )
    nothing = repeat(None)
    rows = zip(body.payloads, body.keys or nothing, body.headers or nothing, strict=False)
    check_messages(list(rows))


def _array(parts: list[msgspec.Raw]) -> str:
    # the text of each part as it came, so that a payload is read back byte for byte
    return "[" + b",".join(map(bytes, parts)).decode() + "]"
