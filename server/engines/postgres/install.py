"""Applying the SQL files of `init/` to a database."""

import asyncio
import hashlib
import logging
import time
from pathlib import Path

import psycopg2
import psycopg2.errors

from server.engines.postgres.connecting import connect
from server.engines.postgres.session import Session

INIT = Path(__file__).resolve().parents[3] / "init"
_OURS = INIT / "05_ours.sql"
_ROLES = INIT / "90_roles.sql"
_PATIENCE = 60.0
# Under Postgres' deadlock_timeout (1 s), so that it is we who give way to traffic, never the reverse.
_LOCK_TIMEOUT = "300ms"
_PAUSE = 0.1

# Raised by the files: the schema is somebody else's; the database has the files of a newer version.
_FOREIGN, _NEWER = "QL090", "QL091"

# Whose role lacks what for the files to be applied, as the statements that would help.
_REMEDIES = """
with owner (role) as (
    select n.nspowner from pg_namespace n where n.nspname = 'queue'
    union select c.relowner from pg_class c where c.relnamespace = to_regnamespace('queue') and c.relname = 'topic'
    union select r.oid from pg_roles r where r.rolname = 'queue_owner')
select format('grant %I to %I', r.rolname, current_user)
from owner join pg_roles r on r.oid = owner.role where not pg_has_role(current_user, r.oid, 'usage')
union all
select format('alter role %I createrole', current_user) where to_regrole('queue_owner') is null
union all
select format('grant create on database %I to %I', current_database(), current_user)
where not exists (select from pg_roles r where r.rolname in (current_user, 'queue_owner')
                  and has_database_privilege(r.oid, current_database(), 'create'))
order by 1
"""

log = logging.getLogger(__name__)


class InstallError(Exception):
    """The queue cannot be had in this database; the message says why, and what helps."""


def install(dsn: str, directory: Path = INIT) -> bool:
    """Bring a database to the state of the SQL files, unless they were applied before.

    The files are applied in name order, all in one transaction under an advisory lock, so any number
    of servers may start at once. A database to which these very files were applied is left alone:
    a function that was replaced in the database since is kept. So is one with the files of a higher
    number, and, by a user who may not change it, any one. While traffic goes on, an attempt that has
    to wait for a lock is soon given up and repeated, for a minute: traffic is held up by less than a
    second and never fails.

    Returns True when something was applied. Raises InstallError when the schema `queue` is somebody
    else's, or when there is none and the user may not make it; psycopg2.Error.
    """
    files = sorted(directory.glob("*.sql"))
    texts = [path.read_text(encoding="utf-8") for path in files]
    digest = hashlib.sha256(
        b"\0".join(f"{path.name}\0{text}".encode() for path, text in zip(files, texts, strict=True))
    ).hexdigest()
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return asyncio.run(_attempt(dsn, texts, digest))
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
            if time.monotonic() > deadline:
                raise
            log.warning("the database is busy: trying again to apply init/")
            time.sleep(_PAUSE)


async def _attempt(dsn: str, texts: list[str], digest: str) -> bool:
    session = await connect(dsn, statement_timeout="0", standard_conforming_strings="on")
    session.limit = None
    try:
        await session.execute("begin")
        applied = await _apply(session, texts, digest)
        await session.execute("commit")
        return applied
    except psycopg2.errors.InsufficientPrivilege as error:
        await session.execute("rollback")
        await _may_not(session, error)
    except psycopg2.errors.AmbiguousFunction as error:
        raise InstallError(
            f"{error.diag.message_primary}: rename the one that is not the queue's, or move it to another schema"
        ) from None
    except psycopg2.DatabaseError as error:
        if error.pgcode == _FOREIGN:
            raise InstallError(error.diag.message_primary) from None
        if error.pgcode != _NEWER:
            raise
        log.info("init/ is left alone: %s", error.diag.message_primary)
    finally:
        session.close()
    return False


async def _apply(session: Session, texts: list[str], digest: str) -> bool:
    await session.execute("set local lock_timeout = '60s'; select pg_advisory_xact_lock(42, -1)")
    await session.execute(_OURS.read_text(encoding="utf-8"))
    applied = await _applied(session) == digest
    if applied and await _owned(session):
        return False
    await session.execute("select set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
    # restored by another owner, as by pg_restore --no-owner: the functions are those that were there
    for text in [_ROLES.read_text(encoding="utf-8")] if applied else texts:
        await session.execute(text)
    if not applied:
        record = "insert into queue.installation (digest, number) values (%s, queue.number())"
        await session.execute(record, [digest])
    return True


async def _applied(session: Session) -> object:
    """Return the digest of the files that are in force; None when no server applied them."""
    if await session.execute("select to_regproc('queue.applied') is not null") == [(False,)]:
        return None
    ((digest,),) = await session.execute("select digest from queue.applied()") or [(None,)]
    return digest


async def _owned(session: Session) -> bool:
    rows = await session.execute(
        "select nspowner = to_regrole('queue_owner') from pg_namespace where nspname = 'queue'"
    )
    return rows == [(True,)]


async def _may_not(session: Session, error: psycopg2.Error) -> None:
    """Say which right is missing. Raises InstallError when there is no queue to go on with."""
    remedies = "; ".join(statement for (statement,) in await session.execute(_REMEDIES))
    missing = f"the user of this server may not apply init/: {error.diag.message_primary}; let a superuser "
    missing += f"say `{remedies}`, or apply it" if remedies else "apply it"
    if await session.execute("select to_regnamespace('queue') is null") == [(True,)]:
        raise InstallError(f"there is no queue in this database, and {missing}")
    log.warning("the queue stays as it is: %s", missing)
