"""The gate: a notebook is run again, and every output compared with the one that is stored."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.notebooks.chapter import ROOT

SANITIZE = Path(__file__).with_name("sanitize.cfg")
BOUND = 300  # seconds


def nbval(path: Path, **queue: str) -> str:
    """Run a notebook under nbval in a process of its own; return the line of results.

    `queue` may name a queue to use, as environment variables; else the notebook starts its own.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-c", str(ROOT / "notebooks" / "pytest.ini"), "--nbval", str(path)]
    command += ["--nbval-sanitize-with", str(SANITIZE), "--nbval-current-env"]
    inherited = {name: it for name, it in os.environ.items() if not name.startswith("QUEUE_")}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=BOUND,
        env={**inherited, **queue, "PYTHONPATH": str(ROOT)},
    )
    return re.sub(r" in .*", "", done.stdout.splitlines()[-1]) if done.stdout else done.stderr
