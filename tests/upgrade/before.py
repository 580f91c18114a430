"""The version before this one, out of the history, for the tests that upgrade from it."""

import subprocess
from pathlib import Path

from tests.server_process import ROOT

# Set anew, with the number in init/06_number.sql raised, when a version is published.
BEFORE = "f2b80f933e70b27357f734cc8607cfbbf2a3df8f"
# The last one whose files of init/ had no number.
NUMBERLESS = "5989f56927464ab481abd34be723c9e3bceb4f0e"


def take_out(commit: str, directory: Path) -> Path:
    """Put the tree of a commit into a directory; return that. Raises LookupError."""
    archive = directory / "before.tar"
    tree = directory / "before"
    tree.mkdir()
    try:
        _run("git", "-C", str(ROOT), "archive", f"--output={archive}", commit)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise LookupError(
            f"the version before this one, commit {commit}, is not in this clone: get the whole history, "
            f"by `git fetch --unshallow` or a new clone without --depth ({said.strip()})"
        ) from None
    _run("tar", "-x", "-f", str(archive), "-C", str(tree))
    return tree


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
