"""What a container must be, as a list of what is wrong with one."""

from collections.abc import Iterator
from typing import Any

Container = dict[str, Any]


def problems(container: Container) -> list[str]:
    """Return everything that is wrong with a container as `docker inspect` tells it, in words."""
    return [*_rights(container), *_limits(container), *_ports(container)]


def _rights(container: Container) -> Iterator[str]:
    config, host = container["Config"], container["HostConfig"]
    if config["User"].split(":")[0] in ("", "0", "root"):
        yield "it runs as root"
    if host["Privileged"]:
        yield "it is privileged"
    if host["CapDrop"] != ["ALL"] or host["CapAdd"]:
        yield "it keeps capabilities"
    if not any(option.startswith("no-new-privileges") for option in host["SecurityOpt"] or ()):
        yield "it may gain privileges"
    if not host["ReadonlyRootfs"]:
        yield "its root can be written to"


def _limits(container: Container) -> Iterator[str]:
    host = container["HostConfig"]
    for limit in ("Memory", "NanoCpus", "PidsLimit"):
        if not (host[limit] or 0) > 0:
            yield f"no limit {limit}"
    if not {"max-size", "max-file"} <= set(host["LogConfig"]["Config"]):
        yield "its log has no limit"
    if host["RestartPolicy"]["Name"] != "unless-stopped":
        yield "it is not started again"
    if "Healthcheck" not in container["Config"]:
        yield "nobody looks whether it works"


def _ports(container: Container) -> Iterator[str]:
    for bindings in (container["NetworkSettings"]["Ports"] or {}).values():
        for binding in bindings or ():
            if binding["HostIp"] != "127.0.0.1":
                yield "a port is open to the network"
            if int(binding["HostPort"]) >= 32768:
                yield "a port is one of those for outgoing connections"
