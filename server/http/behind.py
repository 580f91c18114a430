"""Flask behind the loop: its views run in a few threads, and hand their coroutines back to the loop."""

import asyncio
import io
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from server.http.app import RECEIVED, Run
from server.http.errors import Problem
from server.http.reply import Reply
from server.http.request import Received

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_THREADS = 8
_PATIENCE = 5.0  # seconds for a thread to be free
_WITHOUT_LENGTH = (204, 304)


class Behind:
    """The application of all routes that are not hot: reads the body on the loop, then calls Flask in a thread."""

    def __init__(
        self,
        make: Callable[[Run], "WSGIApplication"],
        trusts: Callable[[Received], bool],
        *,
        threads: int = _THREADS,
        patience: float = _PATIENCE,
    ) -> None:
        """`make` makes the WSGI application; what it is given runs coroutines on the loop, from such a thread.

        `trusts` tells whose bodies are read before anything else is looked at.
        """
        self._app = make(self._run)
        self._trusts = trusts
        self._threads = ThreadPoolExecutor(threads, "flask")
        self._places = asyncio.Semaphore(threads)
        self._patience = patience
        self._here = threading.local()
        self._calls: set[_Call] = set()

    async def __call__(self, request: Received) -> Reply:
        """Answer a request. Raises Problem (503, outcome none) when no thread is free in time."""
        if self._trusts(request):
            # what is wrong is raised again where the body is asked for: other checks come first
            with suppress(Problem):
                await request.arrival()
        try:
            await asyncio.wait_for(self._places.acquire(), self._patience)
        except TimeoutError:
            raise Problem("unavailable", "too many requests are being carried out") from None
        loop = asyncio.get_running_loop()
        call = _Call(loop)
        self._calls.add(call)
        try:
            return await loop.run_in_executor(self._threads, self._answer, request, call)
        finally:
            call.give_up()  # if it has not come to its end, its client has left
            self._calls.discard(call)
            self._places.release()

    async def close(self) -> None:
        """Give up what is still under way, and end the threads."""
        for call in self._calls:
            call.give_up()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _run(self, coroutine: Coroutine[Any, Any, Reply]) -> Reply:
        call: _Call = self._here.call
        return call.run(coroutine)

    def _answer(self, request: Received, call: "_Call") -> Reply:
        self._here.call = call
        try:
            return self._called(request)
        finally:
            del self._here.call  # it knows the answer, which may be large

    def _called(self, request: Received) -> Reply:
        told: list[tuple[int, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Any:
            told[:] = [(int(status[:3]), headers)]

        parts: Iterable[bytes] = self._app(_environ(request), start_response)
        try:
            body = b"".join(parts)
        finally:
            getattr(parts, "close", lambda: None)()
        ((status, headers),) = told
        if status not in _WITHOUT_LENGTH and "content-length" not in (
            n.lower() for n, _ in headers
        ):
            headers = [*headers, ("Content-Length", str(len(body)))]
        return Reply(status, headers, body)


class _Call:
    """What a thread waits for on behalf of a request, until that is given up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._awaited: Future[Reply] | None = None
        self._given_up = False

    def run(self, coroutine: Coroutine[Any, Any, Reply]) -> Reply:
        """Run a coroutine on the loop. Raises CancelledError when the call is given up."""
        with self._lock:
            if self._given_up:
                coroutine.close()
                raise CancelledError
            self._awaited = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return self._awaited.result()

    def give_up(self) -> None:
        """Wait no more: cancel the coroutine, if one is under way."""
        with self._lock:
            self._given_up = True
            if self._awaited:
                self._awaited.cancel()


def _environ(request: Received) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),  # a view asks the request itself
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        RECEIVED: request,
    }
    for name, text in request.headers.items():
        if "_" not in name:  # it would be taken for the name with a hyphen
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = text
    return environ
