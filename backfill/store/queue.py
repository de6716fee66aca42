"""The queue: jobs that are put in, looked at, and taken out again.

The tables are PgQueuer's; what it has no statement for stands here. A job is ``queued``, or
``picked`` by a worker, or held as ``failed``, and leaves the table when it is done.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import asyncpg

from backfill.core.fetches import Fetch
from backfill.errors import DatabaseError, LoginRefused, SchemaMismatch
from backfill.store.pool import Connection, Database
from backfill.store.session import Rows

_T = TypeVar("_T")

# What is wanted is put in, in its order, but for what is queued or at work already; the log has it.
_ADDED: Final = """added AS (
        INSERT INTO bf_jobs.pgqueuer AS q (priority, entrypoint, payload, dedupe_key, status)
        SELECT w.priority, w.entrypoint, w.payload, w.dedupe_key, 'queued'
        FROM wanted AS w
        ORDER BY w.place
        ON CONFLICT (dedupe_key)
            WHERE status IN ('queued', 'picked') AND dedupe_key IS NOT NULL
            DO NOTHING
        RETURNING q.id, q.entrypoint, q.priority
    ),
    logged AS (
        INSERT INTO bf_jobs.pgqueuer_log (job_id, status, entrypoint, priority)
        SELECT id, 'queued', entrypoint, priority
        FROM added
    )"""
# Put jobs in, in their order. One that is queued or at work already is passed over, and so is one
# that is parked; one that failed otherwise is replaced.
_PUTTING: Final = """
    WITH asked AS MATERIALIZED (
        SELECT a.priority, a.entrypoint, a.dedupe_key, a.payload, a.place
        FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[])
            WITH ORDINALITY AS a (priority, entrypoint, dedupe_key, payload, place)
    ),
    failed AS MATERIALIZED (
        SELECT q.id, q.dedupe_key, coalesce(q.headers ? 'parked', false) AS is_parked
        FROM bf_jobs.pgqueuer AS q
        WHERE q.status = 'failed' AND q.dedupe_key IN (SELECT dedupe_key FROM asked)
    ),
    replaced AS (
        DELETE FROM bf_jobs.pgqueuer
        WHERE status = 'failed' AND id IN (SELECT id FROM failed WHERE NOT is_parked)
    ),
    wanted AS (
        SELECT priority, entrypoint, convert_to(payload, 'UTF8') AS payload, dedupe_key, place
        FROM asked
        WHERE dedupe_key NOT IN (SELECT dedupe_key FROM failed WHERE is_parked)
    ),
    {added}
    SELECT
        (SELECT count(*) FROM added) AS added,
        (SELECT count(DISTINCT dedupe_key) FROM failed WHERE is_parked) AS parked
"""
_PUT: Final = _PUTTING.format(added=_ADDED)
# Mark a job that is about to be held: nothing puts it in again but whoever asks for that.
_PARK: Final = """
    UPDATE bf_jobs.pgqueuer
    SET headers = coalesce(headers, '{}') || '{"parked": true}'
    WHERE id = $1
"""
# How many jobs there are of each provider: those that wait, for how long, and those at work.
_COUNTS: Final = """
    SELECT
        entrypoint,
        count(*) FILTER (WHERE status = 'queued') AS queued,
        count(*) FILTER (WHERE status = 'queued' AND execute_after > now()) AS deferred,
        count(*) FILTER (WHERE status = 'picked') AS picked,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        extract(epoch FROM now() - min(created) FILTER (WHERE status = 'queued')) AS oldest_s
    FROM bf_jobs.pgqueuer
    GROUP BY entrypoint
    ORDER BY entrypoint
"""
# What is at work: which worker has which job, since when, and when it was last heard of.
_PICKED: Final = """
    SELECT
        id,
        queue_manager_id::text AS worker,
        encode(payload, 'hex') AS payload,
        extract(epoch FROM now() - updated) AS since_s,
        extract(epoch FROM now() - heartbeat) AS heard_s
    FROM bf_jobs.pgqueuer
    WHERE status = 'picked'
    ORDER BY queue_manager_id, id
"""
# What is held, since when, and why: the newest word on it in the log.
_HELD: Final = """
    SELECT
        q.id,
        encode(q.payload, 'hex') AS payload,
        (extract(epoch FROM q.updated) * 1000)::bigint AS since_ms,
        coalesce(q.headers ? 'parked', false) AS is_parked,
        l.why
    FROM bf_jobs.pgqueuer AS q
    LEFT JOIN LATERAL (
        SELECT l.traceback ->> 'exception_message' AS why
        FROM bf_jobs.pgqueuer_log AS l
        WHERE l.job_id = q.id AND l.status = 'failed'
        ORDER BY l.created DESC
        LIMIT 1
    ) AS l ON true
    WHERE q.status = 'failed'
    ORDER BY q.id
