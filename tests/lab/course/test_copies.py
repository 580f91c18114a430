"""A learner's copies: without answers, never overwritten when somebody has written in them."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from qlib.lab.course.chapters import NOTEBOOKS, Notebook, has_tag, read, source
from qlib.lab.course.copies import lay, reset

FIRST, SECOND = "00_first.ipynb", "03_second.ipynb"


@pytest.fixture
def chapters(tmp_path: Path) -> Path:
    """Two chapters, as the repository has them: with outputs."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in (FIRST, SECOND):
        publish(folder / name, "1 + 1")
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "my-notebooks"


def publish(path: Path, *sources: str) -> None:
    """Write a version of a chapter."""
    path.write_text(json.dumps({"cells": [cell(it) for it in sources], "metadata": {}}))


def cell(source: str) -> dict[str, object]:
    output = {"output_type": "stream", "name": "stdout", "text": ["2"]}
    fixed = {"cell_type": "code", "metadata": {"tags": ["exercise"]}}
    return fixed | {"source": [source], "outputs": [output], "execution_count": 1}


def change(path: Path, **changes: object) -> None:
    """Change the first cell of a copy, as JupyterLab would write it."""
    notebook = read(path)
    notebook["cells"][0].update(changes)
    path.write_text(json.dumps(notebook))


def sources(path: Path) -> list[str]:
    return [source(cell) for cell in read(path)["cells"]]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_copies_have_no_answers(chapters: Path, mine: Path) -> None:
    assert lay(mine, chapters) == [FIRST, SECOND]
    (cell,) = read(mine / FIRST)["cells"]
    assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert (source(cell), cell["metadata"]) == ("1 + 1", {"tags": ["exercise"]})
    assert read(chapters / FIRST)["cells"][0]["outputs"], "the control"


def test_laid_again_nothing_happens_also_when_they_were_run(chapters: Path, mine: Path) -> None:
    lay(mine, chapters)
    change(mine / FIRST, execution_count=7)
    before = (mine / FIRST).read_bytes()
    assert lay(mine, chapters) == []
    assert (mine / FIRST).read_bytes() == before


RUN = {"execution_count": 7, "outputs": [{"output_type": "error"}]}
FOLDED = {"metadata": {"tags": ["exercise"], "jupyter": {"source_hidden": True}}}


@pytest.mark.parametrize("untouched", [{}, RUN, FOLDED])
def test_a_copy_that_nobody_has_written_in_is_renewed(
    chapters: Path, mine: Path, untouched: dict[str, object]
) -> None:
    lay(mine, chapters)
    change(mine / FIRST, **untouched)
    publish(chapters / FIRST, "2 + 2")
    assert lay(mine, chapters) == [FIRST]
    assert sources(mine / FIRST) == ["2 + 2"]
    assert names(mine) == [FIRST, SECOND]


def test_an_empty_cell_at_the_end_is_nobodys_writing(chapters: Path, mine: Path) -> None:
    lay(mine, chapters)
    notebook = read(mine / FIRST)
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": []})
    (mine / FIRST).write_text(json.dumps(notebook))
    publish(chapters / FIRST, "2 + 2")
    assert lay(mine, chapters) == [FIRST]


