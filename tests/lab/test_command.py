"""`python -m qlib.lab` runs the queue and a real JupyterLab, and leaves nothing of them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from qlib.lab.stack.guarded import free_port
from tests.lab.stack.processes import about, environment, ignores
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "qlib.lab", "--no-browser"]
LONG = 60.0


@pytest.fixture
def lab(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the command in a directory and a process group of its own."""
    with start(directory) as process:
        yield process
        process.kill()


def start(directory: Path, *words: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **settings},
        start_new_session=True,
    )


def told(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the URLs of the queue and of JupyterLab."""
    assert process.stdout
    lines = list(iter(process.stdout.readline, "Ctrl-C ends both.\n"))
    addresses = [line.split()[-1] for line in lines if line.startswith(("queue server:", "Jupy"))]
    assert len(addresses) == 2 and "starting the queue and JupyterLab …\n" in lines, lines
    return addresses[0], addresses[1]


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

    kernels = environment(about(f"--ServerApp.root_dir={directory}")[0])
    assert [name for name in kernels if name.startswith("QUEUE_")] == ["QUEUE_DATA"]
    assert Path(kernels["QUEUE_DATA"], "url").read_text().strip() == queue
    assert Path(kernels["QUEUE_DATA"]) == directory / ".queue"
    assert kernels["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
    assert token.partition("=")[2] not in (directory / ".queue.log").read_text()

    settings = jupyter.partition("/lab/")[0] + "/lab/api/settings/@jupyterlab/apputils-extension"
    asked = get(f"{settings}:notification?{token}").json()["schema"]["properties"]
    assert (asked["fetchNews"]["default"], asked["checkForUpdates"]["default"]) == ("false", False)
    copies = sorted(path.name for path in (directory / "my-notebooks").glob("*.ipynb"))
    assert copies == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))

    os.killpg(lab.pid, signal.SIGINT)
    assert lab.wait(LONG) == 0
    assert not about(str(directory))


def test_the_port_is_that_of_the_last_start_where_it_is_free(directory: Path) -> None:
    chosen = free_port()
    assert ports(directory, "--port", str(chosen)) == chosen
    assert ports(directory) == chosen
    with closing(socket.create_server(("127.0.0.1", chosen))):
        assert ports(directory) != chosen
        with start(directory, "--port", str(chosen)) as process:
            told, _ = process.communicate(timeout=LONG)
        assert process.returncode == 1 and f"port {chosen} is taken" in told


def ports(directory: Path, *words: str) -> int:
    """Start and end the command; return JupyterLab's port."""
    with start(directory, *words) as process:
        try:
            port = urlsplit(told(process)[1]).port
            process.terminate()
            assert process.wait(LONG) == 0 and port
        finally:
            process.kill()
    return port


def test_a_taken_port_of_the_queue_is_said(directory: Path) -> None:
    try:
        taken = socket.create_server(("127.0.0.1", 8008))
    except OSError:  # it is another's already
        taken = socket.socket()
    with taken, start(directory) as process:
        try:
            assert process.stdout
            lines = list(iter(process.stdout.readline, "Ctrl-C ends both.\n"))
            (said,) = [line for line in lines if line.startswith("port 8008 is taken")]
            (url,) = [line.split()[-1] for line in lines if line.startswith("queue server:")]
            assert said.endswith(f"export QUEUE_URL={url}\n")
            process.terminate()
            assert process.wait(LONG) == 0
        finally:
            process.kill()


def test_a_browser_is_opened_unless_none_is_wanted(directory: Path) -> None:
    script = directory / "browser"
    script.write_text(
        f'#!/bin/sh\nprintf %s "$1" >{directory}/seen.new\nmv {directory}/seen.new {directory}/seen\n'
    )
    script.chmod(0o700)
    settings = {"BROWSER": f"{script} %s", "JUPYTER_RUNTIME_DIR": str(directory / "runtime")}
    for words, opened in (["--no-browser"], False), ([], True):
        with subprocess.Popen(
            [*COMMAND[:3], *words],
            cwd=directory,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **settings},
        ) as process:
            try:
                token = told(process)[1].partition("token=")[2]
                if opened:
                    page = until(lambda: seen(directory), LONG)
                    assert token in page and "00_first_message.ipynb" in page
                assert (directory / "seen").exists() == opened
                process.terminate()
                assert process.wait(LONG) == 0
            finally:
                process.kill()


def seen(directory: Path) -> str:
    """Return the page that a browser was given, if it was."""
    path = directory / "seen"
    return Path(urlsplit(path.read_text()).path).read_text() if path.exists() else ""


def test_a_fresh_copy_is_given_back(directory: Path) -> None:
    def reset(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "qlib.lab", "reset", *words]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, cwd=directory, env=env)

    assert reset().returncode == 0
    copy = directory / "my-notebooks" / "03_many_subscribers.ipynb"
    fresh = copy.read_text()
    copy.write_text("mine")
    done = reset("03")
    assert done.stdout.startswith("03_many_subscribers-mine.ipynb is what you had\n"), done
    assert copy.read_text() == fresh
    assert copy.with_stem("03_many_subscribers-mine").read_text() == "mine"
    assert reset("99").returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_it_ends_with_everything_however_it_ends(
    lab: subprocess.Popen[str], directory: Path, number: signal.Signals
) -> None:
    told(lab)
    jupyter = f"--ServerApp.root_dir={directory}"
    until(lambda: len(about(jupyter)) == 2, LONG)  # JupyterLab and its guard
    lab.send_signal(number)
    assert lab.wait(LONG) == (-number if number == signal.SIGKILL else 0)
    until(lambda: not about(str(directory)), LONG)


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
