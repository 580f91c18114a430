"""`python -m qlib.lab` runs the queue and a real JupyterLab, and leaves nothing of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.lab.stack.processes import about, environment, ignores
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "qlib.lab"]
LONG = 60.0


@pytest.fixture
def lab(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a directory and a process group of its own."""
    with start(directory) as process:
        yield process
        process.kill()


def start(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        COMMAND,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


def told(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the URLs of the queue and of JupyterLab."""
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(4)]
    assert lines[3] == "Ctrl-C ends both.\n", lines
    return lines[1].split()[-1], lines[2].split()[-1]


def get(url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=30, allow_redirects=False)


def test_it_serves_both_and_ends_with_ctrl_c(lab: subprocess.Popen[str], directory: Path) -> None:
    queue, jupyter = told(lab)
    token = urlsplit(jupyter).query
    assert get(f"{queue}/health").json()["status"] == "ok"
    assert urlsplit(jupyter).path == "/lab/tree/00_first_message.ipynb"
    assert "JupyterLab" in get(jupyter).text
    contents = jupyter.partition("/lab/")[0] + "/api/contents/00_first_message.ipynb"
    assert get(f"{contents}?{token}").status_code == 200
    assert get(contents).status_code == 403

    port = f"--ServerApp.port={urlsplit(jupyter).port}"
    kernels = environment(about(port)[0])
    assert [name for name in kernels if name.startswith("QUEUE_")] == ["QUEUE_DATA"]
    assert Path(kernels["QUEUE_DATA"], "url").read_text().strip() == queue
    assert Path(kernels["QUEUE_DATA"]) == directory / ".queue"
    assert kernels["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    assert token.partition("=")[2] not in (directory / ".queue.log").read_text()

    os.killpg(lab.pid, signal.SIGINT)
    assert lab.wait(LONG) == 0
    assert not about(port, str(directory))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_it_ends_with_everything_however_it_ends(
    lab: subprocess.Popen[str], directory: Path, number: signal.Signals
) -> None:
    port = f"--ServerApp.port={urlsplit(told(lab)[1]).port}"
    assert len(about(port)) == 2  # JupyterLab and its guard
    lab.send_signal(number)
    assert lab.wait(LONG) == (-number if number == signal.SIGKILL else 0)
    until(lambda: not about(port, str(directory)), LONG)


def test_under_nohup_the_terminals_end_is_no_end(directory: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(directory)
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        try:
            queue, _ = told(process)
            assert ignores(process.pid, signal.SIGHUP)
            os.killpg(process.pid, signal.SIGHUP)
            assert get(f"{queue}/health").ok
            process.terminate()
            assert process.wait(LONG) == 0
        finally:
            process.kill()
    until(lambda: not about(str(directory)), LONG)


def test_it_says_why_it_cannot_start(directory: Path) -> None:
    (directory / ".queue").mkdir()
    (directory / ".queue" / "something").touch()
    done = subprocess.run(
        COMMAND,
        capture_output=True,
        text=True,
        timeout=LONG,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "is not empty" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["qlib.lab", "qlib.lab.course.notebooks", "qlib.lab.stress"])
@pytest.mark.parametrize("asked", ["--help", "--halp"])
def test_help_starts_nothing(command: str, asked: str, directory: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", command, asked],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == (0 if asked == "--help" else 2), ran.stderr
    assert f"usage: python -m {command}" in (ran.stdout or ran.stderr)
    assert not list(directory.iterdir())
