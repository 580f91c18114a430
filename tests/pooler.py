"""Debian's pgbouncer, between a server under test and its database."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from tests.server_process import free_port
from tests.waiting import until


def pgbouncer() -> str | None:
    """Return the program's path: what QUEUE_TEST_PGBOUNCER says, else one where Debian has it or on the PATH."""
    return os.environ.get("QUEUE_TEST_PGBOUNCER") or shutil.which(
        "pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin"
    )


@contextmanager
def pooling(directory: Path, dsn: str, **settings: str) -> Iterator[str]:
    """Run a pgbouncer before a database; yield the DSN that leads through it. ``settings`` are its own."""
    port = free_port()
    upstream = parse_dsn(dsn)
    everybody = {"listen_addr": "127.0.0.1", "listen_port": str(port), "unix_socket_dir": ""}
    everybody |= {"auth_type": "any", **settings}
    config = directory / f"pgbouncer-{port}.ini"
    config.write_text(
        "\n".join(
            [
                "[databases]",
                "queue = " + make_dsn(**upstream),
                "[pgbouncer]",
                *(f"{name} = {value}" for name, value in everybody.items()),
            ]
        )
    )
    user, group = _ordinary(directory)
    with (directory / f"pgbouncer-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [pgbouncer() or "pgbouncer", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )
    try:
        led = f"host=127.0.0.1 port={port} dbname=queue user=queue sslmode=disable"
        until(lambda: process.poll() is not None or _answers(led))
        assert process.poll() is None, Path(log.name).read_text()
        yield led
    finally:
        process.kill()
        process.wait()


def _ordinary(directory: Path) -> tuple[int, int] | tuple[None, None]:
    """Return whom (user, group) to run it as, since it refuses to run as root; None for oneself."""
    if os.geteuid() != 0:
        return None, None
    directory.chmod(0o711)
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _answers(dsn: str) -> bool:
    with suppress(psycopg2.OperationalError):
        psycopg2.connect(dsn, connect_timeout=5).close()
        return True
    return False
