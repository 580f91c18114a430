"""A hot standby of an embedded PostgreSQL: it streams, answers reads, and takes no writes."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg2.extensions import parse_dsn

from server.engines.postgres.embedded import EmbeddedPostgres
from server.engines.postgres.embedded_cluster import packaged_programs


@contextmanager
def standby(
    primary: EmbeddedPostgres, data: Path, bin_dir: Path | None
) -> Iterator[EmbeddedPostgres]:
    """Copy a running cluster into ``data``, and run the copy as its standby."""
    data.mkdir(mode=0o711)
    (data / "start.lock").touch()  # one of our own
    nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if nobody:
        os.chown(data, nobody.pw_uid, nobody.pw_gid)
    source = parse_dsn(primary.dsn)
    command = [
        "pg_basebackup",
        "--write-recovery-conf",
        "--checkpoint=fast",
        "-D",
        data / "postgres",
    ]
    command += ["-h", source["host"], "-p", source["port"], "-U", source["user"]]
    subprocess.run(
        [(bin_dir or packaged_programs()) / command[0], *command[1:]],
        check=True,
        cwd="/",
        user=nobody.pw_uid if nobody else None,
        group=nobody.pw_gid if nobody else None,
        extra_groups=[] if nobody else None,
    )
    (
        data / "postgres" / f".s.PGSQL.{source['port']}.lock"
    ).unlink()  # the primary's, copied with it
    with EmbeddedPostgres(data, bin_dir=bin_dir) as started:
        yield started


def socket_of(postgres: EmbeddedPostgres) -> str:
    """Return the path of its socket, for a proxy."""
    found = parse_dsn(postgres.dsn)
    return f"{found['host']}/.s.PGSQL.{found['port']}"
