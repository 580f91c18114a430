"""Applying the SQL files of `init/` to a database."""

import hashlib
import logging
import time
from pathlib import Path

import psycopg2
import psycopg2.errors

INIT = Path(__file__).resolve().parent.parent / "init"
_PATIENCE = 60.0

log = logging.getLogger(__name__)


def install(dsn: str, directory: Path = INIT) -> bool:
    """Bring a database to the state of the SQL files, unless they were applied before.

    The files are applied in name order, all in one transaction under an advisory lock, so any number
    of servers may start at once. A database to which these very files were applied is left alone:
    a function that was replaced in the database since is kept. No lock is waited for longer than a
    second while traffic goes on; the attempt is repeated for a minute.

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


def _apply(dsn: str, texts: list[str], digest: str) -> bool:
    connection = psycopg2.connect(dsn, connect_timeout=10)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("set local lock_timeout = '60s'; select pg_advisory_xact_lock(42, -1)")
            cursor.execute("select to_regclass('queue.installation') is not null")
            row = cursor.fetchone()
            if row and row[0]:
                cursor.execute(
                    "select digest from queue.installation order by installed_at desc limit 1"
                )
                if cursor.fetchone() == (digest,):
                    return False
            cursor.execute("set local lock_timeout = '1s'")
            for text in texts:
                cursor.execute(text)
            cursor.execute("insert into queue.installation (digest) values (%s)", (digest,))
            return True
    finally:
        connection.close()
