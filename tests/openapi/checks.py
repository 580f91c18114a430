"""The description passes Redocly's rules, and clients made from it publish and read at a real server."""

import copy
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.openapi.tools import HOME
from tests.server.answers import ok
from tests.server_process import ServerProcess

HERE = Path(__file__).parent
TOKEN = "t0ken"
PACKAGE = "queue_lab_client"
Document = dict[str, Any]


@pytest.fixture
def server(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server with a token."""
    return start_server(queue_token=TOKEN)


@pytest.fixture
def document(server: ServerProcess) -> Document:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    found: Document = ok(server.call("GET", "/openapi.json", headers=headers))
    return found


@pytest.fixture
def work() -> Iterator[Path]:
    """A directory where Node finds what is installed."""
    with tempfile.TemporaryDirectory(dir=HOME) as path:
        yield Path(path)


def run(work: Path, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the tools; requests go nowhere but to the server under test."""
    path = os.pathsep.join([str(HOME / "node_modules/.bin"), str(HOME / "venv/bin"), os.defpath])
    own = {"PATH": path, "NO_PROXY": "*", "REDOCLY_TELEMETRY": "off", "NO_COLOR": "1"}
    node = shutil.which("node")
    assert node
    own["PATH"] += os.pathsep + str(Path(node).parent)
    return subprocess.run(
        list(map(str, command)),
        cwd=work,
        env={**own, "HOME": str(work), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def stored(document: Document, work: Path) -> Path:
    path = work / "openapi.json"
    path.write_text(json.dumps(document))
    return path


def with_flaws(document: Document) -> Document:
    """What the description once was: the control of all that follows."""
    changed = copy.deepcopy(document)
    del changed["servers"], changed["info"]["license"]
    schemas = changed["components"]["schemas"]
    schemas["Batch"]["properties"]["keys"]["default"] = None
    schemas["Message"]["properties"]["headers"] = {"type": "object"}
    changed["paths"]["/metrics"]["get"]["responses"]["200"]["content"] = {"*/*": {}}
    return changed


def expected(server: ServerProcess) -> list[str]:
    """Return what both clients print."""
    status = ok(server.call("GET", "/health"))["status"]
    return [
        "published 2",
        "1 - - 1 True",
        '2 k 1 {"a":2} True',
        "3 - - 3 True",
        "position 2",
        "leased 3 1 True",
        "dead 1 3 3 nacked no",
        "removed 1",
        "topic_not_found",
        "True",
        f"{status} True",
        "3.1.0",
    ]


def test_redocly_has_nothing_to_say(document: Document, work: Path) -> None:
    lint = ("redocly", "lint", "--extends=recommended-strict", "--format=json")
    done = run(work, *lint, stored(document, work))
    assert done.returncode == 0 and json.loads(done.stdout)["problems"] == [], done.stdout
    done = run(work, *lint, stored(with_flaws(document), work))
    rules = {problem["ruleId"] for problem in json.loads(done.stdout)["problems"]}
    assert done.returncode != 0 and {"no-empty-servers", "info-license"} <= rules


def made_in_python(document: Document, work: Path) -> str:
    """Make the client; return what its maker had to say."""
    generate = ("openapi-python-client", "generate", "--overwrite", "--meta=none")
    done = run(work, *generate, "--path", stored(document, work), "--output-path", work / PACKAGE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_client_made_by_openapi_python_client(
    server: ServerProcess, document: Document, work: Path
) -> None:
    assert "WARNING" in made_in_python(with_flaws(document), work)
    assert "WARNING" not in made_in_python(document, work)
    done = run(work, "python", HERE / "client.py", server.url, TOKEN, "t", PYTHONPATH=str(work))
    assert done.returncode == 0, done.stderr
    shown = done.stdout.replace("{'a': 2}", '{"a":2}').splitlines()
    assert shown == expected(server)


def made_in_typescript(document: Document, work: Path) -> subprocess.CompletedProcess[str]:
    """Make the types, and translate the program that uses them."""
    done = run(work, "openapi-typescript", stored(document, work), "-o", work / "schema.d.ts")
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copy(HERE / "client.mts", work)
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck")
    return run(work, "tsc", *options, "--lib", "es2022,dom,dom.iterable", "client.mts")


def test_a_client_made_by_openapi_typescript(
    server: ServerProcess, document: Document, work: Path
) -> None:
    flawed = made_in_typescript(with_flaws(document), work).stdout
    assert "'keys' is missing" in flawed and "client.mts" in flawed
    done = made_in_typescript(document, work)
    assert done.returncode == 0, done.stdout
    done = run(work, "node", "client.mjs", server.url, TOKEN, "t")
    assert done.returncode == 0, done.stderr
    shown = done.stdout.replace("true", "True").splitlines()
    assert shown == expected(server)
