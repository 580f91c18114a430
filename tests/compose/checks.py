"""What must be true of the stack as it stands, without load."""

import json
from pathlib import Path

import pytest

from qlib import QSubscriber, TopicNotFound
from qlib.lab.course.chapters import source
from tests.browser import browser, run_all, sound
from tests.compose.hardened import problems
from tests.compose.stack import Stack, get
from tests.notebooks.chapter import ROOT, code
from tests.notebooks.strict import SANITIZE
from tests.waiting import until

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SERVICES = ["db", "lab", "proxy", "server"]
LAPTOP = 6 * 2**30  # bytes of memory that all containers together may take
# What the kernel says of a container's first process: no capability, now or ever.
BARE = {"NoNewPrivs": "1", "CapEff": "0" * 16, "CapBnd": "0" * 16}


def it_comes_up(stack: Stack) -> None:
    stack.told("up -d --build --wait")
    names = [one["Config"]["Labels"]["com.docker.compose.service"] for one in stack.containers()]
    assert sorted(names) == SERVICES
    assert stack.healthy(*SERVICES)


def nobody_has_more_rights_than_needed(stack: Stack) -> None:
    found = {service: stack.containers(service)[0] for service in SERVICES}
    assert {service: problems(one) for service, one in found.items()} == dict.fromkeys(SERVICES, [])
    assert sum(one["HostConfig"]["Memory"] for one in found.values()) <= LAPTOP
    for service in SERVICES:
        status = stack.inside(service, "cat", "/proc/1/status")
        told = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
        assert {name: told[name][0] for name in BARE} == BARE
        assert "0" not in told["Uid"]
    published = {
        service: sorted(port for port, it in one["NetworkSettings"]["Ports"].items() if it)
        for service, one in found.items()
    }
    assert published == {"db": [], "lab": ["8888/tcp"], "proxy": ["8008/tcp"], "server": []}


def secrets_are_where_they_belong(stack: Stack) -> None:
    held = {
        "server": ["pgpass", "queue_token"],
        "lab": ["jupyter_token", "pgpass", "queue_token"],
    }
    told = json.dumps(stack.containers()) + stack.compose("config") + stack.compose("logs")
    assert "passfile=/secrets/pgpass" in told
    for service, names in held.items():
        modes = stack.inside(service, "sh", "-c", "cd /secrets && stat -c '%n %a' *")
        assert modes.splitlines() == [f"{name} 600" for name in names]
        for name in names:
            secret = stack.secret(service, name).rpartition(":")[2]
            assert len(secret) == 36 and secret not in told
    assert stack.secret("server", "pgpass") != stack.secret("lab", "pgpass")


CONNECT = """
import os, psycopg2, sys
psycopg2.connect(os.environ["QUEUE_DSN"] + " " + sys.argv[1]).close()
"""


def outsiders_stay_out(stack: Stack) -> None:
    assert get(f"{stack.url}/health", timeout=10).json()["status"] == "ok"
    assert get(f"{stack.url}/topics", timeout=10).status_code == 401
    assert get(f"{stack.lab}/api/contents", timeout=10).status_code == 403
    for url, refusal in ((f"{stack.url}/health", 421), (f"{stack.lab}/api", 403)):
        answer = get(url, headers={"Host": "evil.example"}, timeout=10)
        assert answer.status_code == refusal, answer.text
    stack.inside("lab", "python", "-c", CONNECT, "")
    for guess in ("passfile=/", "passfile=/ password=lab", "user=postgres password=postgres"):
        with pytest.raises(AssertionError, match="password"):
            stack.inside("lab", "python", "-c", CONNECT, guess)
    assert stack.psql("select rolname from pg_roles where rolsuper") == "postgres\n"


def secrets_can_be_renewed(stack: Stack) -> None:
    before = [stack.secret("server", name) for name in ("pgpass", "queue_token")]
    for words in ("95_logins.sh", "restart server lab"):
        stack.told(words)
    until(lambda: stack.healthy("server", "lab"), 60)
    after = [stack.secret("server", name) for name in ("pgpass", "queue_token")]
    assert not set(before) & set(after)
    statuses = [
        get(
            f"{stack.url}/topics", headers={"Authorization": f"Bearer {token}"}, timeout=10
        ).status_code
        for token in (before[1], after[1])
    ]
    assert statuses == [401, 200]


