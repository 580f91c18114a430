"""The containers' health checks ask their own server, whatever proxy the environment names."""

import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.server_process import ROOT, ServerProcess, free_port

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
URLLIB = "from urllib.request import urlopen; urlopen('http://127.0.0.1:8008/health', timeout=5)"


def code(program: str, port: int, **environment: str) -> int:
    """Run the Python of a check against another port; return its exit code."""
    for own, path in (("8008", "/health"), ("8888", "/api")):
        program = program.replace(own, str(port)).replace(path, "/health")
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, env=environment, timeout=60).returncode


def test_every_service_that_speaks_http_is_asked_by_python() -> None:
    asked = {name: one["healthcheck"]["test"][:3] for name, one in SERVICES.items()}
    assert asked.pop("db")[1] == "pg_isready"
    assert asked == dict.fromkeys(("server", "proxy", "lab"), ["CMD", "python", "-c"])


@pytest.mark.parametrize("service", ["server", "proxy", "lab"])
def test_a_proxy_is_not_asked(server: ServerProcess, service: str) -> None:
    program = SERVICES[service]["healthcheck"]["test"][3]
    proxies = dict.fromkeys(PROXIES, f"http://127.0.0.1:{free_port()}")
    assert code(program, server.port, **proxies) == 0
    assert code(program, free_port()) != 0  # nobody is there
    assert code(program.replace("'GET', '", "'GET', '/nowhere"), server.port) != 0
    assert code(URLLIB, server.port) == 0 != code(URLLIB, server.port, **proxies)  # the control
