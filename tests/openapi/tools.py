"""The generators, in versions that are pinned here, installed apart from all else: into `.openapi/`."""

import shutil
import subprocess
import sys

from tests.server_process import ROOT

HOME = ROOT / ".openapi"
NPM = (
    "@redocly/cli@2.77.0",
    "openapi-fetch@0.17.0",
    "openapi-typescript@7.13.0",
    "typescript@5.9.3",
)
PYPI = ("openapi-python-client==0.29.1",)


def install() -> None:
    """Install what is missing. Exits with a message when npm is."""
    wanted, ready = "\n".join([*NPM, *PYPI]), HOME / "ready"
    if ready.exists() and ready.read_text() == wanted:
        return
    if not shutil.which("npm"):
        sys.exit("npm is needed for the clients in TypeScript: install Node.js 20 or newer")
    HOME.mkdir(exist_ok=True)
    quiet = ("--no-audit", "--no-fund", "--loglevel=error")
    subprocess.run(["npm", "install", "--prefix", str(HOME), *quiet, *NPM], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(HOME / "venv")], check=True)
    pip = [str(HOME / "venv/bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PYPI], check=True)
    ready.write_text(wanted)
