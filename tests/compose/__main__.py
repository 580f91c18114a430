"""`make compose-test`: the whole stack, from its build to its end, with a time for each step.

It needs a Docker engine with Compose 2 and Debian's chromium; without them it fails. Everything is
in a project of its own, on free ports.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable

from tests.browser import chromium
from tests.compose import checks, load
from tests.compose.stack import Stack

STEPS: list[Callable[[Stack], None]] = [
    checks.it_comes_up,
    checks.nobody_has_more_rights_than_needed,
    checks.outsiders_stay_out,
    checks.secrets_can_be_renewed,
    checks.an_old_volume_gets_the_new_sql,
    checks.every_chapter_runs,
    checks.the_first_chapter_runs_in_a_browser,
    checks.a_changed_chapter_is_kept,
    load.three_servers_share_the_load,
    load.each_container_is_killed_in_turn,
    checks.secrets_are_where_they_belong,
    checks.a_backup_is_restored_into_an_empty_stack,
]


def main() -> int:
    """Run all steps; return the exit code."""
    if missing := _missing():
        print(f"not tested: {missing}", file=sys.stderr)
        return 2
    begun = time.monotonic()
    with Stack() as stack:
        for step in STEPS:
            _timed(step, stack)
    print(f"{time.monotonic() - begun:6.1f} s  all {len(STEPS)} steps, and nothing is left")
    return 0


def _timed(step: Callable[[Stack], None], stack: Stack) -> None:
    name, begun = step.__name__.replace("_", " "), time.monotonic()
    print(f"          {name} …", flush=True)
    step(stack)
    print(f"{time.monotonic() - begun:6.1f} s  {name}", flush=True)


def _missing() -> str:
    for needed in (["docker", "version"], ["docker", "compose", "version"]):
        if not shutil.which("docker") or subprocess.run(needed, capture_output=True).returncode:
            return f"`{' '.join(needed)}` fails: is a Docker engine running?"
    return "" if chromium() else "there is no chromium on the PATH"


if __name__ == "__main__":
    sys.exit(main())
