"""What jobs went through: at which of them workers died, and what of it is forgotten."""

from typing import Final

from backfill.store.pool import Connection, Database
from backfill.store.quote import bound

# How often the worker that had a job died: it was picked, and neither ended nor handed back. By
# the index on the job's log, whose first row tells that it was put in.
_DEATHS: Final = """
    SELECT
        count(*) FILTER (WHERE status = 'picked') - count(*) FILTER (WHERE status = 'queued')
            AS deaths
    FROM bf_jobs.pgqueuer_log
    WHERE job_id = $1
"""
# Forget what jobs went through that ended long ago, a batch at a time, oldest first by the index.
_PRUNE_LOG: Final = """
    WITH pruned AS (
        DELETE FROM bf_jobs.pgqueuer_log
        WHERE id IN (
            SELECT l.id
            FROM bf_jobs.pgqueuer_log AS l
            WHERE l.created < now() - $1::interval AND l.aggregated
                AND NOT EXISTS (SELECT FROM bf_jobs.pgqueuer AS q WHERE q.id = l.job_id)
            ORDER BY l.created
            LIMIT $2
        )
        RETURNING id
    )
    SELECT count(*) AS pruned
    FROM pruned
"""
# Forget how many jobs ended in each second of long ago.
_PRUNE_STATISTICS: Final = """
    DELETE FROM bf_jobs.pgqueuer_statistics
    WHERE created < now() - $1::interval
"""
_KEPT: Final = "7 days"
_PRUNED_AT_ONCE: Final = 10_000


async def deaths(connection: Connection, job_id: int) -> int:
    """Return how many workers died at a job, or lost it, before the one that has it now."""
    (row,) = (await connection.ask(bound(_DEATHS, job_id)))[0]
    return int(row["deaths"])


async def prune(database: Database) -> int:
    """Forget what ended long ago; return how many rows of the log that were.

    Raises
    ------
    DatabaseError
        As `Database.run` does.
    """
    pruned, last = 0, _PRUNED_AT_ONCE
    while last == _PRUNED_AT_ONCE:
        last = await database.run(_prune_some)
        pruned += last
    await database.execute_at_once(bound(_PRUNE_STATISTICS, _KEPT))
    return pruned


async def _prune_some(connection: Connection) -> int:
    return int(await connection.fetchval(_PRUNE_LOG, _KEPT, _PRUNED_AT_ONCE))
