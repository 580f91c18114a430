"""Things to watch while they go on, in a notebook: they change in place and end as they must."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any, ClassVar, TypeVar

import matplotlib.pyplot as plt
import psycopg2
from IPython.display import display
from tqdm import tqdm

from qlib.lab.pictures.ladder import HEIGHT, ladder
from qlib.lab.pictures.look import in_notebook, new_axes

T = TypeVar("T")

_PAUSE = 0.4  # seconds without drawing after each drawing: the run is to have the processor


@contextmanager
def live(topic: str, *, by: str = "step") -> Iterator[None]:
    """Draw the ladder of a topic, and again and again in the same place until the block ends.

    Then the picture is the one that `ladder` draws of that moment, also when the block raises.
    While the topic or the database is not there, the last picture stays. Outside of a notebook
    there is only the last one, a figure of pyplot's. Raises what `ladder` raises, when the block
    ends well.
    """
    ax = new_axes(HEIGHT)
    show = _notebook_figure(ax) if in_notebook() else lambda: None

    def draw() -> None:
        ax.clear()
        ladder(topic, by=by, ax=ax)
        show()

    def try_to_draw() -> None:
        with suppress(LookupError, psycopg2.Error):
            draw()

    try:
        with _again_and_again(try_to_draw):
            yield
    except BaseException:
        try_to_draw()
        raise
    draw()


def progress(things: Iterable[T], label: str) -> Iterator[T]:
    """Yield the things one by one, and show how many there were, until the last or a `break`.

    In a notebook the line is taken away in the end; nothing of it is left to be compared. Elsewhere
    it is on the standard error.
    """
    file = _NotebookLine() if in_notebook() else sys.stderr
    yield from _Bar(things, desc=label, file=file, leave=False, ascii=False, mininterval=0.25)


def _notebook_figure(ax: Any) -> Callable[[], None]:
    """Show the axes' figure; return how to show it again in the same place."""
    plt.close(ax.figure)  # or the notebook would show it once more, after the cell
    handle: Any = display(ax.figure, display_id=True)  # type: ignore[no-untyped-call]
    return lambda: handle.update(ax.figure)


@contextmanager
def _again_and_again(act: Callable[[], None]) -> Iterator[None]:
    ended = Event()

    def work() -> None:
        while not ended.is_set():
            act()
            ended.wait(_PAUSE)

    worker = Thread(target=work, name="live picture", daemon=True)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


class _Bar(tqdm):  # type: ignore[type-arg]  # no type to subscript at run time
    monitor_interval: ClassVar[int] = 0  # no thread that stays behind


class _NotebookLine:
    """A file that shows the last line written, in one place; empty in the beginning and the end."""

    def __init__(self) -> None:
        empty = self._shown("")
        self._handle: Any = display(empty, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def write(self, text: str) -> None:
        self._handle.update(self._shown(text.strip()), raw=True)

    def flush(self) -> None:
        """Nothing is kept back."""

    @staticmethod
    def _shown(text: str) -> dict[str, str]:
        return {"text/plain": text}
