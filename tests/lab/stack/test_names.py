"""A name is that of the live kernel that holds its lock; a dead one's topics are nobody's."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest
from psycopg2.extensions import connection

from qlib import QPublisher
from qlib.lab import StackError, up
from qlib.lab.stack import names
from qlib.lab.stack.names import Names, Taken
from tests.server_process import ROOT, ServerProcess
from tests.waiting import until

LONG = 60.0
# Everybody gets it, as if there were none.
NO_LOCK = "select (%s, %s) is not null"

# A kernel: it makes its topic, and lives until its input ends.
KERNEL = """
import os, sys
from qlib import QPublisher, lab
url = os.environ["QUEUE_URL"]
lab.up(fresh=sys.argv[1])
QPublisher().create_topic(sys.argv[1], "every order placed")
QPublisher().publish(sys.argv[1], "theirs")
print(os.environ["QUEUE_URL"] == url, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def shared(server: ServerProcess) -> Iterator[QPublisher]:
    """The queue at hand is one that $QUEUE_URL names: others use it, and it is left to them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUEUE_URL", server.url)
        patch.setenv("QUEUE_DSN", server.settings["DATABASE_URL"])
        with QPublisher(server.url) as publisher:
            yield publisher


@contextmanager
def kernel(name: str) -> Iterator[subprocess.Popen[str]]:
    """Run a kernel that has taken the queue at hand, and made its topic there."""
    command = [sys.executable, "-c", KERNEL, name]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout
            assert process.stdout.readline().startswith("the queue is http://127.0.0.1:")
            assert process.stdout.readline() == "True\n"
            yield process
        finally:
            process.kill()


def free(dsn: str, name: str) -> bool:
    """Whether nobody owns a name at this moment."""
    other = Names(dsn)
    try:
        other.claim([name])
    except Taken:
        return False
    other.release({name})
    return True


def test_a_live_kernel_keeps_its_topic(
    shared: QPublisher, capsys: pytest.CaptureFixture[str]
) -> None:
    url, dsn = os.environ["QUEUE_URL"], os.environ["QUEUE_DSN"]
    with kernel("alive"):
        up(fresh="alive")
        said = f"alive on {url} is another's: this notebook takes a private queue\n"
        assert capsys.readouterr().out == said
        assert os.environ["QUEUE_URL"] != url
        up(fresh="alive")
        with QPublisher() as own:
            assert own.create_topic("alive").head == 0
        assert capsys.readouterr().out == ""
        assert shared.topic("alive").head == 1
        with pytest.raises(StackError, match="'alive' is that of another kernel, which is alive"):
            up(fresh="alive", url=url, dsn=dsn)
        assert os.environ["QUEUE_URL"] != url
    shared.delete_topic("alive")


def test_control_without_a_lock_it_would_lose_it(
    shared: QPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "_LOCK", NO_LOCK)
    with kernel("unlocked"):
        up(fresh="unlocked")
        assert "unlocked" not in [topic.topic for topic in shared.topics()]


def test_a_dead_kernels_topic_is_taken_over(
    shared: QPublisher, capsys: pytest.CaptureFixture[str]
) -> None:
    url, dsn = os.environ["QUEUE_URL"], os.environ["QUEUE_DSN"]
    with kernel("dead") as process:
        assert not free(dsn, "dead")
        process.kill()
        process.wait(LONG)
        until(lambda: free(dsn, "dead"), LONG)
    assert shared.topic("dead").head == 1
    up(fresh="dead")
    assert capsys.readouterr().out == f"the queue is {url}\n"
    assert shared.create_topic("dead").head == 0
    assert not free(dsn, "dead")


def test_a_user_s_topic_stays_and_its_name_is_left(shared: QPublisher, topic: str) -> None:
    dsn = os.environ["QUEUE_DSN"]
    shared.publish(topic, "mine")
    before = shared.topic(topic)
    up(fresh=["free", topic])
    assert os.environ["QUEUE_DSN"] != dsn
    assert shared.topic(topic) == before
    assert free(dsn, topic) and free(dsn, "free")


def test_without_the_database_nobody_can_tell(
    shared: QPublisher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = os.environ["QUEUE_URL"]
    monkeypatch.setenv("QUEUE_DSN", "")
    up()
    assert os.environ["QUEUE_URL"] == url
    up(fresh="unknown")
    assert os.environ["QUEUE_URL"] != url and os.environ["QUEUE_DSN"]
    assert capsys.readouterr().out == (
        f"the queue is {url}\nunknown on {url} may be another's (no $QUEUE_DSN):"
        " this notebook takes a private queue\n"
    )


def winners(dsn: str, name: str) -> int:
    """Return how many of four who look at the same moment get a name."""
    owners, together = [Names(dsn) for _ in range(4)], Barrier(4)

    def look(owner: Names) -> bool:
        together.wait(LONG)
        try:
            return owner.claim([name]) == {name}
        except Taken:
            return False

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(look, owners))


def test_one_of_those_who_look_at_the_same_moment_gets_it(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [winners(dsn, f"race-{number}") for number in range(20)] == [1] * 20
    monkeypatch.setattr(names, "_LOCK", NO_LOCK)
    assert winners(dsn, "race") == 4


def test_all_names_or_none(dsn: str) -> None:
    one, other = Names(dsn), Names(dsn)
    assert one.claim(["a"]) == {"a"}
    with pytest.raises(Taken, match="'a'"):
        other.claim(["b", "a"])
    assert free(dsn, "b") and not free(dsn, "a")
    assert one.claim(["a", "b", "b"]) == {"b"}


def test_a_session_that_was_cut_off_is_renewed(dsn: str, connect: Callable[[], connection]) -> None:
    owner = Names(dsn)
    owner.claim(["kept"])
    with connect() as session, session.cursor() as cursor:
        cursor.execute(
            "select pg_terminate_backend(pid, 30000) from pg_locks"
            " where locktype = 'advisory' and classid = %s",
            (names._CLASS,),
        )
        assert cursor.fetchall() == [(True,)]
    assert free(dsn, "kept")
    assert owner.claim([]) == set()
    assert not free(dsn, "kept")


def test_a_forked_child_owns_nothing_and_leaves_its_parents_session(dsn: str) -> None:
    owned = names._databases[os.getpid()][dsn]
    owned.claim(["parent's"])
    child = os.fork()
    if not child:
        try:
            names._databases[os.getpid()][dsn].claim(["parent's"])
        except Taken:
            os._exit(17)  # as it must be
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    assert owned.claim(["parent's"]) == set()
    assert not free(dsn, "parent's")
