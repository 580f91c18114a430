"""The list of what a container must be catches each single flaw."""

import copy
from typing import Any

import pytest

from tests.compose.hardened import Container, problems

SOUND: Container = {
    "Config": {"User": "queue", "Healthcheck": {"Test": ["CMD", "true"]}},
    "HostConfig": {
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": None,
        "SecurityOpt": ["no-new-privileges:true"],
        "ReadonlyRootfs": True,
        "Memory": 2**30,
        "NanoCpus": 10**9,
        "PidsLimit": 64,
        "LogConfig": {"Type": "local", "Config": {"max-size": "10m", "max-file": "3"}},
        "RestartPolicy": {"Name": "unless-stopped"},
    },
    "NetworkSettings": {
        "Ports": {"8008/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8008"}], "5432/tcp": None}
    },
}


def test_a_sound_container_has_no_problems() -> None:
    assert problems(SOUND) == []


@pytest.mark.parametrize(
    ("part", "name", "value", "problem"),
    [
        ("Config", "User", "", "it runs as root"),
        ("Config", "User", "0:0", "it runs as root"),
        ("HostConfig", "Privileged", True, "it is privileged"),
        ("HostConfig", "CapDrop", None, "it keeps capabilities"),
        ("HostConfig", "CapAdd", ["CHOWN"], "it keeps capabilities"),
        ("HostConfig", "SecurityOpt", None, "it may gain privileges"),
        ("HostConfig", "ReadonlyRootfs", False, "its root can be written to"),
        ("HostConfig", "Memory", 0, "no limit Memory"),
        ("HostConfig", "NanoCpus", 0, "no limit NanoCpus"),
        ("HostConfig", "PidsLimit", None, "no limit PidsLimit"),
        ("HostConfig", "LogConfig", {"Type": "json-file", "Config": {}}, "its log has no limit"),
        ("HostConfig", "RestartPolicy", {"Name": "no"}, "it is not started again"),
        (
            "NetworkSettings",
            "Ports",
            {"5432/tcp": [{"HostIp": "0.0.0.0", "HostPort": "5432"}]},
            "a port is open to the network",
        ),
        (
            "NetworkSettings",
            "Ports",
            {"5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": "40000"}]},
            "a port is one of those for outgoing connections",
        ),
    ],
)
def test_a_flaw_is_told(part: str, name: str, value: Any, problem: str) -> None:
    flawed = copy.deepcopy(SOUND)
    flawed[part][name] = value
    assert problems(flawed) == [problem]


def test_a_container_without_a_health_check_is_told() -> None:
    flawed = copy.deepcopy(SOUND)
    del flawed["Config"]["Healthcheck"]
    assert problems(flawed) == ["nobody looks whether it works"]
