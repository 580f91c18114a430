"""Load from programs in C: pgbench calls Postgres, wrk the HTTP server.

Each is run for a round and gives its rate and its latencies as figures of the round.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from server.engines.postgres.embedded_cluster import packaged_programs
from tests.bench.messages import request_body
from tests.bench.rounds import RATE, Figures, percentiles

_SCRIPT = Path(__file__).with_name("publish.lua")
_SECONDS = 1  # of wrk, which counts in whole seconds
_PATIENCE = 120.0  # seconds


def pgbench(
    dsn: str, script: str, transactions: int, clients: int = 1, **variables: object
) -> Figures:
    """Run a script `transactions` times, prepared, spread over the clients.

    In the script `:client_id` tells clients apart; `variables` are given to each and kept by it.
    """
    with tempfile.TemporaryDirectory(prefix="queue-bench-") as path:
        log, file = Path(path, "log"), Path(path, "script.sql")
        file.write_text(script)
        command = [packaged_programs() / "pgbench", "-n", "-M", "prepared", "-f", file]
        command += ["-c", str(clients), "-t", str(transactions // clients)]
        command += ["-l", f"--log-prefix={log}"]
        command += [f"--define={name}={value}" for name, value in variables.items()]
        said = _output([*map(str, command), dsn])
        latencies = [
            float(line.split()[2]) / 1e6
            for part in Path(path).glob("log.*")
            for line in part.read_text().splitlines()
        ]
    assert len(latencies) == transactions // clients * clients, said
    rate = re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)
    assert rate, said
    return {RATE: float(rate[1]), **percentiles(latencies)}


def wrk(url: str, topics: Sequence[str], payloads: Sequence[str], connections: int = 1) -> Figures:
    """Publish one and the same batch for a second, to one topic after the other."""
    with tempfile.NamedTemporaryFile("w", prefix="queue-bench-") as body:
        body.write(request_body(payloads))
        body.flush()
        paths = [f"/topics/{topic}/messages" for topic in topics]
        found = wrk_script(url, _SCRIPT, [body.name, *paths], connections)
    rate = found.pop("requests") * len(payloads) / found.pop("seconds")
    return {RATE: rate, **found}


def wrk_script(
    url: str, script: Path, arguments: Sequence[str], connections: int
) -> dict[str, float]:
    """Run a script of wrk's for a second; return what it has counted. AssertionError when anything went wrong."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{_SECONDS}s", "-s", str(script)]
    said = _output([*command, url, "--", *arguments])
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    assert found.pop("errors") == 0, said
    return found


def has_wrk() -> bool:
    """Whether wrk is installed."""
    return shutil.which("wrk") is not None


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout
