"""The queue as it stands: what waits, is at work and is held, how much ended, what is scheduled."""

from dataclasses import dataclass
from typing import Final

from backfill.errors import LoginRefused, SchemaMismatch
from backfill.store.pool import Database
from backfill.store.queue import LACKING
from backfill.store.quote import bound
from backfill.store.schedule import SCHEDULED
from backfill.store.session import Rows
from backfill.store.sight import IS_HIDDEN

_LOOKED_AT: Final = ("pgqueuer", "pgqueuer_log", "pgqueuer_statistics", "leader", "schedule")
# How many of some tables of the queue there are, and whether the login sees their rows: asked of
# the catalogue, since a name in a schema that it may not use would be an error.
_LOOKED_FOR: Final = """
    SELECT
        count(*) AS tables,
        coalesce(bool_and(
            CASE WHEN has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
                THEN NOT ({is_hidden})
                ELSE false
            END
        ), false) AS is_seen
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'bf_jobs' AND c.relkind = 'r' AND c.relname = ANY ($1::text[])
"""
_SIGHT: Final = _LOOKED_FOR.format(is_hidden=IS_HIDDEN)
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
# What is held, since when, and why: the newest word on it in the log, by the index on the job. The
# status as text keeps the planner from joining that with the index on the status, which holds every
# job that ever failed, for each job: so it did where the log was not analysed.
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
        WHERE l.job_id = q.id AND l.status::text = 'failed'
        ORDER BY l.created DESC
        LIMIT 1
    ) AS l ON true
    WHERE q.status = 'failed'
    ORDER BY q.id
"""
# How many jobs of each provider ended in the last day, and how; of the last hour also since when:
# what is aggregated, by the second, and the rest.
_ENDED: Final = """
    SELECT
        e.entrypoint,
        e.status::text AS status,
        sum(e.jobs)::bigint AS jobs,
        coalesce(sum(e.jobs) FILTER (WHERE e.is_late), 0)::bigint AS lately,
        extract(epoch FROM now() - min(e.first_at) FILTER (WHERE e.is_late)) AS lately_s
    FROM (
        SELECT
            entrypoint, status, count AS jobs, created AS first_at,
            created > now() - interval '1 hour' AS is_late
        FROM bf_jobs.pgqueuer_statistics
        WHERE created > now() - interval '1 day'
        UNION ALL
        SELECT
            entrypoint, status, count(*), min(created),
            created > now() - interval '1 hour' AS is_late
        FROM bf_jobs.pgqueuer_log
        WHERE NOT aggregated AND created > now() - interval '1 day'
        GROUP BY entrypoint, status, is_late
    ) AS e
    WHERE e.status NOT IN ('queued', 'picked')
    GROUP BY e.entrypoint, e.status
    ORDER BY e.entrypoint, e.status
"""


@dataclass(frozen=True, slots=True)
class Looked:
    """What stands in the queue, as rows: see the statements."""

    counts: Rows
    picked: Rows
    held: Rows
    ended: Rows
    schedule: Rows


async def look(database: Database) -> Looked:
    """Return what stands in the queue, in two round trips; rows that are hidden are no empty queue.

    Raises
    ------
    SchemaMismatch, LoginRefused
        If the database has no queue, or the login doesn't see it.
    DatabaseError
        If it can't be used.
    """
    [[sight]] = await database.ask(bound(_SIGHT, list(_LOOKED_AT)))
    if sight["tables"] < len(_LOOKED_AT):
        raise SchemaMismatch(LACKING)
    if not sight["is_seen"]:
        raise LoginRefused(
            "the login of DATABASE_URL doesn't see the schema bf_jobs; the queue is for members of "
            "the role backfill_runner, and to look at for whom docs/database.md lets read"
        )
    return Looked(*await database.ask(_COUNTS, _PICKED, _HELD, _ENDED, SCHEDULED))
