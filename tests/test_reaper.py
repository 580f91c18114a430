"""A run of the tests that is ended, in whatever way, leaves nothing behind."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from glob import glob
from pathlib import Path

import pytest

from tests.server_process import ROOT
from tests.waiting import until

LONG = 90.0


class Run:
    """A run of `held.py` in a session of its own, in which every test holds what it has started."""

    def __init__(self, held: Path, workers: int, *command: str) -> None:
        self._held = held
        self._output = held / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "HELD": str(held), "PYTEST_ADDOPTS": "tests/held.py"},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(lambda: len(self.prefixes()) == workers or self.process.poll() is not None, LONG)
        assert self.process.poll() is None, self._output.read_text()

    def prefixes(self) -> list[str]:
        """Return where the tests that hold have their directories."""
        return [said for path in self._held.glob("[01]") if (said := path.read_text())]

    def left(self) -> dict[int, str]:
        """Return the processes of the run that live, by their environment or directory."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                inherited = f"HELD={self._held}\0".encode() in (path / "environ").read_bytes()
                if inherited or os.readlink(path / "cwd").startswith(tuple(self.prefixes())):
                    found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
        return found

    def directories(self) -> list[str]:
        return [path for prefix in self.prefixes() for path in glob(f"{prefix}*")]

    def is_gone(self) -> bool:
        """Whether neither a process nor a directory is left."""
        self.process.poll()
        return not self.left() and not self.directories()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Start a run; in the end all of it is killed."""
    started: list[Run] = []

    def start(workers: int, *command: str) -> Run:
        started.append(Run(tmp_path, workers, *command))
        return started[-1]

    yield start
    for one in started:
        while left := one.left():
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        one.process.wait()
        for path in one.directories():
            shutil.rmtree(path)


@pytest.mark.parametrize(
    ("all_of_it", "number"),
    [(False, signal.SIGTERM), (True, signal.SIGINT), (True, signal.SIGKILL)],
    ids=["SIGTERM to make", "Ctrl-C", "everything is killed"],
)
def test_make_test_leaves_nothing(
    run: Callable[..., Run], all_of_it: bool, number: signal.Signals
) -> None:
    made = run(2, "make", "test", "-o", "lint")
    programs = list(made.left().values())
    assert len([program for program in programs if re.match(r"\S+ -m server ", program)]) == 6
    assert len([program for program in programs if re.match(r"\S+bin/postgres ", program)]) == 4
    assert len(made.directories()) == 4
    (os.killpg if all_of_it else os.kill)(made.process.pid, number)
    until(made.is_gone, LONG)


def test_control_without_the_reaper_they_would_be_left(run: Callable[..., Run]) -> None:
    alone = run(1, ".venv/bin/pytest")
    (reaper,) = reapers_of(alone)
    os.kill(reaper, signal.SIGKILL)
    os.killpg(alone.process.pid, signal.SIGTERM)
    alone.process.wait()
    programs = " ".join(alone.left().values())
    assert "-m server" in programs and "bin/postgres" in programs and alone.directories()


def reapers_of(run: Run) -> list[int]:
    """Return the reapers of the tests that hold."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (path / "cmdline").read_text().split("\0")
            if any(word.endswith("reaper.py") for word in words) and set(words) & set(
                run.prefixes()
            ):
                found.append(int(path.name))
    return found
