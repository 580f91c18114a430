"""The functions as the database holds them, and what of them a notebook shows."""

import pytest

from qlib import QSubscriber
from qlib.lab import source, sql

pytestmark = pytest.mark.usefixtures("queue_dsn")

LONG = """create function queue.steps(int) returns void language plpgsql as $$
begin
    perform 1;
    perform 2;
    -- here
    perform 3;
    perform 4;
    perform 5;
    -- and there
    return;
end
$$"""


def test_a_function_is_shown_as_it_is_now() -> None:
    assert source("ack") == source("queue.ack")
    assert source("ack").startswith("CREATE OR REPLACE FUNCTION queue.ack(p_topic text")
    assert repr(source("ack")) == str(source("ack"))
    sql(source("queue.publish").replace("select", "/* mine */ select"))
    assert "/* mine */" in source("queue.publish")


def test_functions_of_one_name_come_one_after_the_other() -> None:
    sql("create function queue.twin(a int) returns int language sql as 'select 1'")
    sql("create function queue.twin() returns int language sql as 'select 0'")
    first, second = source("twin").split("\n\n")
    assert "twin()" in first and "twin(a integer)" in second


def test_a_function_is_highlighted_in_a_notebook() -> None:
    assert source("ack")._repr_markdown_() == f"```sql\n{source('ack')}\n```"


def test_there_is_no_such_function() -> None:
    with pytest.raises(LookupError, match="there is no function queue.nothing"):
        source("nothing")


def test_source_is_of_python_too() -> None:
    text = source(QSubscriber.ack)
    assert text.startswith("def ack(self, message: Message | int) -> int:\n    ")
    assert text._repr_markdown_() == f"```python\n{text}\n```"
    with pytest.raises(LookupError, match="is not to be had"):
        source(len)


def test_the_lines_that_matter_are_marked_and_the_rest_is_folded() -> None:
    sql(LONG)
    listing = source("steps", mark="perform 3")
    lines = repr(listing).split("\n")
    assert lines[0].startswith("CREATE OR REPLACE FUNCTION queue.steps")
    assert [line for line in lines if line.endswith("-- ◀━━")] == ["    perform 3;  -- ◀━━"]
    assert lines[1:5] == [
        " -- ⋮ 6 lines",
        "    -- here",
        "    perform 3;  -- ◀━━",
        "    perform 4;",
    ]
    assert lines[5:] == ["    -- ⋮ 5 lines"]
    shown = [line for line in lines if "⋮" not in line]
    assert len(shown) + 6 + 5 == len(source("steps").split("\n"))


def test_the_folded_rest_is_in_the_notebook_with_marks_too() -> None:
    listing = source("queue.ack", mark=["exit when p_offset", "values (v_reader"])
    excerpt, _, folded = listing._repr_markdown_().partition("\n\n<details>")
    assert excerpt == f"```sql\n{listing!r}\n```"
    lines = source("ack").split("\n")
    summary, whole = folded.split("\n\n", 1)
    assert summary == f"<summary>All {len(lines)} lines</summary>"
    assert whole.startswith("```sql\n") and whole.endswith("\n```\n\n</details>")
    inside = whole.removeprefix("```sql\n").removesuffix("\n```\n\n</details>").split("\n")
    assert [line.removesuffix("  -- ◀━━") for line in inside] == lines
    assert sum(line.endswith("  -- ◀━━") for line in inside) == excerpt.count("◀") == 2


def test_a_marked_listing_is_the_whole_text() -> None:
    listing = source("ack", mark="exit when")
    assert listing == source("ack") and listing.replace("exit when", "") != listing
    assert str(listing) == source("ack") and repr(listing) != source("ack")
    sql(source("ack", mark="exit when"))  # and can be run


def test_a_left_out_line_is_not_replaced_by_a_word_about_it() -> None:
    sql(LONG)
    shown = repr(source("steps", mark=["-- here", "perform 5"])).split("\n")
    assert shown[3:8] == [
        "    -- here  -- ◀━━",
        "    perform 3;",
        "    perform 4;",
        "    perform 5;  -- ◀━━",
        "    -- and there",
    ]


def test_a_mark_without_a_line_is_an_error() -> None:
    with pytest.raises(ValueError, match="no line of this listing holds 'nonsense': CREATE OR"):
        source("ack", mark=["exit when", "nonsense"])


def test_python_is_marked_in_its_own_way() -> None:
    listing = source(QSubscriber.ack, mark="return ")
    assert "  # ◀━━" in repr(listing) and "# ⋮ " in repr(listing)
    assert listing == source(QSubscriber.ack)
    assert listing._repr_markdown_().startswith("```python\ndef ack(")


def test_two_looks_are_the_same() -> None:
    first, second = (source("publish_batch", mark="pg_advisory")._repr_markdown_() for _ in "ab")
    assert first == second and "◀" in first
