"""The queue: jobs that are put in, and taken out again.

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
# that is parked; one that failed otherwise is replaced. What failed is the same if its text is:
# that of a symbol nobody knows had another id, since its row went with the run.
_PUTTING: Final = """
    WITH asked AS MATERIALIZED (
        SELECT
            a.priority,
            a.entrypoint,
            a.dedupe_key,
            convert_to(a.payload, 'UTF8') AS payload,
            a.place
        FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[])
            WITH ORDINALITY AS a (priority, entrypoint, dedupe_key, payload, place)
    ),
    failed AS MATERIALIZED (
        SELECT q.id, q.payload, coalesce(q.headers ? 'parked', false) AS is_parked
        FROM bf_jobs.pgqueuer AS q
        WHERE q.status = 'failed' AND q.payload IN (SELECT payload FROM asked)
    ),
    replaced AS (
        DELETE FROM bf_jobs.pgqueuer
        WHERE status = 'failed' AND id IN (SELECT id FROM failed WHERE NOT is_parked)
    ),
    wanted AS (
        SELECT priority, entrypoint, payload, dedupe_key, place
        FROM asked
        WHERE payload NOT IN (SELECT payload FROM failed WHERE is_parked)
    ),
    {added}
    SELECT
        (SELECT count(*) FROM added) AS added,
        (SELECT count(DISTINCT payload) FROM failed WHERE is_parked) AS parked
"""
_PUT: Final = _PUTTING.format(added=_ADDED)
# Mark a job that is about to be held: nothing puts it in again but whoever asks for that.
_PARK: Final = """
    UPDATE bf_jobs.pgqueuer
    SET headers = coalesce(headers, '{}') || '{"parked": true}'
    WHERE id = $1
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
LACKING: Final = (
    "the database has no queue: the role that migrated it may not make a schema; have its owner "
    "run the files migrations/*_jobs.sql and *_schedule.sql with psql"
)
_NO_QUEUE: Final = (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError)


@dataclass(frozen=True, slots=True)
class Put:
    """How many jobs were put in, were there already, and are parked."""

    added: int
    there: int
    parked: int


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
    return SchemaMismatch(LACKING)


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
