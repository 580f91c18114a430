"""`make` says what it is doing while pip is silent."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.server_process import ROOT
from tests.waiting import until

# Stands for Python and for pip: the latter waits until the file `go` is there.
PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then exit 0; fi
mkdir -p .venv/bin && cp "$0.pip" .venv/bin/pip
"""
PIP = '#!/bin/sh\ntouch called\nuntil [ -e go ]; do sleep 0.1; done\nexit "$(cat go)"\n'


def environment() -> dict[str, str]:
    """Return ours without what `make test` says to a make within, and what chooses for `make lab`."""
    ours = ("MAKE", "MFLAGS", "PORT", "BROWSER")
    return {name: it for name, it in os.environ.items() if not name.startswith(ours)}


@pytest.mark.parametrize("code", [0, 1])
def test_a_silent_installation_is_seen_to_go_on(directory: Path, code: int) -> None:
    for name in ("Makefile", "requirements.txt"):
        (directory / name).write_text((ROOT / name).read_text())
    for name, text in ("python", PYTHON), ("python.pip", PIP):
        (directory / name).write_text(text)
        (directory / name).chmod(0o700)
    said = directory / "said"
    with said.open("w") as output:
        make = subprocess.Popen(
            ["make", "setup", f"PYTHON={directory / 'python'}"],
            cwd=directory,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
    try:
        until(lambda: "minute or two: .." in said.read_text(), 60)
        assert make.poll() is None and (directory / "called").exists()
        (directory / "new").write_text(str(code))
        (directory / "new").rename(directory / "go")
        assert (make.wait(60) == 0) == (code == 0)
    finally:
        make.kill()
        make.wait()
    assert said.read_text().startswith("making .venv …\n")
    assert (directory / ".venv" / "ready").exists() == (code == 0)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], ""),
        (["PORT=8890"], "--port 8890"),
        (["BROWSER=no"], "--no-browser"),
        (["PORT=1", "BROWSER=no"], "--port 1 --no-browser"),
        (["BROWSER=firefox"], ""),
    ],
)
def test_what_make_lab_passes_on(words: list[str], options: str) -> None:
    command = ["make", "--dry-run", "--old-file=.venv/ready", "lab", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].split("qlib.lab")[1].split() == options.split()
