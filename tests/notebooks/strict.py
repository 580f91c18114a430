"""The gate: a notebook is run again, and every output compared with the one that is stored."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from qlib.lab.course.notebooks import kernel_environment
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
    with tempfile.TemporaryDirectory() as directory:
        environment = kernel_environment(Path(directory)).items()
        inherited = {name: it for name, it in environment if not name.startswith("QUEUE_")}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=BOUND, env={**inherited, **queue}
        )
    return re.sub(r" in .*", "", done.stdout.splitlines()[-1]) if done.stdout else done.stderr
