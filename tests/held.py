"""A run that does not end by itself, for the tests of what is left when it is ended."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from qlib.lab import Stack
from tests.reaped import PREFIX
from tests.server_process import ServerProcess


@pytest.mark.parametrize("number", range(2))
def test_held(
    number: int, server: ServerProcess, start_server: Callable[[], ServerProcess], directory: Path
) -> None:
    """Hold what tests use most, say so, and wait."""
    start_server()
    with Stack(directory / "data"):
        Path(os.environ["HELD"], str(number)).write_text(PREFIX)
        while True:
            signal.pause()
