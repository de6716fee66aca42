#!/usr/bin/env bash
# apprise 2.3.0: a timeout around `async_notify` ends the waiting, not the sending. It sends in threads
# of a pool, and the interpreter waits for these before it exits: for as long as the server says
# nothing and the address's `rto` (the seconds of a read) allows. A guess is that what can be awaited
# can be given up.
#
# Output seen:
#   given up after a second: the loop ended, and the interpreter 3 s later or more
#
# What follows here: each message is sent in a daemon thread of its own, for which nobody waits
# (backfill/notify/delivery.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet apprise==2.3.0
cat > "$folder/given_up.py" <<'PYTHON'
import asyncio
import socket
import time

import apprise

silent = socket.create_server(("127.0.0.1", 0))  # it accepts, and never answers
server = apprise.Apprise()
assert server.add(f"json://127.0.0.1:{silent.getsockname()[1]}/?rto=8")


async def told() -> None:
    async with asyncio.timeout(1):
        await server.async_notify("hello")


try:
    asyncio.run(told())
except TimeoutError:
    print(int(time.time()))
PYTHON
ended=$("$folder/venv/bin/python" "$folder/given_up.py")
(( $(date +%s) - ended >= 3 ))
echo "given up after a second: the loop ended, and the interpreter 3 s later or more"
