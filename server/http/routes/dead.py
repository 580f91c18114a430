"""Dead letters: the messages that a subscriber has given up."""

from server.http import work
from server.http.fields import MAX_LIMIT
from server.http.operations import Answer, Context, operation
from server.http.routes.subscribers import MISSING, ONE
from server.queue.wakeups import work_of

_DEAD = ONE + "/dead"


@operation("GET", _DEAD, query=work.NumberedPage, answer=work.Dead, errors=MISSING)
async def list_dead(
    context: Context, query: work.NumberedPage, topic: str, subscriber: str
) -> Answer:
    """List the dead letters in the order of their offsets, a page at a time."""
    limit = min(query.limit, MAX_LIMIT)
    page = await context.engine.dead(topic, subscriber, query.after, limit)
    return Answer('{"dead":[' + page + "]}")


@operation("POST", _DEAD + "/redrive", body=work.DeadLetters, answer=work.Redriven, errors=MISSING)
async def redrive(context: Context, body: work.DeadLetters, topic: str, subscriber: str) -> Answer:
    """Give dead letters to the workers again, their attempts counted anew."""
    limit = min(body.limit, MAX_LIMIT)
    redriven = await context.engine.redrive(topic, subscriber, body.offsets, limit)
    context.wakeups.happened(work_of(topic, subscriber))
    return Answer(f'{{"redriven":{redriven}}}')


@operation("DELETE", _DEAD, body=work.DeadLetters, answer=work.Removed, errors=MISSING)
async def remove_dead(
    context: Context, body: work.DeadLetters, topic: str, subscriber: str
) -> Answer:
    """Remove dead letters for good."""
    limit = min(body.limit, MAX_LIMIT)
    removed = await context.engine.remove_dead(topic, subscriber, body.offsets, limit)
    return Answer(f'{{"removed":{removed}}}')
