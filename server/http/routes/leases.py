"""Leases: what a worker has for itself, and what becomes of it."""

from server import engines
from server.http import work
from server.http.fields import MAX_LIMIT
from server.http.operations import Answer, Context, operation
from server.http.routes.subscribers import MISSING, ONE
from server.queue.wakeups import work_of

_LEASES = ONE + "/leases"
_LEASE = _LEASES + "/<lease>"


@operation(
    "POST",
    _LEASES,
    body=work.NewLease,
    answer=work.Leased,
    errors=(*MISSING, "offset_out_of_range"),
    patient=True,
)
async def lease(context: Context, body: work.NewLease, topic: str, subscriber: str) -> Answer:
    """Lease messages: nobody else has them until the lease expires."""
    limit = min(body.limit, MAX_LIMIT)
    wanted = engines.Lease(subscriber, body.worker, limit, body.lease_seconds)
    leased = await context.leases.lease(topic, wanted, body.wait)
    named = "null" if leased.lease is None else f'"{leased.lease}"'
    until = "null" if leased.expires_at is None else f'"{leased.expires_at}"'
    return Answer(
        f'{{"topic":"{topic}","subscriber":"{subscriber}","lease":{named},"expires_at":{until},'
        f'"messages":[{leased.messages}]}}'
    )


@operation(
    "POST",
    _LEASE + "/ack",
    body=work.LeaseAck,
    answer=work.LeaseAcked,
    errors=(*MISSING, "lease_expired", "key_order"),
)
async def ack_lease(
    context: Context, body: work.LeaseAck, topic: str, subscriber: str, lease: str
) -> Answer:
    """Say that messages of a lease are done; the same again does nothing more."""
    asked = engines.LeaseAck(subscriber, lease, body.offsets)
    done = await context.fusion.ack_lease(topic, asked)
    return Answer(
        f'{{"acked":{done.acked},"position":{done.position},"epoch":{done.epoch},'
        f'"head":{done.head},"lag":{done.lag}}}'
    )


@operation(
    "POST",
    _LEASE + "/nack",
    body=work.Nack,
    answer=work.Nacked,
    errors=(*MISSING, "lease_expired", "key_order"),
)
async def nack(
    context: Context, body: work.Nack, topic: str, subscriber: str, lease: str
) -> Answer:
    """Give messages of a lease back, for another attempt; after the last one they are dead letters."""
    asked = engines.Nack(
        subscriber, lease, body.offsets, body.delay_seconds, body.error, body.untried
    )
    nacked, dead = await context.engine.nack(topic, asked)
    context.wakeups.happened(work_of(topic, subscriber))
    return Answer(f'{{"nacked":{nacked},"dead":{dead}}}')


@operation(
    "POST",
    _LEASE + "/extend",
    body=work.Extension,
    answer=work.Extended,
    errors=(*MISSING, "lease_expired"),
)
async def extend(
    context: Context, body: work.Extension, topic: str, subscriber: str, lease: str
) -> Answer:
    """Hold what is left of a lease for longer."""
    until = await context.engine.extend(topic, subscriber, lease, body.lease_seconds)
    return Answer(f'{{"expires_at":"{until}"}}')


@operation("GET", _LEASES, query=work.NumberedPage, answer=work.HeldLeases, errors=MISSING)
async def list_leases(
    context: Context, query: work.NumberedPage, topic: str, subscriber: str
) -> Answer:
    """List the leases that have not expired in the order in which they were made, a page at a time."""
    limit = min(query.limit, MAX_LIMIT)
    page = await context.engine.leases(topic, subscriber, query.after, limit)
    return Answer('{"leases":[' + page + "]}")
