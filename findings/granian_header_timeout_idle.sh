#!/usr/bin/env bash
# A good guess: http1 header_read_timeout, documented as a timeout for reading headers, begins with a request's first
#   byte, as such a timeout does in nginx and Go, where idle connections have a setting of their own. Granian has none,
#   only keep-alive on or off: on, an idle connection stays open until the client leaves.
# What happens: it runs from the end of the last answer. It is the idle timeout: 30 s by default, 60 s at most (a balancer
#   that keeps idle connections longer meets closed ones), and who shortens it against slow headers shortens the life of
#   every pooled connection. There is no 408; what the client sends there next fails. Slow answers and bodies are spared.
# Seen with granian 2.8.9 (WSGI).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq granian==2.8.9
cd "$tmp"
cat > app.py <<'PY'
import time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(2)
    start_response("200 OK", [("content-type", "text/plain")])
    return [environ["wsgi.input"].read()]
PY
venv/bin/python - <<'PY'
import http.client, importlib.metadata, select, socket, subprocess, time
from granian.http import HTTP1Settings

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
command = ["venv/bin/granian", "--interface", "wsgi", "--port", str(port), "--log-level", "error", "--http1-header-read-timeout"]
refused = subprocess.run([*command, "60001", "app:app"], capture_output=True, text=True, timeout=20)
print("granian", importlib.metadata.version("granian"), refused.stderr.split("\n")[-2])
assert refused.returncode and HTTP1Settings().header_read_timeout == 30_000 and HTTP1Settings().keep_alive is True

slow_rows = (time.sleep(0.5) or b"row" for n in range(5))
server = subprocess.Popen([*command, "1000", "app:app"])
try:
    deadline = time.monotonic() + 15
    while socket.socket().connect_ex(("127.0.0.1", port)):
        assert time.monotonic() < deadline and server.poll() is None, "granian does not listen"
        time.sleep(0.02)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for path, body in (("/slow", None), ("/", slow_rows)):
        client.request("POST", path, body)
        answer = client.getresponse()
        print(f"POST {path}, 2 s for its answer or its body: {answer.status} {answer.read()}")
        assert answer.status == 200 and not answer.will_close
    ended = time.monotonic()
    assert select.select([client.sock], [], [], 10)[0], "still open after 10 s"
    idle, said = time.monotonic() - ended, client.sock.recv(1000, socket.MSG_PEEK)
    print(f"idle: closed after {idle:.1f} s, it said {said}")
    assert 0.9 < idle < 5 and said == b""
    try:
        client.request("POST", "/", b"row")
        raise SystemExit(f"answered: {client.getresponse().status}")
    except (ConnectionError, http.client.HTTPException) as error:
        print("the next POST:", repr(error))
finally:
    server.terminate(), server.wait(20)
PY
