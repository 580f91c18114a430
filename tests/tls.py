"""PostgreSQL behind TLS: a proxy with a certificate for one name, before a cluster that listens on a Unix socket."""

import select
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread


class _Proxy(ThreadingTCPServer):
    daemon_threads = False
    block_on_close = True

    def __init__(self, target: str, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Forward)
        self.target = target
        self.context = context


class _Forward(BaseRequestHandler):
    server: _Proxy
    request: socket.socket

    def handle(self) -> None:
        assert len(self.request.recv(8)) == 8  # the wish for TLS
        self.request.sendall(b"S")
        with (
            suppress(OSError),
            self.server.context.wrap_socket(self.request, True) as client,
            socket.socket(socket.AF_UNIX) as upstream,
        ):
            upstream.connect(self.server.target)
            while _forwarded(client, upstream):
                pass


def _forwarded(client: ssl.SSLSocket, upstream: socket.socket) -> bool:
    readable = [client] if client.pending() else select.select([client, upstream], [], [], 20)[0]
    for source in readable:
        if not (data := source.recv(65536)):
            return False
        (upstream if source is client else client).sendall(data)
    return bool(readable)


@contextmanager
def behind_tls(target: str, name: str, directory: Path) -> Iterator[tuple[int, Path]]:
    """Serve `target`, a Unix socket; yield the port, and the certificate that vouches for itself."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        + ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
        + ["-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with _Proxy(target, context) as proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield int(proxy.server_address[1]), certificate
        finally:
            proxy.shutdown()
            thread.join()
