"""What moves in a notebook moves while the run goes on, and leaves what it must."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psycopg2
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from nbformat import v4

from qlib.lab import ladder, live, progress, sql
from qlib.lab.course import notebooks
from tests.notebooks.strict import nbval
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("queue_dsn", "nothing_leaks")

module = sys.modules["qlib.lab.pictures.live"]  # the package has a function of that name


class Screen:
    """Takes the place of IPython's `display`: remembers what was shown, and each update."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def __call__(self, first: Any, **_: Any) -> "Screen":
        self.update(first)
        return self

    def update(self, it: Any, **_: Any) -> None:
        self.shown.append(heads(it.axes[0]) if isinstance(it, Figure) else it["text/plain"])


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A notebook, as far as `live` and `progress` can see."""
    made = Screen()
    monkeypatch.setattr(module, "in_notebook", lambda: True)
    monkeypatch.setattr(module, "display", made)
    monkeypatch.setattr(module, "_PAUSE", 0.01)
    return made


@pytest.fixture
def topic(queue_dsn: str) -> str:
    sql("select queue.create_topic('orders')")
    return "orders"


def publish() -> None:
    sql("select queue.publish('orders', '1')")


def heads(ax: Axes) -> list[float]:
    """Return the head after each step; nothing where nothing is drawn."""
    return [y for line in ax.lines if line.get_label() == "head" for y in line.get_ydata()]


def test_the_picture_changes_while_the_run_goes_on(topic: str, screen: Screen) -> None:
    with live(topic):
        for head in (1, 2, 3):
            publish()
            until(lambda head=head: screen.shown[-1] == [*range(head + 1), head])
    assert screen.shown[-1] == [0, 1, 2, 3, 3]
    assert not pyplot.get_fignums()  # the notebook does not show it once more


def test_the_last_picture_is_of_the_end(topic: str, screen: Screen) -> None:
    with live(topic):
        publish()
    assert screen.shown[-1] == [0, 1, 1]


def test_after_an_exception_the_picture_is_of_the_end(topic: str, screen: Screen) -> None:
    with pytest.raises(ZeroDivisionError), live(topic):
        publish()
        _ = 1 / 0
    assert screen.shown[-1] == [0, 1, 1]


def test_nothing_is_drawn_after_the_end(topic: str, screen: Screen) -> None:
    with live(topic):
        publish()
    shown = len(screen.shown)
    assert not [it for it in threading.enumerate() if it.name == "live picture"]
    publish()
    assert len(screen.shown) == shown


def test_it_waits_for_the_topic_and_outlives_the_database(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def refuse(*_: object, **__: object) -> None:
        refused.append("refused")
        raise psycopg2.OperationalError

    with live("orders"):
        until(lambda: screen.shown)
        sql("select queue.create_topic('orders')")
        until(lambda: screen.shown[-1] == [0, 0])
        with monkeypatch.context() as broken:
            broken.setattr(module, "ladder", refuse)
            until(lambda: len(refused) > 1)
            assert screen.shown[-1] == [0, 0]
        publish()
        until(lambda: screen.shown[-1] == [0, 1, 1])


def test_a_topic_that_never_was_is_said(screen: Screen) -> None:
    with pytest.raises(LookupError, match="there is no topic 'nothing'"), live("nothing"):
        pass
    with pytest.raises(ZeroDivisionError), live("nothing"):
        _ = 1 / 0


def test_outside_of_a_notebook_there_is_the_last_picture(topic: str) -> None:
    with live(topic, by="time"):
        publish()
    assert heads(pyplot.gca()) == [0, 1, 1]
    assert pyplot.gca().get_xlabel() == "seconds"
    assert len(pyplot.get_fignums()) == 1
    ladder(topic, by="time", ax=pyplot.subplots()[1])
    assert heads(pyplot.gca()) == [0, 1, 1]


def test_progress_yields_everything_and_is_taken_away(screen: Screen) -> None:
    seen = []
    for n in progress(range(3), "cooking"):
        seen.append((n, screen.shown[-1].split("|")[0]))
    assert seen[0] == (0, "cooking:   0%")
    assert [n for n, _ in seen] == [0, 1, 2]
    assert screen.shown[0] == screen.shown[-1] == ""


def test_progress_is_taken_away_after_a_break(screen: Screen) -> None:
    bar = progress(iter("abc"), "cooking")
    assert next(bar) == "a"
    assert screen.shown[-1].startswith("cooking")
    bar.close()
    assert screen.shown[-1] == ""


def test_elsewhere_progress_is_on_the_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress([1, 2], "cooking")) == [1, 2]
    told = capsys.readouterr()
    assert told.out == "" and "cooking" in told.err
    assert told.err.rpartition("\n")[2].split("\r")[-2].strip() == ""


SETUP = """import os
os.environ["QUEUE_DSN"] = {dsn!r}
from qlib import lab"""
FRESH = """with lab.session("A") as a:
    a.run("select queue.delete_topic(topic) from queue.topics")
    a.run("select queue.create_topic('orders')")
    a.commit()"""
LIVE = """with lab.live("orders"):
    for n in lab.progress(range(40), "publishing"):
        lab.sql("select queue.publish('orders', '1')")
    print("done")"""
FAILS = """with lab.live("orders"):
    lab.sql("select queue.publish('orders', '1')")
    1 / 0"""
PLAIN = """from tqdm import tqdm
for n in tqdm(range(3)):
    pass"""


@pytest.fixture
def notebook(queue_dsn: str, directory: Path) -> Iterator[Path]:
    """A notebook that has run: live pictures, what `ladder` draws after them, and a plain bar."""
    sources = (SETUP.format(dsn=queue_dsn), FRESH, LIVE, 'lab.ladder("orders")', FAILS, PLAIN)
    cells = [v4.new_code_cell(source) for source in sources]
    cells[4].metadata["tags"] = ["raises-exception"]
    path = directory / "live.ipynb"
    nbformat.write(v4.new_notebook(cells=cells), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(notebooks.ROOT))
        notebooks.execute(path)
    yield path


def test_a_notebook_holds_the_last_picture_and_shows_it_again(notebook: Path) -> None:
    _, fresh, first, after, failed, plain = nbformat.read(notebook, as_version=4).cells
    assert not fresh.outputs
    picture, line, printed = first.outputs
    assert picture.data["image/png"] == after.outputs[0].data["image/png"]
    assert line.data == {"text/plain": ""}
    assert printed.text == "done\n"
    assert [output.output_type for output in failed.outputs] == ["display_data", "error"]
    assert [output.name for output in plain.outputs] == ["stderr"]
    # what a bar of tqdm's own leaves is another one each time, and is noticed
    assert [nbval(notebook), nbval(notebook)] == ["1 failed, 5 passed"] * 2
