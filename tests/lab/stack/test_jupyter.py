"""JupyterLab as a server of ours: it takes another port when somebody was faster."""

import socket
from pathlib import Path

import pytest

from qlib.lab.stack import guarded
from qlib.lab.stack.jupyter import Jupyter


def test_a_port_that_somebody_was_faster_to_take_is_left_alone(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken, free := guarded.free_port()])
        monkeypatch.setattr(guarded, "free_port", lambda *preferred: next(ports))
        kept = directory / "kept"
        with Jupyter(directory, "", directory / "data", kept, None, browser=False) as lab:
            assert lab.url.startswith(f"http://127.0.0.1:{free}/lab")
        assert kept.read_text() == f"{free}\n"
        assert list(ports) == []