def test_a_newer_version_is_laid_beside_what_somebody_has_written(
    chapters: Path, mine: Path
) -> None:
    lay(mine, chapters)
    change(mine / FIRST, source=["mine"])
    assert lay(mine, chapters) == []
    publish(chapters / FIRST, "2 + 2")
    assert lay(mine, chapters) == ["00_first-newer.ipynb"]
    assert lay(mine, chapters) == []
    publish(chapters / FIRST, "3 + 3")
    assert lay(mine, chapters) == ["00_first-newer.ipynb"]
    change(mine / "00_first-newer.ipynb", source=["mine, too"])
    publish(chapters / FIRST, "4 + 4")
    assert lay(mine, chapters) == ["00_first-newer-2.ipynb"]
    assert [sources(mine / name) for name in names(mine)] == [
        ["4 + 4"],
        ["mine, too"],
        ["mine"],
        ["1 + 1"],
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": []}', '{"cells": [1], "metadata": {}}'])
def test_what_is_not_a_copy_of_ours_is_somebodys(chapters: Path, mine: Path, text: str) -> None:
    mine.mkdir()
    (mine / FIRST).write_text(text)
    assert lay(mine, chapters) == ["00_first-newer.ipynb", SECOND]
    assert (mine / FIRST).read_text() == text


@pytest.mark.parametrize("called", ["03", "3", "03_second", SECOND])
def test_a_fresh_one_is_given_back(chapters: Path, mine: Path, called: str) -> None:
    lay(mine, chapters)
    for name in (FIRST, SECOND):
        change(mine / name, source=["mine"])
    assert reset(mine, [called], chapters) == [
        "03_second-mine.ipynb is what you had",
        "03_second.ipynb is fresh",
    ]
    assert sources(mine / SECOND) == ["1 + 1"] and sources(mine / FIRST) == ["mine"]
    change(mine / SECOND, source=["mine again"])
    assert reset(mine, [called], chapters)[0] == "03_second-mine-2.ipynb is what you had"
    kept = [sources(mine / f"03_second-mine{end}.ipynb") for end in ("", "-2")]
    assert kept == [["mine"], ["mine again"]]


def test_without_names_all_are_given_back(chapters: Path, mine: Path) -> None:
    lay(mine, chapters)
    change(mine / FIRST, **RUN)
    assert reset(mine, [], chapters) == [f"{name} is fresh" for name in (FIRST, SECOND)]
    assert read(mine / FIRST)["cells"][0]["outputs"] == []
    assert names(mine) == [FIRST, SECOND]


@pytest.mark.parametrize("called", ["4", "second", "0", ""])
def test_a_chapter_that_is_not_there_is_told(chapters: Path, mine: Path, called: str) -> None:
    lay(mine, chapters)
    change(mine / FIRST, source=["mine"])
    if called == "0":  # the control
        assert reset(mine, [called], chapters)
    else:
        with pytest.raises(LookupError, match="but 00_first, 03_second"):
            reset(mine, ["00", called], chapters)
        assert sources(mine / FIRST) == ["mine"]


def test_the_chapters_links_lead_somewhere_in_the_copies(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "qlib.lab.course.copies", str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=NOTEBOOKS.parent)
    assert len(told.stdout.splitlines()) == len(names(tmp_path)) >= 7
    links = [link for path in tmp_path.iterdir() for link in relative_links(read(path))]
    assert len(links) >= 12
    assert [link for link in links if not (tmp_path / link).exists()] == []


def relative_links(notebook: Notebook) -> list[str]:
    prose = "\n".join(source(it) for it in notebook["cells"] if it["cell_type"] == "markdown")
    found = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", prose)
    links = [one or other for one, other in found]
    return [link.partition("#")[0] for link in links if not re.match(r"\w+:|#", link)]


def test_control_a_link_that_leads_nowhere_is_found() -> None:
    cells = [{"cell_type": "markdown", "source": ['[a](b.ipynb#c) [d](https://e) <img src="f">']}]
    assert relative_links({"cells": cells}) == ["b.ipynb", "f"]


def test_the_exercises_are_still_marked_in_the_copies(tmp_path: Path) -> None:
    lay(tmp_path)
    found = [
        [
            has_tag(cell, "exercise")
            for path in sorted(folder.glob("*.ipynb"))
            for cell in read(path)["cells"]
        ]
        for folder in (NOTEBOOKS, tmp_path)
    ]
    assert found[0] == found[1] and any(found[0])


def test_two_that_lay_at_the_same_moment_do_not_meet(
    chapters: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, replace = Barrier(2), Path.replace

    def together(new: Path, copy: Path) -> Path:
        both.wait(60)
        return replace(new, copy)

    monkeypatch.setattr(Path, "replace", together)
    with ThreadPoolExecutor(2) as pool:
        laid = list(pool.map(lambda _: lay(mine, chapters), range(2)))
    assert laid == [[FIRST, SECOND]] * 2
    assert sorted(path.name for path in mine.iterdir()) == [FIRST, SECOND]
