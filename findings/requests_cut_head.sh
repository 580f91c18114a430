#!/usr/bin/env bash
# A good guess: when a connection ends in the middle of an answer's head, the client raises, as it does for a body that is
#   shorter than its Content-Length. (httpx does.)
# What happens: requests and urllib3 return a complete answer: status 200, the header lines that came, an empty body.
#   Python's http.client, which reads the head for both, takes the end of the connection for the empty line that ends a
#   head; with the Content-Length gone nothing is missing any more. `raise_for_status()` passes, and "200 with no
#   content" is taken for success: a POST whose answer was cut looks done, a list looks empty.
# Seen with requests 2.34.2, urllib3 2.8.0 on Python 3.11.7; httpx 0.28.1 beside them.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq requests==2.34.2 urllib3==2.8.0 httpx==0.28.1
"$tmp/venv/bin/python" - <<'PY'
import platform, socket, threading
import httpx, requests, urllib3

print("requests", requests.__version__, "urllib3", urllib3.__version__, "Python", platform.python_version())
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"orders":[1]}'
CUTS = {"whole": ANSWER, "in the body": ANSWER[:-5], "in a header": ANSWER[: ANSWER.index(b"Length")],
        "in the first line": ANSWER[: len(b"HTTP/1.1 200")]}

def serve(server):
    while True:
        connection, _ = server.accept()
        connection.settimeout(5)
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        connection.sendall(CUTS[data.split()[1].decode()[1:].replace("-", " ")])
        connection.close()

server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(server,), daemon=True).start()
url = f"http://127.0.0.1:{server.getsockname()[1]}/"
session = requests.Session()
session.trust_env = False

def told(get, where):
    try:
        answer = get(url + where.replace(" ", "-"))
        answer.raise_for_status()
        return answer.status_code, answer.content
    except (requests.RequestException, httpx.HTTPError) as error:
        return type(error).__name__

with httpx.Client(trust_env=False, timeout=10) as client:
    for where in CUTS:
        one, other = told(lambda to: session.get(to, timeout=10), where), told(client.get, where)
        print(f"{where:17}  requests: {one}  httpx: {other}")
        expected = (200, b"") if "body" not in where else "ChunkedEncodingError"
        assert one == ((200, ANSWER[-14:]) if where == "whole" else expected)
        assert other == ((200, ANSWER[-14:]) if where == "whole" else "RemoteProtocolError")
PY
