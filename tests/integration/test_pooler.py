"""Through PgBouncer in transaction mode: connections are shared, and nobody notices (R21)."""

import asyncio
import os
from typing import Any, Final

import pytest

from backfill.errors import Interrupted
from backfill.fetch.stop import StopSignal
from backfill.settings import Secret, Settings
from backfill.store.pool import CONNECTIONS, Database
from backfill.store.server import server
from backfill.workers.duties import Duties
from backfill.workers.worker import POLL, work
from tests.hosts import PGBOUNCER, POOL_SIZE, lacking
from tests.integration.store_kit import rows, until


@pytest.fixture(autouse=True)
def pooler() -> None:
    """Skip what needs a pooler where none is named."""
    if PGBOUNCER not in os.environ:
        lacking(f"{PGBOUNCER} names no pgbouncer: nothing goes through a pooler")


async def _backend(connection: Any) -> int:
    return int(await connection.fetchval("SELECT pg_backend_pid()"))


async def test_two_runs_that_take_turns_are_given_the_same_connection(database_url: str) -> None:
    async with Database.connect(database_url) as one, Database.connect(database_url) as other:
        backends = [await database.run(_backend) for database in (one, other) * 3]
    assert len(set(backends)) == 1


async def test_more_work_than_there_are_connections_waits_for_its_turn(database_url: str) -> None:
    async def hold(connection: Any) -> int:
        await connection.execute("SELECT pg_sleep(0.2)")
        return await _backend(connection)

    async with Database.connect(database_url) as one, Database.connect(database_url) as other:
        backends = await asyncio.gather(
            *(database.run(hold) for database in (one, other) for _ in range(CONNECTIONS))
        )
    assert len(set(backends)) == POOL_SIZE


async def test_statements_that_stand_alone_never_meet_each_other(database_url: str) -> None:
    async with Database.connect(database_url) as one, Database.connect(database_url) as other:
        asked = [(database, nth) for nth in range(200) for database in (one, other)]
        rows = await asyncio.gather(
            *(database.fetch_row("SELECT $1::integer", nth) for database, nth in asked)
        )
    assert [row[0] for row in rows] == [nth for _, nth in asked]


async def test_a_pooler_is_noticed(database_url: str) -> None:
    async with Database.connect(database_url) as database:
        assert (await database.run(server)).is_pooled


# A job that a worker holds as soon as it has it, since it can't be read.
_QUEUED: Final = """
    WITH put AS (
        INSERT INTO bf_jobs.pgqueuer (priority, entrypoint, payload, status)
        VALUES (0, 'fetch:massive', 'unreadable', 'queued')
        RETURNING id
    )
    INSERT INTO bf_jobs.pgqueuer_log (job_id, status, priority, entrypoint)
    SELECT id, 'queued', 0, 'fetch:massive' FROM put
"""
_NOTICED: Final = """
    SELECT extract(epoch FROM max(created) - min(created))::float8 AS after_s
    FROM bf_jobs.pgqueuer_log
    WHERE status IN ('queued', 'picked')
    GROUP BY job_id
    HAVING count(*) = 2
"""


async def test_a_worker_whom_no_notice_reaches_looks_for_jobs_itself(database_url: str) -> None:
    settings, stop = Settings(database_url=Secret(database_url)), StopSignal()
    working = asyncio.create_task(work(settings, Duties(("massive",)), stop=stop))
    try:
        async with Database.connect(database_url) as database:
            for jobs in range(1, 4):  # the first may be there when the worker first looks
                await rows(database, _QUEUED)

                async def noticed(jobs: int = jobs) -> bool:
                    return len(await rows(database, _NOTICED)) == jobs

                await until(noticed, "the worker has the job")
            waited_s = [row["after_s"] for row in await rows(database, _NOTICED)]
    finally:
        stop.set(Interrupted("enough"))
        await working
    # By the database's clock; what goes beyond a look's pause is the machine's.
    assert max(waited_s) < 2 * POLL.total_seconds()
