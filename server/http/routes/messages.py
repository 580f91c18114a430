"""Messages: publish and browse."""

from server.engines import Batch
from server.http import schemas
from server.http.decoding import array, check_messages
from server.http.errors import Problem
from server.http.fields import MAX_LIMIT
from server.http.metrics import PUBLISHED
from server.http.operations import Answer, Context, operation


def _batch(body: schemas.Batch) -> Batch:
    # the text of each part as it came, so that a payload is read back byte for byte
    for name, given in (("keys", body.keys), ("headers", body.headers)):
        if given is not None and len(given) != len(body.payloads):
            raise Problem(
                "invalid_request",
                f"there are {len(body.payloads)} payloads and {len(given)} {name}",
            )
    check_messages(body.payloads, body.keys, body.headers)
    return Batch(
        array(body.payloads),
        len(body.payloads),
        body.keys,
        None if body.headers is None else array(body.headers),
        body.producer,
        body.sequence,
    )


@operation(
    "POST",
    "/topics/<topic>/messages",
    body=schemas.Batch,
    into=_batch,
    answer=schemas.Published,
    statuses=(201,),
    errors=("topic_not_found", "sequence_conflict", "message_too_large", "invalid_message"),
)
async def publish(context: Context, batch: Batch, topic: str) -> Answer:
    """Publish messages: all of them or none, with offsets one after the other."""
    first, last, duplicate = await context.fusion.publish(topic, batch)
    count = last - first + 1
    if not duplicate:
        PUBLISHED.inc(count)
    return Answer(
        f'{{"topic":"{topic}","first_offset":{first},"last_offset":{last},"count":{count},'
        f'"duplicate":{"true" if duplicate else "false"}}}'
    )


@operation(
    "GET",
    "/topics/<topic>/messages",
    query=schemas.BrowseQuery,
    answer=schemas.Browsed,
    errors=("topic_not_found", "offset_out_of_range"),
)
async def browse(context: Context, query: schemas.BrowseQuery, topic: str) -> Answer:
    """Read messages without a subscriber; the first one is at `offset`."""
    limit = min(query.limit, MAX_LIMIT)
    found = await context.engine.browse(topic, query.offset, limit)
    return Answer(
        f'{{"topic":"{topic}","floor":{found.position},"head":{found.head},"messages":[{found.messages}]}}'
    )
