"""`python -m tests.short_lived`: a server whose first two workers die as soon as they begin; $LIVES counts them."""

import os
import sys
from pathlib import Path
from typing import Any

import server.worker
from server.__main__ import main
from server.queue.wakeups import Wakeups


class Mortal(Wakeups):
    """Dies with its process, twice."""

    def __init__(self, *arguments: Any) -> None:
        lives = Path(os.environ["LIVES"])
        told = lives.read_text() if lives.exists() else ""
        if told.count("died") < 2:
            lives.write_text(told + "died\n")
            os._exit(3)
        super().__init__(*arguments)


server.worker.Wakeups = Mortal  # type: ignore[misc]  # in the worker, too: it begins by importing this module

if __name__ == "__main__":
    sys.exit(main())
