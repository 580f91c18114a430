#!/usr/bin/env bash
# A good guess: HTTPAdapter(max_retries=3) repeats only what never reached the server: its docstring limits it to failures
#   of looking up and connecting, and excludes data that has arrived. So a PUT or DELETE that the server has read is sent once.
# What happens: GET, PUT and DELETE that the server has read to the end are sent four times when the answer does not
#   come; only POST and PATCH are sent once. A 503 with Retry-After is repeated too, after sleeping, although no
#   status was named. (3 becomes urllib3's Retry(3), which repeats read errors; only the default of 0 does not.)
# Seen with requests 2.34.2 and urllib3 2.8.0.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq requests==2.34.2 urllib3==2.8.0
"$tmp/venv/bin/python" - <<'PY'
import collections, re, socket, threading, time
import requests, urllib3
from requests.adapters import HTTPAdapter

print("requests", requests.__version__, "urllib3", urllib3.__version__)
assert "never to requests where data" in " ".join(HTTPAdapter.__doc__.split())
seen = collections.Counter()

def serve(server):
    while True:
        connection, _ = server.accept()
        connection.settimeout(5)
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(body) < int(length[1]):
            body += connection.recv(65536)
        method, path = head.split()[:2]
        seen[f"{method.decode()} {path.decode()}"] += 1
        if path == b"/busy":
            connection.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.close()  # /cut: the request was read, the answer never comes

server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(server,), daemon=True).start()
url = f"http://127.0.0.1:{server.getsockname()[1]}"
session = requests.Session()
session.trust_env = False
session.mount("http://", HTTPAdapter(max_retries=3))
for method in ("GET", "PUT", "DELETE", "POST", "PATCH"):
    try:
        session.request(method, url + "/cut", data=b"x" * 1000, timeout=5)
    except requests.ConnectionError:
        pass
started = time.monotonic()
answer = session.put(url + "/busy", data=b"x", timeout=1)
slept = time.monotonic() - started
print(dict(seen), f"and PUT /busy took {slept:.1f} s with timeout=1, answer {answer.status_code}")
assert seen == {"GET /cut": 4, "PUT /cut": 4, "DELETE /cut": 4, "POST /cut": 1, "PATCH /cut": 1, "PUT /busy": 4}
assert slept > 2.9
PY
