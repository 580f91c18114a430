#!/usr/bin/env bash
# A good guess: uvicorn.run() returns after a graceful end, whichever signal asked for it. What follows it, a finally
#   around it and atexit run, and the exit code is 0, as after Ctrl-C.
# What happens: after Ctrl-C it returns. After SIGTERM (docker stop, systemd, Kubernetes) the app gets its lifespan shutdown
#   too, then uvicorn raises the signal again with Python's own handler in place: the process dies inside uvicorn.run().
#   No finally, no atexit, nothing of what stdout still buffers, exit by signal 15. With workers=2 run() returns. What
#   helps: clean up in the lifespan, or set a handler for SIGTERM before run(): it is called after the graceful end.
# Seen with uvicorn 0.54.0. Its pages on settings, deployment and server behaviour do not say it.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq uvicorn==0.54.0
cd "$tmp"
cat > main.py <<'PY'
import atexit, os, signal, sys, uvicorn
async def app(scope, receive, send):
    while scope["type"] == "lifespan":
        kind = (await receive())["type"]
        open(f"{sys.argv[1]}.{kind}.{os.getpid()}", "w").close()
        print(kind)
        await send({"type": kind + ".complete"})
if __name__ == "__main__":
    atexit.register(print, "atexit")
    if sys.argv[3] == "handler":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        uvicorn.run("main:app", port=int(sys.argv[1]), workers=int(sys.argv[2]), log_level="error")
        print("returned")
    finally:
        print("finally")
PY
env -u PYTHONUNBUFFERED venv/bin/python - <<'PY'
import importlib.metadata, pathlib, signal, socket, subprocess, sys, time
print("uvicorn", importlib.metadata.version("uvicorn"))
before, after = ["lifespan.startup", "lifespan.shutdown"], ["finally", "atexit"]
for number, workers, handler, wanted in (
    (signal.SIGINT, 1, "no handler", (1, [*before, "returned", *after], 0)),
    (signal.SIGTERM, 1, "no handler", (1, [], -signal.SIGTERM)),
    (signal.SIGTERM, 1, "handler", (1, [*before, *after], 0)),
    (signal.SIGTERM, 2, "no handler", (2, ["returned", *after], 0)),
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    count = lambda kind: len(list(pathlib.Path().glob(f"{port}.lifespan.{kind}.*")))
    server = subprocess.Popen([sys.executable, "main.py", str(port), str(workers), handler], stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while count("startup") < workers or socket.socket().connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < deadline and server.poll() is None, "uvicorn does not start"
            time.sleep(0.02)
        server.send_signal(number)
        lines = server.communicate(timeout=15)[0].split()
        seen = count("shutdown"), lines, server.returncode
        print(f"{number.name}, {workers=}, {handler}: lifespan shutdowns, lines printed, exit code: {seen}")
        assert seen == wanted
    finally:
        server.terminate(), server.wait(20)
PY
