"""The queue at size: 10,000 fetches put in, and looked at beside a million that are done.

``python -m bench.queue`` prints its figures as JSON: seconds, and each as a ratio to what Postgres
takes for one COPY of the same rows, or for one bare query of the same log.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from statistics import median
from typing import Final

import asyncpg

from backfill.core.fetches import Fetch, Kind
from backfill.core.series import Source
from backfill.core.timeframe import Timeframe
from backfill.store import queue
from backfill.store.pool import Connection, Database
from backfill.store.queue_look import look
from bench.postgres import Server

_FETCHES: Final = 10_000
_DONE: Final = 1_000_000
_TIMES: Final = 5
_COLUMNS: Final = ("priority", "entrypoint", "payload", "dedupe_key", "status")

# The log of jobs that were done within the last hours, a hundred a second, and what is made of it.
_LOG: Final = f"""
    INSERT INTO bf_jobs.pgqueuer_log (job_id, created, status, priority, entrypoint, aggregated)
    SELECT j, now() - j * interval '10 ms', s::bf_jobs.pgqueuer_status, 0, 'fetch:massive', true
    FROM generate_series(1, {_DONE}) AS j, unnest(ARRAY['queued', 'picked', 'successful']) AS s
"""
_STATISTICS: Final = """
    INSERT INTO bf_jobs.pgqueuer_statistics (created, count, priority, status, entrypoint)
    SELECT date_trunc('sec', created), count(*), 0, status, entrypoint
    FROM bf_jobs.pgqueuer_log
    GROUP BY 1, status, entrypoint
"""


def fetches(count: int) -> list[Fetch]:
    """Return the first loads of so many symbols."""
    return [
        Fetch(
            Kind.series,
            Source("massive", "sip", "raw"),
            Timeframe.m1,
            ((f"T{one:05}", Timeframe.m1), (f"T{one:05}", Timeframe.h1)),
            symbol_id=one,
        )
        for one in range(count)
    ]


async def _seconds(
    work: Callable[[], Awaitable[object]], before: Callable[[], Awaitable[object]] | None = None
) -> float:
    """Return how long work takes, in the median of some times."""
    took = []
    for _ in range(_TIMES):
        if before is not None:
            await before()
        began = time.perf_counter()
        await work()
        took.append(time.perf_counter() - began)
    return median(took)


async def _measured(url: str) -> dict[str, float]:
    many = fetches(_FETCHES)
    connection = await asyncpg.connect(url)
    async with Database.connect(url) as database:

        async def empty() -> None:
            await connection.execute("TRUNCATE bf_jobs.pgqueuer, bf_jobs.pgqueuer_log, copied")

        async def copy() -> None:
            rows = [(one.priority, one.entrypoint, one.text.encode(), one.key, "q") for one in many]
            await connection.copy_records_to_table("copied", records=rows, columns=_COLUMNS)

        async def put(given: Sequence[Fetch]) -> None:
            work: Callable[[Connection], Awaitable[queue.Put]] = partial(queue.put, fetches=given)
            await database.run(work)

        await connection.execute(
            "CREATE TABLE copied (priority int, entrypoint text, payload bytea, "
            "dedupe_key text PRIMARY KEY, status text)"
        )
        copied = await _seconds(copy, empty)
        enqueued = await _seconds(partial(put, many), empty)
        again = await _seconds(partial(put, many))
        await connection.execute(_LOG)
        await connection.execute(_STATISTICS)
        await connection.execute("VACUUM ANALYZE")
        looked = await _seconds(partial(look, database))
        counted = await _seconds(
            partial(connection.fetchval, "SELECT count(*) FROM bf_jobs.pgqueuer_log")
        )
    await connection.close()
    return {
        "copy_s": copied,
        "enqueue_s": enqueued,
        "enqueue_ratio": enqueued / copied,
        "enqueue_again_s": again,
        "count_s": counted,
        "status_s": looked,
        "status_ratio": looked / counted,
    }


def main() -> None:
    with Server.start() as server:
        server.prepare([])
        with server.fresh() as database:
            measured = asyncio.run(_measured(database.url))
    print(json.dumps({name: round(value, 3) for name, value in measured.items()}))


if __name__ == "__main__":
    main()
