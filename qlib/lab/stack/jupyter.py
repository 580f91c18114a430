"""JupyterLab on a folder of working copies, as a server that ends with us."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from qlib.lab.stack.guarded import ROOT, Guarded, StackError, environment, free_port, on_a_free_port

# It says that JupyterLab is to ask nobody for news; what the user has set goes before it.
_SETTINGS = ROOT / "qlib" / "lab" / "course" / "jupyter"
_PORT = 8888


class Jupyter:
    """JupyterLab on 127.0.0.1, with `folder` as its root, kernels that find qlib, and a token.

    It listens on `port`; without one, on the port that the file `kept` holds from the last start,
    or else 8888, or else on one that is free. `url` opens the notebook `first`, and with `browser`
    JupyterLab opens it in one, if there is any. The kernels find the data of a queue in `data`; its
    address they are not told, so that each has a queue of its own unless it asks for that one. The
    constructor raises StackError, also when `port` is taken.
    """

    def __init__(
        self, folder: Path, first: str, data: Path, kept: Path, port: int | None, browser: bool
    ) -> None:
        """Start it; return when it answers."""
        token = secrets.token_urlsafe(24)
        settings = _environment(data) | {"JUPYTER_TOKEN": token}
        log = data.with_name(data.name + ".log")

        def start(number: int) -> Guarded:
            self.port, address = number, f"http://127.0.0.1:{number}"
            self.url = f"{address}/lab/tree/{first}?token={token}"
            command = _command(number, folder, first, browser)
            return Guarded(command, f"{address}/api", "is running at", log, settings)

        if port:
            self._server = start(_free(port))
        else:
            self._server = on_a_free_port(start, "is not available", _last(kept), _PORT)
        kept.write_text(f"{self.port}\n")

    @property
    def alive(self) -> bool:
        """Whether it runs still."""
        return self._server.alive

    def __enter__(self) -> Jupyter:
        """Return JupyterLab itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._server.stop()


def _free(port: int) -> int:
    if free_port(port) != port:
        raise StackError(f"port {port} is taken: choose another, or none")
    return port


def _last(kept: Path) -> int:
    try:
        return int(kept.read_text())
    except (OSError, ValueError):
        return _PORT


def _command(port: int, folder: Path, first: str, browser: bool) -> list[str]:
    root = ["--allow-root"] if os.geteuid() == 0 else []  # or Jupyter would refuse to start
    return [
        *(sys.executable, "-m", "jupyterlab", *root, *([] if browser else ["--no-browser"])),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        *(f"--ServerApp.root_dir={folder.absolute()}", f"--LabApp.default_url=/lab/tree/{first}"),
    ]


def _environment(data: Path) -> dict[str, str]:
    def before(name: str, path: Path) -> str:
        return os.pathsep.join([str(path), *filter(None, [os.environ.get(name)])])

    return environment() | {
        "JUPYTER_CONFIG_PATH": before("JUPYTER_CONFIG_PATH", _SETTINGS),
        "PYTHONPATH": before("PYTHONPATH", ROOT),
        "QUEUE_DATA": str(data.absolute()),
    }
