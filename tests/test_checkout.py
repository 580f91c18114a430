"""A checkout works whatever git's settings are."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.server_process import ROOT


def git(directory: Path, *arguments: str) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    safe = ["-c", "safe.directory=*"]  # a repository of another user
    subprocess.run(["git", *safe, *arguments], cwd=directory, env=environment, check=True)


def with_carriage_returns(directory: Path) -> set[str]:
    """Return the text files that have some."""
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and ".git" not in path.parts
        if b"\0" not in (content := path.read_bytes()) and b"\r\n" in content
    }


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")
def test_a_checkout_with_autocrlf_has_the_same_lines(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "-c", "core.autocrlf=true", str(ROOT), str(clone))
    assert with_carriage_returns(clone) == set()
    git(clone, "rm", "-q", ".gitattributes")  # the control
    again = ["compose/95_logins.sh", "compose/lab.sh", "init/10_schema.sql"]
    git(clone, "rm", "-q", *again)
    git(clone, "checkout", "-q", "HEAD", "--", *again)
    assert with_carriage_returns(clone) == set(again)