"""
# How many jobs of each provider ended in the last day, and how: what is aggregated, and the rest.
_ENDED: Final = """
    SELECT e.entrypoint, e.status::text AS status, sum(e.jobs)::bigint AS jobs
    FROM (
        SELECT entrypoint, status, count AS jobs
        FROM bf_jobs.pgqueuer_statistics
        WHERE created > now() - interval '1 day'
        UNION ALL
        SELECT entrypoint, status, count(*)
        FROM bf_jobs.pgqueuer_log
        WHERE NOT aggregated AND created > now() - interval '1 day'
        GROUP BY entrypoint, status
    ) AS e
    WHERE e.status NOT IN ('queued', 'picked')
    GROUP BY e.entrypoint, e.status
    ORDER BY e.entrypoint, e.status
"""
# Put held jobs in again, as new ones: how often they were picked counts anew. One whose key was
# taken meanwhile is done by that one. Without ids all that are held.
_RETRYING: Final = """
    WITH held AS (
        DELETE FROM bf_jobs.pgqueuer
        WHERE status = 'failed' AND ($1::bigint[] IS NULL OR id = ANY ($1::bigint[]))
        RETURNING id, priority, entrypoint, payload, dedupe_key
    ),
    wanted AS (
        SELECT priority, entrypoint, payload, dedupe_key, id AS place
        FROM held
    ),
    {added}
    SELECT
        (SELECT count(*) FROM added) AS added,
        (SELECT coalesce(array_agg(id), '{{}}') FROM held) AS ids
"""
_RETRY: Final = _RETRYING.format(added=_ADDED)
# Take jobs out that no worker has, by their ids, or all that wait, or all that are held.
_DROP: Final = """
    WITH dropped AS (
        DELETE FROM bf_jobs.pgqueuer
        WHERE status::text = ANY ($2::text[]) AND ($1::bigint[] IS NULL OR id = ANY ($1::bigint[]))
        RETURNING id, entrypoint, priority
    ),
    logged AS (
        INSERT INTO bf_jobs.pgqueuer_log (job_id, status, entrypoint, priority)
        SELECT id, 'deleted', entrypoint, priority
        FROM dropped
    )
    SELECT coalesce(array_agg(id), '{}') AS ids
    FROM dropped
"""
_NO_QUEUE: Final = (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError)


@dataclass(frozen=True, slots=True)
class Put:
    """How many jobs were put in, were there already, and are parked."""

    added: int
    there: int
    parked: int


@dataclass(frozen=True, slots=True)
class Looked:
    """What stands in the queue, as rows: see the statements."""

    counts: Rows
    picked: Rows
    held: Rows
    ended: Rows
    schedule: Rows


async def in_queue(database: Database, work: Callable[[Connection], Awaitable[_T]]) -> _T:
    """Do work on the queue in a transaction, as `Database.run` does.

    Raises
    ------
    SchemaMismatch, LoginRefused
        If the database has no queue, or the login may not use it.
    DatabaseError
        As `Database.run` does.
    """
    try:
        return await database.run(work)
    except DatabaseError as error:
        raise _told(error) from error.__cause__


def _told(error: DatabaseError) -> DatabaseError:
    if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
        return LoginRefused(f"{error}; the queue is for members of the role backfill_runner")
    if not isinstance(error.__cause__, _NO_QUEUE):
        return error
    return SchemaMismatch(
        "the database has no queue: the role that migrated it may not make a schema; have its "
        "owner run the files migrations/*_jobs.sql and *_schedule.sql with psql"
    )


async def put(connection: Connection, fetches: Sequence[Fetch]) -> Put:
    """Put fetches in, those first that come first; all in one statement."""
    row = await connection.fetchrow(
        _PUT,
        [one.priority for one in fetches],
        [one.entrypoint for one in fetches],
        [one.key for one in fetches],
        [one.text for one in fetches],
    )
    return Put(row["added"], len(fetches) - row["added"] - row["parked"], row["parked"])


async def park(connection: Connection, job_id: int) -> None:
    """Mark a job that no schedule may put in again."""
    connection.later(_PARK, job_id)


async def look(database: Database, schedule: str) -> Looked:
    """Return what stands in the queue, in one round trip; ``schedule`` asks for that.

    Raises
    ------
    SchemaMismatch, LoginRefused, DatabaseError
        As `in_queue` does.
    """
    try:
        return Looked(*await database.ask(_COUNTS, _PICKED, _HELD, _ENDED, schedule))
    except DatabaseError as error:
        raise _told(error) from error.__cause__


async def retry(connection: Connection, ids: Sequence[int] | None) -> tuple[int, list[int]]:
    """Put held jobs in again; return how many were, and which were found."""
    row = await connection.fetchrow(_RETRY, _ids(ids))
    return row["added"], sorted(row["ids"])


async def drop(
    connection: Connection, ids: Sequence[int] | None, statuses: Iterable[str]
) -> list[int]:
    """Take jobs of some statuses out; return which."""
    row = await connection.fetchrow(_DROP, _ids(ids), list(statuses))
    return sorted(row["ids"])


def _ids(ids: Sequence[int] | None) -> list[int] | None:
    return list(ids) if ids is not None else None
