"""A chapter in a kernel: its cells are run as they stand, and some with another text."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

from qlib.lab.course.notebooks import kernel_environment
from tests.notebooks.chapter import ROOT

BOUND = 120  # seconds, for a cell


class Ran:
    """What a cell has shown: its text, and its error if there was one."""

    def __init__(self) -> None:
        self.text = ""
        self.error: tuple[str, str] | None = None

    def add(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            self.text += content["text"]
        elif kind == "error":
            self.error = content["ename"], content["evalue"]


class Kernel:
    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, source: str) -> Ran:
        ran = Ran()
        self._client.execute_interactive(
            source, timeout=BOUND, store_history=False, output_hook=ran.add, stop_on_error=False
        )
        return ran


@contextmanager
def kernel() -> Iterator[Kernel]:
    """Start a kernel that finds qlib and has no queue yet; end it, and what it has started."""
    with tempfile.TemporaryDirectory() as directory, open(os.devnull, "w") as nowhere:
        environment = kernel_environment(Path(directory))
        inherited = {name: it for name, it in environment.items() if not name.startswith("QUEUE_")}
        manager, client = start_new_kernel(
            kernel_name="python3",
            startup_timeout=BOUND,
            env=inherited,
            cwd=str(ROOT / "notebooks"),
            stderr=nowhere,
        )
        try:
            yield Kernel(client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