def an_old_volume_gets_the_new_sql(stack: Stack) -> None:
    stack.psql("delete from queue.installation; drop function queue.browse")
    stack.compose("restart", "server")
    until(lambda: stack.healthy("server"), 60)
    assert stack.psql("select to_regproc('queue.browse') is not null") == "t\n"


def every_chapter_runs(stack: Stack) -> None:
    assert len(CHAPTERS) >= 6
    stack.inside("lab", "sh", "-c", "cat >/tmp/sanitize.cfg", given=SANITIZE.read_text())
    for path in CHAPTERS:
        command = ["lab.sh", "python", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["-c", "/dev/null", "--rootdir", ".", "--nbval", f"/app/notebooks/{path.name}"]
        command += ["--nbval-sanitize-with", "/tmp/sanitize.cfg", "--nbval-current-env"]
        last = stack.inside("lab", *command).splitlines()[-1]
        assert last.startswith(f"{_cells(path)} passed in"), f"{path.name}: {last}"


def the_first_chapter_runs_in_a_browser(stack: Stack) -> None:
    with browser() as page:
        assert run_all(page, stack.told("jupyter_token").strip()) == sound(CHAPTERS[0])


def a_changed_chapter_is_kept(stack: Stack) -> None:
    name = CHAPTERS[1].name
    copy, newer = (f"my-notebooks/{stem}.ipynb" for stem in (name[:-6], f"{name[:-6]}-newer"))
    stack.inside("lab", "python", "-c", OLDER, copy)
    stack.compose("up", "-d", "--wait", "--force-recreate", "--no-deps", "lab")
    told = [source(cell) for cell in json.loads(stack.inside("lab", "cat", copy))["cells"]]
    assert told == ["changed"]
    fresh = json.loads(stack.inside("lab", "cat", newer))["cells"]
    chapter = json.loads(CHAPTERS[1].read_text())["cells"]
    assert [source(cell) for cell in fresh] == [source(cell) for cell in chapter]
    assert not any(cell.get("outputs") for cell in fresh)
    stack.inside("lab", "python", "-m", "qlib.lab", "reset", name[:2])
    kept = json.loads(stack.inside("lab", "cat", copy.replace(".ipynb", "-mine.ipynb")))
    assert source(kept["cells"][0]) == "changed"


# A copy of an older version, in which somebody has written.
OLDER = """
import json, sys
cell = {"cell_type": "markdown", "metadata": {}, "source": ["changed"]}
told = {"cells": [cell], "metadata": {"queue-lab": "older"}, "nbformat": 4, "nbformat_minor": 5}
open(sys.argv[1], "w").write(json.dumps(told))
"""


def a_backup_is_restored_into_an_empty_stack(stack: Stack) -> None:
    topic = "kept"
    with stack.queue() as queue:
        queue.create_topic(topic)
        queue.publish_many(topic, range(10))
        with QSubscriber(
            topic, "reader", start=4, url=stack.url, token=queue_token(stack)
        ) as reader:
            before = queue.browse(topic), reader.position
    stack.told("pg_dump -U postgres")
    stack.compose("down", "-v")
    stack.compose("up", "-d", "--wait")
    with stack.queue() as queue, pytest.raises(TopicNotFound):
        queue.topic(topic)
    for words in ("stop lab proxy server", "pg_restore", "docker compose up -d --wait"):
        stack.told(words)
    with (
        stack.queue() as queue,
        QSubscriber(topic, "reader", url=stack.url, token=queue_token(stack)) as reader,
    ):
        assert (queue.browse(topic), reader.position) == before
        assert queue.publish(topic, 10) == 11


def queue_token(stack: Stack) -> str:
    return stack.secret("server", "queue_token")


def _cells(path: Path) -> int:
    cells = len(code(json.loads(path.read_text())))
    assert cells > 5
    return cells
