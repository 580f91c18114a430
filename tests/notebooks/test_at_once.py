"""Chapters on one server, one after the other and at once: none disturbs another, or a user."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qlib import QPublisher
from qlib.lab.course.chapters import chapters, read
from qlib.lab.stack import Stack
from tests.notebooks.chapter import code
from tests.notebooks.strict import nbval

CHAPTERS = chapters()
# After the setup: it tells which queue the kernel has, and waits until as many have told it.
TELL = """
import os
from pathlib import Path
from tests.waiting import until
Path({told!r}, {name!r}).write_text(os.environ["QUEUE_URL"])
until(lambda: len(os.listdir({told!r})) >= {many}, 120)  # so far all chapters have come
"""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A server that all share."""
    with Stack() as started:
        yield started


def telling(path: Path, directory: Path, many: int) -> Path:
    """Return a copy of a chapter that tells which queue it has, when it is one of so many."""
    notebook = read(path)
    told = directory / "told"
    told.mkdir(exist_ok=True)
    setup = code(notebook)[0]
    source = TELL.format(told=str(told), name=path.stem, many=many)
    cell = {**setup, "id": "telling", "source": [source], "outputs": []}
    notebook["cells"].insert(notebook["cells"].index(setup) + 1, cell)
    copy = directory / path.name
    copy.write_text(json.dumps(notebook))
    return copy


def run(paths: list[Path], stack: Stack, directory: Path, at_once: int) -> list[str]:
    """Run copies of chapters on one server; return the queues that they had."""
    copies = [telling(path, directory, at_once) for path in paths]

    def run_one(copy: Path) -> str:
        return nbval(copy, QUEUE_URL=stack.url, QUEUE_DSN=stack.dsn)

    with ThreadPoolExecutor(at_once) as pool:
        found = dict(zip(paths, pool.map(run_one, copies), strict=True))
    assert found == {path: f"{len(code(read(path))) + 1} passed" for path in paths}
    return [(directory / "told" / path.stem).read_text() for path in paths]


def test_the_chapters_in_any_order_on_one_queue(stack: Stack, directory: Path) -> None:
    order = random.sample(CHAPTERS, len(CHAPTERS))
    assert len(order) >= 7
    assert run(order, stack, directory, at_once=1) == [stack.url] * len(order)


def test_of_four_at_once_one_has_the_shared_queue(stack: Stack, directory: Path) -> None:
    urls = run(CHAPTERS[:4], stack, directory, at_once=4)
    assert urls.count(stack.url) == 1 and len(set(urls)) == 4
    with QPublisher(stack.url) as pub:
        assert {topic.topic for topic in pub.topics()} <= {"orders", "bills"}


def test_four_at_once_leave_a_user_s_topic_alone(stack: Stack, directory: Path) -> None:
    with QPublisher(stack.url) as user:
        for topic in user.topics():
            user.delete_topic(topic.topic)
        user.create_topic("orders", "a user's own")
        user.publish_many("orders", range(10))
        before = user.topics(), user.browse("orders")
        urls = run(CHAPTERS[:4], stack, directory, at_once=4)
        assert stack.url not in urls and len(set(urls)) == 4
        assert (user.topics(), user.browse("orders")) == before
