"""The stress run as a process, for tests."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.server_process import ROOT

PATIENCE = 120.0


@contextmanager
def stress(
    url: str, *flags: str, root: Path = ROOT, **settings: str
) -> Iterator[subprocess.Popen[str]]:
    """Run the command out of the tree ``root``; in the end nothing of it is left, however the test ended.

    ``settings`` are environment variables in lower case, such as ``queue_token``.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUEUE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "qlib.lab.stress", "--seed", "5", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=root,
        env=environment | {"QUEUE_URL": url} | {k.upper(): v for k, v in settings.items()},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def verdict_of(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Wait for a clean verdict; return how many were published, and delivered."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    told = re.search(
        r"^CLEAN: published ([\d,]+), lost 0, duplicated 0, out of order 0, skipped 0$",
        output,
        re.M,
    )
    fetched = re.search(r"^fetch +[\d,]+ +[\d,.]+ +([\d,]+)", output, re.M)
    assert told and fetched, output
    return int(told[1].replace(",", "")), int(fetched[1].replace(",", ""))
