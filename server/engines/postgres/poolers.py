"""Telling poolers that share their backends from those that hand out sessions."""

import asyncio
import secrets
from contextlib import ExitStack, closing

from server.engines.postgres.connecting import connect
from server.engines.postgres.driven import Rows
from server.engines.postgres.failures import Unfit
from server.engines.postgres.session import Session

# Not for long: the pooler may have a single backend, for which the first one waits.
_HOLD = "begin; set local idle_in_transaction_session_timeout = '2s'; select 1"


def check(dsn: str) -> None:
    """See that a session is ours alone, by what it does: poolers that share backends show what one wants to see.

    Raises Unfit when it is not, and as `connect`.
    """
    asyncio.run(_check(dsn))


async def _check(dsn: str) -> None:
    with ExitStack() as opened:
        first, *others = [opened.enter_context(closing(await connect(dsn))) for _ in range(3)]
        await first.execute("select set_config('queue.mark', %s, false)", [secrets.token_hex(8)])
        before = await _mark(first)
        for other in others:  # one of them takes the first one's backend, if it can be taken
            try:
                await other.execute(_HOLD)
            finally:  # where transactions are refused, the other one is cut off now
                if await _mark(first) != before:
                    raise _shared(first)


async def _mark(session: Session) -> Rows:
    return await session.execute("select pg_backend_pid(), current_setting('queue.mark', true)")


def _shared(session: Session) -> Unfit:
    return Unfit(
        f"the pooler at {session.info.host}:{session.info.port} hands out transactions, and the queue needs sessions:"
        " connect to PostgreSQL itself, or let the pooler hand out sessions (pgbouncer: pool_mode = session)"
    )
