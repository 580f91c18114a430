"""Opening a session that takes writes and has every setting that the queue relies on.

The caller's connection string is kept whole; ours comes in addition. Settings are made after connecting, since poolers
refuse or drop those of the start, and read back in the same round trip.
"""

import asyncio
import itertools

import psycopg2
from psycopg2.extensions import make_dsn

from server.engines.postgres.addresses import places, said
from server.engines.postgres.failures import NotWritable, Unfit
from server.engines.postgres.session import Session

# What must hold whatever a role or a database sets, each as Postgres shows it. Every wait is bounded: for a lock, for
# a statement, for us in a transaction; and no session is ended for being idle or long.
SETTINGS = {
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "10s",
    "idle_session_timeout": "0",
    "TimeZone": "UTC",
    "default_transaction_isolation": "read committed",  # above it, a publish fails beside another
    "search_path": "pg_catalog, pg_temp",
    "row_security": "on",
    # a statement is planned once: a plan made while a table was small would read all of it for ever
    "enable_seqscan": "off",
    "jit": "off",  # before 18, a table that has no index for a statement would look expensive enough for it
    "exit_on_error": "off",  # on, a topic that does not exist ends the session
}
_SINCE_17 = {"transaction_timeout": "0"}
# What must stay as it was at the start: psycopg2 looks at it once, and then quotes for it.
_KEPT = "standard_conforming_strings"

# And for the connection and a peer that went silent, unless the caller says otherwise.
_NETWORK = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


async def connect(dsn: str, **settings: str) -> Session:
    """Open a session in autocommit mode; `settings` go before ours.

    Raises psycopg2.OperationalError when the database does not answer, NotWritable among them, and Unfit.
    """
    found = said(dsn)
    ours = {name: value for name, value in _NETWORK.items() if not found.get(name)}
    encoding = {"client_encoding": "UTF8"}  # of all places where it can be set, this one counts
    whole = make_dsn(dsn, fallback_application_name="queue-server", **ours, **encoding)
    seconds = _seconds((found | ours)["connect_timeout"])
    session = await _first(whole, found, seconds)
    try:
        since = _SINCE_17 if session.server_version >= 170000 else {}
        kept = {_KEPT: session.get_parameter_status(_KEPT) or "on"}
        # a pooler takes a connection before it has a backend for it, and then lets it wait for minutes
        async with asyncio.timeout(seconds):
            await _set_up(session, SETTINGS | since | kept | settings)
    except TimeoutError:
        session.close()
        raise psycopg2.OperationalError(
            f"no answer within {seconds:g} s: has the pooler no session left?"
        ) from None
    except BaseException:
        session.close()
        raise
    return session


def _seconds(text: str) -> float | None:
    try:
        return int(text) if int(text) > 0 else None  # else the caller wants to wait for ever
    except ValueError:
        said = f'invalid integer value "{text}" for connection option "connect_timeout"'
        raise psycopg2.OperationalError(said) from None


async def _first(whole: str, found: dict[str, str], seconds: float | None) -> Session:
    # libpq would take them in this order, too, but in this mode it does not go on from one that is silent
    named = places(found)
    if not named:
        return await _open(whole, seconds)
    failures: list[str] = []
    for place in named:
        try:
            addresses = await place.addresses(seconds)
        except psycopg2.OperationalError as error:
            failures.append(str(error))
            continue
        for address in addresses:
            try:
                return await _open(make_dsn(whole, **address._asdict()), seconds)
            except psycopg2.OperationalError as error:
                failures.append(str(error).strip())
    raise psycopg2.OperationalError("\n".join(failures))


async def _open(dsn: str, seconds: float | None) -> Session:
    session = psycopg2.connect(dsn, connection_factory=Session, async_=True)
    try:
        async with asyncio.timeout(seconds):
            await session.opened()
    except TimeoutError:
        session.close()
        raise psycopg2.OperationalError(
            f"timeout expired: no answer within {seconds:g} s"
        ) from None
    except BaseException:
        session.close()
        raise
    return session


async def _set_up(session: Session, wanted: dict[str, str]) -> None:
    sets = ", ".join(["pg_catalog.set_config(%s, %s, false)"] * len(wanted))
    reads = ", ".join(["pg_catalog.current_setting(%s)"] * len(wanted))
    ((session.backend, holds, speaks, recovers, read_only, *found),) = await session.execute(
        f"""set statement_timeout = 0; -- the role's own may be too short for this
            select {sets};
            select pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_encoding'),
                   pg_catalog.pg_client_encoding(), pg_catalog.pg_is_in_recovery(),
                   pg_catalog.current_setting('transaction_read_only'), {reads}""",
        [*itertools.chain(*wanted.items()), *wanted],
    )
    if holds != "UTF8":
        raise Unfit(
            f"the database keeps its text as {holds}, which cannot hold every message: make another one with"
            " create database NAME encoding 'UTF8' template template0"
        )
    if recovers:
        raise NotWritable("the database is a standby, which takes no writes")
    if read_only != "off":
        raise NotWritable("the database is read only: default_transaction_read_only is on")
    missed = [name for name, got in zip(wanted, found, strict=True) if got != wanted[name]]
    if missed or speaks != "UTF8":
        raise Unfit(f"the session did not take {', '.join(missed) or 'UTF-8'}: is there a pooler?")
