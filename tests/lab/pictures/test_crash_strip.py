"""What the picture of crashes draws is what was counted."""

import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from qlib.lab import crash_strip

ONCE, TWICE, NEVER = "#56b4e9", "#e69f00", "#333333"


def found(*counts: int) -> pd.DataFrame:
    words = ["nothing", "queue fetch", "bank commit", "queue ack"]
    rows = list(zip(words, counts, strict=False))
    return pd.DataFrame(rows, columns=["killed after", "charged"])


def test_a_square_tells_how_often_and_after_what() -> None:
    ax = pyplot.subplots()[1]
    crash_strip({"at least once": found(1, 1, 2, 3), "at most once": found(1, 0)}, ax=ax)
    squares = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert [to_hex(square.get_facecolor()) for square in squares] == [
        *[ONCE, ONCE, TWICE, TWICE],
        *[ONCE, NEVER],
    ]
    places = [(round(square.get_x()), round(square.get_y(), 1)) for square in squares]
    assert [x for x, _ in places] == [0, 1, 2, 3, 0, 1]
    assert [y == places[0][1] for _, y in places] == [True] * 4 + [False] * 2
    words = [text.get_text() for text in ax.texts]
    assert words == [
        *["1", "nothing", "1", "queue", "fetch", "2", "bank", "commit", "3", "queue", "ack"],
        *["1", "nothing", "0", "queue", "fetch"],
    ]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["at least once", "at most once"]
    legend = ax.get_legend()
    assert legend
    assert [text.get_text() for text in legend.get_texts()] == [
        *["once: 3", "twice or more: 2", "never: 1"],
    ]
    assert ax.get_title(loc="left") == "charged, when killed after …"


def test_it_makes_a_figure_of_its_own_and_wants_something_to_draw() -> None:
    crash_strip({"at least once": found(1)})
    assert len(pyplot.get_fignums()) == 1
    with pytest.raises(ValueError, match="no crash"):
        crash_strip({})
