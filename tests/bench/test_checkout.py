"""Another checkout: which one, its server and its client; each is that checkout's and ends in time."""

import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench import __main__ as command
from tests.bench import client
from tests.bench.checkout import Checkout, ClientError, base, this
from tests.bench.stand import Stand

# Says where it was started, and nothing else that a server does.
SERVER = """
import pathlib, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(pathlib.Path.cwd()).encode())

_, _, port, _, data = sys.argv
pathlib.Path(data).mkdir()
pathlib.Path(data, "dsn").write_text("dbname=fake\\n")
server = HTTPServer(("127.0.0.1", int(port)), Handler)
print(f"queue server on http://127.0.0.1:{port}", flush=True)
server.serve_forever()
"""
# Keeps nobody busy, and remembers what it was asked for in a file beside it.
CLIENT = """
from pathlib import Path

class QPublisher:
    def __init__(self, *arguments, **named):
        pass
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def publish(self, topic, payload):
        if topic == "nowhere":
            raise RuntimeError("no such topic")
        with Path(__file__).with_name("calls").open("a") as calls:
            print(topic, payload["id"], file=calls)

QSubscriber = QPublisher
"""


@pytest.fixture
def other(tmp_path: Path) -> Checkout:
    """A checkout with a server and a client that only seem to be."""
    path = tmp_path.resolve()
    for name, text in (("server/__main__.py", SERVER), ("qlib/__init__.py", CLIENT)):
        (path / name).parent.mkdir()
        (path / name).write_text(text)
    (path / "init").mkdir()
    return Checkout(path)


@pytest.fixture
def name_base(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | str], None]:
    """Set BENCH_BASE."""
    return lambda path: monkeypatch.setenv("BENCH_BASE", str(path))


def test_the_base_is_the_checkout_that_is_named(
    other: Checkout, name_base: Callable[[Path | str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENCH_BASE", raising=False)
    assert base() is None
    name_base("")
    assert base() is None
    name_base(other.path)
    assert base() == other != this()
    assert (other.commit, this().path) == ("unknown", Path(command.__file__).parents[2])


@pytest.mark.parametrize("missing", ["server/__main__.py", "qlib/__init__.py", "init"])
def test_what_is_no_checkout_is_refused_in_a_sentence(
    other: Checkout,
    missing: str,
    name_base: Callable[[Path | str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    name_base(other.path)
    (other.path / missing).rename(other.path / "gone")
    with pytest.raises(SystemExit, match="2"):
        command.main(["raw"])
    told = capsys.readouterr().err.splitlines()[-1]
    said = f"BENCH_BASE: {other.path} is no checkout of this project: there is no {missing} in it"
    assert told.endswith(f"error: {said}")


def test_a_server_is_started_in_its_checkout(other: Checkout) -> None:
    with other.serving() as server:
        assert server.dsn == "dbname=fake"
        with urllib.request.urlopen(server.url, timeout=10) as answer:
            assert answer.read().decode() == str(other.path)
    with pytest.raises(OSError):
        urllib.request.urlopen(server.url, timeout=10)


def test_a_client_is_its_checkouts_and_does_what_it_is_told(other: Checkout) -> None:
    with other.client() as told:
        took = told.do("publishing", "http://nowhere", "orders", calls=3)
        assert took.keys() == {"cpu", "wall"} and took["wall"] > 0
        with pytest.raises(ClientError, match="no such topic"):
            told.do("publishing", "http://nowhere", "nowhere", calls=1)
        with pytest.raises(ClientError, match="KeyError: 'resting'"):
            told.do("resting", "http://nowhere", "orders")
        told.do("publishing", "http://nowhere", "orders", calls=1)  # an error ends nothing
    assert (other.path / "qlib" / "calls").read_text() == "orders 0\n" * 4
    assert told._process.returncode == 0


def test_a_client_of_another_place_is_not_measured(
    other: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Path("start.py")
    (other.path / start).write_text('print(\'{"qlib": "/elsewhere/qlib/__init__.py"}\')')
    monkeypatch.setattr("tests.bench.checkout._CLIENT", other.path / start)
    with (
        pytest.raises(AssertionError, match=r"/elsewhere/qlib/__init__.py is not of"),
        other.client(),
    ):
        pass


def test_a_client_that_does_not_start_is_an_error(
    other: Checkout, capfd: pytest.CaptureFixture[str]
) -> None:
    (other.path / "qlib" / "__init__.py").write_text("import nothing_of_this_name")
    with pytest.raises(ClientError, match="it has ended"), other.client():
        pass
    assert "nothing_of_this_name" in capfd.readouterr().err


def test_the_python_of_a_checkout_comes_first(other: Checkout) -> None:
    assert other._python == sys.executable
    own = other.path / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.symlink_to(sys.executable)
    assert other._python == str(own)


def test_every_work_is_done_by_this_client(stand: Stand) -> None:
    topics = {work: stand.topic() for work in client.WORKS}
    orders = {
        "fetching": {"size": 4, "calls": 2},
        "publishing": {"calls": 3},
        "publishing_many": {"size": 5, "calls": 2},
        "fanning_out": {"size": 1_500, "subscribers": 2},
    }
    cursor = stand.cursor()
    cursor.execute("select queue.publish_batch(%s, '[1, 2, 3, 4]')", (topics["fetching"],))
    with this().client() as told:
        for work, order in orders.items():
            told.do(work, stand.url, topics[work], **order)
        with pytest.raises(ClientError, match="a fetch was short"):
            told.do("fetching", stand.url, topics["fetching"], size=5, calls=1)
    cursor.execute(
        "select topic, head::int from queue.topics where topic = any (%s)", (list(topics.values()),)
    )
    heads = dict(cursor.fetchall())
    assert [heads[topics[work]] for work in orders] == [4, 3, 10, 1_500]
    cursor.execute(
        "select subscriber, position::int from queue.subscribers where topic = %s order by 1",
        (topics["fanning_out"],),
    )
    assert cursor.fetchall() == [("reader-0", 1_500), ("reader-1", 1_500)]
