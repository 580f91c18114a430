#!/usr/bin/env bash
# A good guess: an upload that breaks off is an error for `async for chunk in protocol`, as it is for `await protocol()`,
#   which raises RSGIProtocolClosed. RSGI's specification tells the two apart by whole and in chunks, and by nothing else.
# What happens: the loop ends as after a whole body. Half a file looks like a file: an app that stores what the loop gave
#   has stored the half. With Content-Length the app can count for itself; a chunked upload (what an HTTP client makes of
#   a generator) has nothing to count. `await protocol()` is safe, but it holds the whole body in memory.
# Seen with granian 2.8.9.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq granian==2.8.9
cd "$tmp"
cat > app.py <<'PY'
import pathlib
async def app(scope, protocol):
    try:
        size = sum([len(chunk) async for chunk in protocol]) if scope.path == "/loop" else len(await protocol())
        result = f"ended after {size}"
    except Exception as error:
        result = type(error).__name__
    pathlib.Path("result").write_text(result)
    protocol.response_empty(200, [])
PY
venv/bin/python - <<'PY'
import contextlib, http.client, importlib.metadata, pathlib, socket, subprocess, time
def wait(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline and server.poll() is None, "nothing came in time"
        time.sleep(0.02)
def rows(many):
    yield from [b"nine byte" * 100] * many
    if many < 100:
        raise LookupError("the client has lost its source of rows")
def upload(path, headers, many):
    (result := pathlib.Path("result")).write_text("")
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(client), contextlib.suppress(LookupError):
        client.request("POST", path, rows(many), headers)
        client.getresponse().read()
    wait(result.read_text)
    return result.read_text()
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
print("granian", importlib.metadata.version("granian"))
server = subprocess.Popen(["venv/bin/granian", "--interface", "rsgi", "--port", str(port), "--log-level", "error", "app:app"])
try:
    wait(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
    for path, wanted in (("/loop", "ended after 45000"), ("/whole", "RSGIProtocolClosed")):
        for kind, headers in (("Content-Length", {"Content-Length": "90000"}), ("chunked", {})):
            assert upload(path, headers, 100) == "ended after 90000"
            seen = upload(path, headers, 50)
            print(f"{path}, {kind}: the client's rows fail after 45000 of 90000 bytes, it leaves: {seen}")
            assert seen == wanted
finally:
    server.terminate(), server.wait(20)
PY
