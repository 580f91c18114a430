"""The stack of docker-compose.yml, as a project of the test's own on ports of its own."""

import json
import os
import re
import subprocess
import tempfile
from typing import Any, Self

import requests

from qlib import QPublisher
from tests.server_process import ROOT, free_port
from tests.waiting import until

PROJECT = "queue-lab-test"
PATIENCE = 900.0  # seconds for one command; the first build installs everything
BACK = 90.0  # seconds until a container that was killed is healthy again
README = (ROOT / "README.md").read_text()


class Stack:
    """A context manager: nothing of the project is there before, nothing afterwards."""

    def __init__(self) -> None:
        self.queue_port, self.lab_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.queue_port}"
        self.lab = f"http://127.0.0.1:{self.lab_port}"
        self._directory = tempfile.TemporaryDirectory(prefix="queue-test-")

    def __enter__(self) -> Self:
        self.compose("down", "-v", "--remove-orphans")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            print(self.compose("logs", "--no-color", "--tail", "40"))
        self.compose("down", "-v", "--remove-orphans")
        left = self._left()
        self._directory.cleanup()
        assert not left, f"of the stack these are left: {left}"

    def told(self, words: str) -> str:
        """Run the one command of the README that has these words, at our ports; return its output.

        A file that it writes or reads is in a directory of the test's own.
        """
        blocks = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
        commands = {*re.findall("`(docker compose .*?)`", README), *"".join(blocks).splitlines()}
        found = [command for command in commands if words in command]
        assert len(found) == 1, f"the README has {len(found)} commands with {words!r}"
        return self.run(["sh", "-c", found[0].replace(":8888", f":{self.lab_port}")])

    def compose(self, *words: str, given: str = "") -> str:
        """Run `docker compose`; return its output."""
        return self.run(["docker", "compose", *words], given)

    def inside(self, service: str, *command: str, given: str = "") -> str:
        """Run a command in a service's container; return its output."""
        return self.compose("exec", "-T", service, *command, given=given)

    def psql(self, statement: str) -> str:
        """Run a statement as the superuser; return its rows."""
        return self.inside("db", "psql", "-XqAt", "-U", "postgres", "-d", "queue", "-c", statement)

    def queue(self) -> QPublisher:
        """Return a client at the published port."""
        return QPublisher(self.url, self.secret("server", "queue_token"))

    def secret(self, service: str, name: str) -> str:
        """Return what a service's secret is."""
        return self.inside(service, "cat", f"/secrets/{name}")

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """Return what the engine tells of the containers, those that have ended too."""
        ids = self.compose("ps", "-a", "-q", *services).split()
        found: list[dict[str, Any]] = json.loads(self.run(["docker", "inspect", *ids]))
        return found

    def crash(self, service: str) -> None:
        """Kill a service's process with SIGKILL; return when the engine has brought it back."""
        before = self._restarts(service)
        dying = ["sh", "-c", "kill -9 $(cat /proc/1/task/1/children)"]
        subprocess.run(
            ["docker", "compose", "exec", "-T", service, *dying],
            stdin=subprocess.DEVNULL,
            capture_output=True,  # this command may die with the container
            env=self._environment(),
            cwd=self._directory.name,
            timeout=PATIENCE,
        )
        until(lambda: self._restarts(service) > before and self.healthy(service), BACK)

    def healthy(self, *services: str) -> bool:
        """Whether all containers of these services are running, and healthy."""
        states = [one["State"] for one in self.containers(*services)]
        return all(
            (it["Status"], it["Health"]["Status"]) == ("running", "healthy") for it in states
        )

    def run(self, command: list[str], given: str = "") -> str:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            env=self._environment(),
            cwd=self._directory.name,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _restarts(self, service: str) -> int:
        (container,) = self.containers(service)
        return int(container["RestartCount"])

    def _left(self) -> list[str]:
        """Return the ids and names of what there is of the project, but images."""
        ours = ["--filter", f"label=com.docker.compose.project={PROJECT}", "-q"]
        kinds = (["ps", "-a"], ["volume", "ls"], ["network", "ls"])
        return [word for kind in kinds for word in self.run(["docker", *kind, *ours]).split()]

    def _environment(self) -> dict[str, str]:
        ours = {"QUEUE_PORT": str(self.queue_port), "LAB_PORT": str(self.lab_port)}
        file = str(ROOT / "docker-compose.yml")
        return os.environ | ours | {"COMPOSE_PROJECT_NAME": PROJECT, "COMPOSE_FILE": file}


def get(url: str, **options: Any) -> requests.Response:
    """Ask for something at this machine, whatever proxy the environment names."""
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, **options)
