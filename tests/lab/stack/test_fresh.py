"""`lab.up(fresh=…)` deletes what the lab has made, in whichever process, and nothing else."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from qlib import QPublisher, Topic
from qlib.lab import StackError, sql, up
from qlib.marks import disposable
from tests.server_process import ROOT, ServerProcess
from tests.test_readme import blocks

# A chapter: it clears its topic, makes it and uses it.
CHAPTER = """
import sys
from qlib import QPublisher, lab
lab.up(fresh=sys.argv[1])
pub = QPublisher()
pub.create_topic(sys.argv[1], "every order placed")
pub.publish(sys.argv[1], {"dish": "soup"})
"""


@pytest.fixture
def pub(server: ServerProcess) -> Iterator[QPublisher]:
    """The queue at hand is a server that others use too, and was asked for: it is not left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUEUE_URL", "")  # so that what `up` sets is unset again
        patch.setenv("QUEUE_DSN", "")
        up(url=server.url, dsn=server.settings["DATABASE_URL"])
        with QPublisher() as publisher:
            yield publisher


def runs(program: str, *arguments: str) -> None:
    """Run a program in a Python of its own, on the queue at hand."""
    command = [sys.executable, "-c", program, *arguments]
    subprocess.run(command, check=True, timeout=60, cwd=ROOT, env=os.environ)


def topics(pub: QPublisher, *names: str) -> set[str]:
    return {topic.topic for topic in pub.topics()} & set(names)


def test_a_topic_in_use_stays(pub: QPublisher, topic: str) -> None:
    pub.publish_many(topic, range(1000))
    with pytest.raises(StackError) as refused:
        up(fresh=topic)
    said = str(refused.value)
    assert f"the topic {topic!r} was not made by the lab" in said and "1,000 messages" in said
    assert f"QPublisher().delete_topic({topic!r})" in said and "private" not in said
    assert pub.topic(topic).head == 1000


def test_what_it_says_to_do_helps(pub: QPublisher, topic: str) -> None:
    pub.delete_topic(topic)
    up(fresh=topic)
    pub.create_topic(topic)
    up(fresh=topic)
    assert topics(pub, topic) == set()


def test_chapters_clear_away_what_chapters_left(pub: QPublisher) -> None:
    for _ in range(2):
        runs(CHAPTER, "chapters")
    assert pub.topic("chapters").head == 1
    up(fresh="chapters")
    assert topics(pub, "chapters") == set()


def test_another_queue_of_the_same_process_is_not_marked(
    pub: QPublisher, server: ServerProcess
) -> None:
    up(fresh="elsewhere")
    other = server.url.replace("127.0.0.1", "localhost")
    with QPublisher(other) as production:
        production.create_topic("elsewhere")
    with pytest.raises(StackError, match="was not made by the lab"):
        up(fresh="elsewhere")


def test_only_names_that_were_to_be_fresh_are_marked(pub: QPublisher) -> None:
    up(fresh="a")
    assert pub.create_topic("invoices").description is None
    with pytest.raises(StackError, match="'invoices' was not made by the lab"):
        up(fresh="invoices")


def test_all_of_them_or_none(pub: QPublisher, topic: str) -> None:
    up(fresh="mine")
    pub.create_topic("mine")
    with pytest.raises(StackError, match=topic):
        up(fresh=["mine", topic])
    assert topics(pub, "mine", topic) == {"mine", topic}


def test_a_topic_made_anew_by_somebody_else_stays(pub: QPublisher) -> None:
    runs(CHAPTER, "handed-over")
    pub.delete_topic("handed-over")
    runs("from qlib import QPublisher; QPublisher().create_topic('handed-over')")
    with pytest.raises(StackError, match="was not made by the lab"):
        up(fresh="handed-over")


def test_a_topic_that_the_lab_made_in_sql_is_its_own(pub: QPublisher) -> None:
    up(fresh=["by-sql", "taken"])
    runs("from qlib import QPublisher; QPublisher().create_topic('taken')")
    made = sql("select (queue.create_topic('by-sql', %s)).topic", "every order placed")
    assert made["topic"].tolist() == ["by-sql"]
    with pytest.raises(StackError, match="'taken' was not made by the lab"):
        up(fresh=["by-sql", "taken"])
    up(fresh="by-sql")
    assert topics(pub, "by-sql", "taken") == {"taken"}


def test_the_readme_s_topic_and_a_chapter_do_not_meet(
    start_server: Callable[[], ServerProcess], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUE_URL", start_server().url)
    monkeypatch.setenv("QUEUE_DSN", dsn)
    program, *_ = blocks("python")
    with QPublisher() as pub:
        for _ in range(2):
            runs(program)
            before = {topic.topic: topic.head for topic in pub.topics()}
            up(fresh="orders")
            assert pub.create_topic("orders").head == 0
            pub.publish("orders", "a chapter's")
            after = {topic.topic: topic.head for topic in pub.topics()}
            assert after == before | {"orders": 1} and len(after) == 2


def test_a_mark_is_not_shown(pub: QPublisher) -> None:
    up(fresh="marked")
    bare, described = "(topic='marked', floor=", "(topic='marked', description='x', floor="
    assert bare in shown(pub.create_topic("marked"))
    up(fresh="marked")
    made = pub.create_topic("marked", "x")
    assert described in shown(made)
    assert re.fullmatch(r"x \(made by qlib\.lab, kernel [0-9a-f]{8}\)", made.description or "")


def test_what_is_disposable_on_another_queue_is_not_marked_on_this_one(pub: QPublisher) -> None:
    up(fresh="here")
    disposable.add(("http://127.0.0.1:1", "users"))
    for name in ("here", "users"):
        sql("select queue.create_topic(%s)", name)
    with pytest.raises(StackError, match="'users' was not made by the lab"):
        up(fresh=["here", "users"])
    assert topics(pub, "here", "users") == {"here", "users"}
    up(fresh="here")
    assert topics(pub, "here", "users") == {"users"}


def test_a_mark_without_a_kernel_is_that_of_a_dead_one(pub: QPublisher) -> None:
    for name, old in (("old", "x (made by qlib.lab)"), ("bare", "(made by qlib.lab)")):
        assert "qlib.lab" not in shown(pub.create_topic(name, old))
        assert pub.topic(name).description == old
        up(fresh=name)
        assert topics(pub, name) == set()
    pub.create_topic("words", "what is (made by qlib.lab) here")
    with pytest.raises(StackError, match="was not made by the lab"):
        up(fresh="words")


def shown(topic: Topic) -> str:
    assert "qlib.lab" not in topic._repr_html_()
    return repr(topic)
