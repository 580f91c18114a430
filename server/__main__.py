"""`python -m server`: a database if none is given, the worker process, and an orderly end."""

import logging
import resource
import signal
import sys
from contextlib import ExitStack

from server import logs
from server.address import in_url
from server.engines.postgres.starting import CannotStart, database
from server.http.bounds import Bounds
from server.http.serving import CannotListen, bind, listen
from server.parent import Parent
from server.settings import parse

log = logging.getLogger("server")


def main() -> int:
    """Run the server until SIGTERM, Ctrl-C or the terminal's end; return the exit code."""
    settings = parse()
    logs.configure(settings.log_level)
    for number in _ends():
        signal.signal(number, _leave)
    _allow_open_files()
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(bind(settings.host, settings.port))
            dsn = stack.enter_context(database(settings.database_url, settings.data))
            listen(listener)  # until now clients are refused: nobody would answer them
        except CannotListen as error:
            log.error("%s", error)
            return 1
        except CannotStart as error:
            log.error("cannot start: %s", error)
            return 1
        url = f"http://{in_url(settings.host)}:{settings.port}"
        if not settings.database_url:
            (settings.data / "url").write_text(url + "\n")
        Parent(settings, dsn, listener).run(f"queue server on {url}")
    return 0


def _ends() -> list[signal.Signals]:
    """Return the signals that end the server; nohup ignores one of them."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if ignored else [signal.SIGHUP])]


def _leave(*_: object) -> None:
    for number in _ends():  # one more must not cut the end short
        signal.signal(number, signal.SIG_IGN)
    sys.exit()


def _allow_open_files() -> None:
    # every connection is one; many systems begin with 256 or 1,024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = Bounds.connections + 1024
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
