"""Links between the chapters, and the lists of them, are made from the files."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest

from qlib.lab.course.chapters import NOTEBOOKS, chapters, read, source
from qlib.lab.course.contents import outdated


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """The chapters and the two pages that list them, as a book of the test's own."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for path in [*chapters(), NOTEBOOKS / "README.md"]:
        shutil.copy(path, folder)
    shutil.copy(NOTEBOOKS.parent / "README.md", tmp_path)
    return folder


def write(folder: Path) -> list[str]:
    """Write what is outdated; return the names."""
    new = outdated(folder)
    for path, text in new.items():
        path.write_text(text)
    return sorted({path.name for path in new})


def links(path: Path) -> str:
    return source(read(path)["cells"][-1]).splitlines()[-1]


def test_they_are_up_to_date() -> None:
    assert len(chapters()) >= 7
    late = [path.name for path in outdated()]
    assert late == [], "python -m qlib.lab.course.contents writes them"


def test_control_a_gap_and_a_new_title_change_them(book: Path) -> None:
    write(book)
    first, second, third, *_ = chapters(book)
    second.unlink()
    text = third.read_text()
    old = re.findall(r'"# \d\d · ([^\\"]+)', text)[0]
    third.write_text(text.replace(f"· {old}", "· Another title", 1))
    fourth = chapters(book)[2]
    assert write(book) == sorted({first.name, third.name, fourth.name, "README.md"})
    number = third.name[:2]
    assert links(first) == f"[{number} Another title →]({third.name})"
    assert links(third).startswith(f"[← 00 The first message]({first.name}) · [")
    for readme, prefix in (book / "README.md", ""), (book.parent / "README.md", "notebooks/"):
        listed = readme.read_text()
        assert f"[{number} Another title]({prefix}{third.name}) ·" in listed
        assert second.name not in listed and listed.count("\n## ") >= 1
    assert write(book) == []


def test_only_the_last_line_of_a_chapter_is_changed(book: Path) -> None:
    write(book)
    first, second, *_ = chapters(book)
    before = {path: read(path)["cells"] for path in (first, second)}
    second.rename(second.with_name("01_renamed.ipynb"))
    write(book)
    after = read(first)["cells"]
    assert links(first) == "[01 A crash before the ack →](01_renamed.ipynb)"
    assert after[:-1] == before[first][:-1]
    assert source(after[-1]).splitlines()[:-1] == source(before[first][-1]).splitlines()[:-1]


def test_a_chapter_without_links_gets_them(book: Path) -> None:
    path = chapters(book)[-1].with_name("98_last.ipynb")
    cell = nbformat.v4.new_markdown_cell(
        "# 98 · Last\n\nText with a [link →](00_first_message.ipynb)."
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert path.name in write(book)
    *text, empty, last = source(read(path)["cells"][-1]).splitlines()
    assert text[-1].startswith("Text with") and empty == ""
    assert re.fullmatch(r"\[← \d\d .*\]\(\d\d_\w+\.ipynb\)", last)


def test_a_page_without_a_place_for_the_list_is_not_written(book: Path) -> None:
    (book / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match="no place for the list"):
        outdated(book)
