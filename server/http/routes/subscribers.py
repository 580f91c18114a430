"""Subscribers: subscribe, look at, configure, unsubscribe, fetch, ack, seek."""

import time

from server import engines
from server.http import headers, schemas
from server.http.fields import MAX_LIMIT
from server.http.operations import Answer, Context, operation

ONE = "/topics/<topic>/subscribers/<subscriber>"
MISSING = ("topic_not_found", "subscriber_not_found")


@operation(
    "POST",
    "/topics/<topic>/subscribers",
    body=schemas.NewSubscriber,
    answer=schemas.Subscriber,
    statuses=(201, 200),
    errors=("topic_not_found", "offset_out_of_range", "invalid_name"),
)
async def subscribe(context: Context, body: schemas.NewSubscriber, topic: str) -> Answer:
    """Subscribe to a topic; a subscriber that is there already is neither moved nor configured."""
    start = body.start.timestamp if isinstance(body.start, schemas.At) else body.start
    subscriber, created = await context.engine.subscribe(
        topic, body.subscriber, start, _settings(body)
    )
    return Answer(subscriber, 201 if created else 200)


@operation(
    "GET",
    "/topics/<topic>/subscribers",
    query=schemas.Page,
    answer=schemas.Subscribers,
    errors=("topic_not_found",),
)
async def list_subscribers(context: Context, query: schemas.Page, topic: str) -> Answer:
    """List a topic's subscribers in the order of their names, a page at a time."""
    limit = min(query.limit, MAX_LIMIT)
    page = await context.engine.subscribers(topic, query.after, limit)
    return Answer('{"subscribers":[' + page + "]}")


@operation("GET", ONE, answer=schemas.Subscriber, errors=MISSING)
async def get_subscriber(context: Context, topic: str, subscriber: str) -> Answer:
    """Look at a subscriber."""
    return Answer(await context.engine.subscriber(topic, subscriber))


@operation(
    "PATCH",
    ONE,
    body=schemas.Settings,
    answer=schemas.Subscriber,
    errors=(*MISSING, "leases_out"),
)
async def configure(
    context: Context, body: schemas.Settings, topic: str, subscriber: str
) -> Answer:
    """Change how a subscriber's workers work; `ordered` only while nothing is leased or delayed."""
    return Answer(await context.engine.configure(topic, subscriber, _settings(body)))


def _settings(body: schemas.Settings) -> engines.WorkSettings:
    return engines.WorkSettings(
        body.max_attempts, body.backoff_seconds, body.backoff_cap_seconds, body.ordered
    )


@operation("DELETE", ONE, statuses=(204,), errors=MISSING)
async def unsubscribe(context: Context, topic: str, subscriber: str) -> Answer:
    """Remove a subscriber with its position."""
    await context.engine.unsubscribe(topic, subscriber)
    context.wakeups.happened(topic)
    return Answer()


@operation(
    "GET",
    ONE + "/messages",
    query=schemas.FetchQuery,
    headers=headers.FetchHeaders,
    answer=schemas.Fetched,
    answer_headers=headers.FetchedHeaders,
    errors=(*MISSING, "stale_epoch", "offset_out_of_range"),
)
async def fetch(
    context: Context,
    query: schemas.FetchQuery,
    sent: headers.FetchHeaders,
    topic: str,
    subscriber: str,
) -> Answer:
    """Fetch the messages after the position, in order; nothing moves."""
    asked = engines.Fetch(subscriber, min(query.limit, MAX_LIMIT), query.after, query.epoch)
    (found,) = await context.engine.fetch(topic, [asked])
    other = sent.client and context.readers.other(topic, subscriber, sent.client)
    if not found.messages and query.wait > 0:
        found = await _wait(context, topic, asked, query.wait)
    return Answer(
        f'{{"topic":"{topic}","subscriber":"{subscriber}","position":{found.position},'
        f'"epoch":{found.epoch},"head":{found.head},"messages":[{found.messages}]}}',
        headers=() if other is None else (("Queue-Other-Client", f"{other:.6f}"),),
    )


async def _wait(
    context: Context, topic: str, asked: engines.Fetch, seconds: float
) -> engines.Fetched:
    deadline = time.monotonic() + seconds
    with context.wakeups.watch(topic) as watch:
        while True:
            found = await context.fusion.look(topic, asked)
            left = deadline - time.monotonic()
            if found.messages or left <= 0 or context.wakeups.stopping:
                return found
            context.wakeups.seen(topic, found.head)
            await watch.wait(left)


@operation(
    "POST",
    ONE + "/ack",
    body=schemas.Ack,
    answer=schemas.Acked,
    errors=(*MISSING, "stale_epoch", "offset_out_of_range"),
)
async def ack(context: Context, body: schemas.Ack, topic: str, subscriber: str) -> Answer:
    """Say that everything up to an offset is done."""
    asked = engines.Ack(subscriber, body.offset, body.epoch)
    position, epoch, head, lag = await context.fusion.ack(topic, asked)
    return Answer(f'{{"position":{position},"epoch":{epoch},"head":{head},"lag":{lag}}}')


@operation(
    "POST",
    ONE + "/seek",
    body=schemas.Move,
    answer=schemas.Subscriber,
    errors=(*MISSING, "offset_out_of_range"),
)
async def seek(context: Context, body: schemas.Move, topic: str, subscriber: str) -> Answer:
    """Move one subscriber to a position."""
    moved = await context.engine.seek(topic, subscriber, body.offset, body.timestamp, body.dry_run)
    context.wakeups.happened(topic)
    return Answer(moved)
