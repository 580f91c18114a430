#!/usr/bin/env bash
# A good guess: uvloop is a drop-in event loop, so add_reader() calls back as long as there is something to read, as
#   asyncio's own loop does: a callback may read a little at a time.
# What happens: when the other side has closed with something of ours unread (a Unix socket: the read end has an error
#   then, and what it sent before is still to be read), uvloop calls the reader once and never again. A callback that does
#   not read to the end at once never hears of the rest, nor of the end: psycopg2's or libpq's poll() in such a callback
#   waits for ever for the end of a database that has gone. asyncio calls back until all is read.
# Seen with uvloop 0.23.0 (libuv's poll handle stops itself at POLLERR).
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -qq uvloop==0.23.0
"$tmp/venv/bin/python" - <<'PY'
import asyncio, socket
import uvloop


async def heard():
    """Read four bytes at each call; return what was read, up to the end or for two seconds."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop, parts = asyncio.get_running_loop(), []
    ended = loop.create_future()

    def readable():
        try:
            parts.append(ours.recv(4).decode())
        except ConnectionResetError:
            parts.append("reset")
        if parts[-1] == "":
            loop.remove_reader(ours)
            ended.set_result(None)

    loop.add_reader(ours, readable)
    ours.send(b"never read")
    theirs.send(b"farewell")
    theirs.close()
    await asyncio.wait([ended], timeout=2)
    loop.remove_reader(ours)
    ours.close()
    return parts


found = {}
for name, factory in (("asyncio", asyncio.SelectorEventLoop), ("uvloop", uvloop.new_event_loop)):
    with asyncio.Runner(loop_factory=factory) as runner:
        found[name] = runner.run(heard())
    print(name, found[name])
assert found == {"asyncio": ["fare", "well", "reset", ""], "uvloop": ["fare"]}
PY
