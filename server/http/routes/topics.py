"""Topics: create, look at, delete, reset."""

import json

from server.http import schemas
from server.http.fields import MAX_LIMIT
from server.http.operations import Answer, Context, operation


@operation(
    "POST",
    "/topics",
    body=schemas.NewTopic,
    answer=schemas.Topic,
    statuses=(201,),
    errors=("topic_exists", "invalid_name"),
)
async def create_topic(context: Context, body: schemas.NewTopic) -> Answer:
    """Make a topic."""
    return Answer(await context.engine.create_topic(body.topic, body.description))


@operation("GET", "/topics", query=schemas.Page, answer=schemas.Topics)
async def list_topics(context: Context, query: schemas.Page) -> Answer:
    """List topics in the order of their names, a page at a time."""
    limit = min(query.limit, MAX_LIMIT)
    return Answer('{"topics":[' + await context.engine.topics(query.after, limit) + "]}")


@operation("GET", "/topics/<topic>", answer=schemas.Topic, errors=("topic_not_found",))
async def get_topic(context: Context, topic: str) -> Answer:
    """Look at a topic."""
    return Answer(await context.engine.topic(topic))


@operation("DELETE", "/topics/<topic>", statuses=(204,), errors=("topic_not_found",))
async def delete_topic(context: Context, topic: str) -> Answer:
    """Delete a topic with its messages and subscribers."""
    await context.engine.delete_topic(topic)
    context.wakeups.happened(topic)
    return Answer()


@operation(
    "POST",
    "/topics/<topic>/reset",
    body=schemas.Move,
    answer=schemas.Reset,
    errors=("topic_not_found", "offset_out_of_range"),
)
async def reset_topic(context: Context, body: schemas.Move, topic: str) -> Answer:
    """Move every subscriber of a topic to a position, at once."""
    offset, subscribers = await context.engine.reset(
        topic, body.offset, body.timestamp, body.dry_run
    )
    context.wakeups.happened(topic)
    return Answer(json.dumps({"topic": topic, "offset": offset, "subscribers": subscribers}))
