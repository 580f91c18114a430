"""Applying the SQL files of `init/` to a database."""

import hashlib
import logging
import time
from pathlib import Path

import psycopg2
import psycopg2.errors
from psycopg2.extensions import cursor as Cursor

INIT = Path(__file__).resolve().parent.parent / "init"
_PATIENCE = 60.0
# Under Postgres' deadlock_timeout (1 s), so that it is we who give way to traffic, never the reverse.
_LOCK_TIMEOUT = "300ms"
_PAUSE = 0.1

log = logging.getLogger(__name__)


def install(dsn: str, directory: Path = INIT) -> bool:
    """Bring a database to the state of the SQL files, unless they were applied before.

    The files are applied in name order, all in one transaction under an advisory lock, so any number
    of servers may start at once. A database to which these very files were applied is left alone:
    a function that was replaced in the database since is kept. While traffic goes on, an attempt
    that has to wait for a lock is soon given up and repeated, for a minute: traffic is held up by
    less than a second and never fails. A user who does not own the
    queue, such as one with queue_app alone, uses what is there.

    Returns True when the files were applied. Raises psycopg2.Error.
    """
    files = sorted(directory.glob("*.sql"))
    texts = [path.read_text(encoding="utf-8") for path in files]
    digest = hashlib.sha256(
        b"\0".join(f"{path.name}\0{text}".encode() for path, text in zip(files, texts, strict=True))
    ).hexdigest()
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return _apply(dsn, texts, digest)
        except (psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
            if time.monotonic() > deadline:
                raise
            log.warning("the database is busy: trying again to apply init/")
            time.sleep(_PAUSE)


def _apply(dsn: str, texts: list[str], digest: str) -> bool:
    connection = psycopg2.connect(dsn, connect_timeout=10)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("set local lock_timeout = '60s'; select pg_advisory_xact_lock(42, -1)")
            if _installed(cursor, digest):
                return False
            cursor.execute("select set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
            for text in texts:
                cursor.execute(text)
            cursor.execute("insert into queue.installation (digest) values (%s)", (digest,))
            return True
    finally:
        connection.close()


def _installed(cursor: Cursor, digest: str) -> bool:
    cursor.execute("select to_regproc('queue.installed') is not null")
    if cursor.fetchone() == (False,):
        return False
    cursor.execute("""
        select queue.installed(), pg_has_role(current_user, 'queue_owner', 'member')""")
    installed, may_install = cursor.fetchone() or (None, False)
    if installed != digest and not may_install:
        # a server may run as a mere queue_app; its database is then somebody else's to keep
        log.warning("the database was not brought to these files of init/: this user may not")
        return True
    return bool(installed == digest)
