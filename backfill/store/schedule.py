"""The schedule of what is enqueued when, and who of several workers keeps it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from backfill.store.pool import Connection

# Have the schedule, or keep it, for so many seconds from now: unless another has it, who then
# still has. One statement, so of two who ask at once one waits, and sees the other.
_LEAD: Final = """
    INSERT INTO bf_jobs.leader AS l (duty, holder, until)
    VALUES ('schedule', $1, now() + $2 * interval '1 second')
    ON CONFLICT (duty) DO UPDATE
        SET holder = excluded.holder, until = excluded.until
        WHERE l.holder = excluded.holder OR l.until < now()
    RETURNING holder
"""
# Leave the schedule to whoever asks next.
_LEAVE: Final = """
    DELETE FROM bf_jobs.leader
    WHERE duty = 'schedule' AND holder = $1
"""
# Note when each timeframe was enqueued last, and when its next bar is final; null where none is.
_NOTE: Final = """
    INSERT INTO bf_jobs.schedule AS s (timeframe, enqueued_at, next_at)
    SELECT n.timeframe, n.enqueued_at, n.next_at
    FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[])
        AS n (timeframe, enqueued_at, next_at)
    ON CONFLICT (timeframe) DO UPDATE
        SET enqueued_at = coalesce(excluded.enqueued_at, s.enqueued_at),
            next_at = excluded.next_at
"""
# When each timeframe was enqueued, and is next; and who leads, if anybody does by now.
SCHEDULED: Final = """
    SELECT
        s.timeframe,
        (extract(epoch FROM s.enqueued_at) * 1000)::bigint AS enqueued_ms,
        (extract(epoch FROM s.next_at) * 1000)::bigint AS next_ms,
        l.holder::text AS leader
    FROM bf_jobs.schedule AS s
    LEFT JOIN bf_jobs.leader AS l ON l.duty = 'schedule' AND l.until >= now()
    ORDER BY s.next_at, s.timeframe
"""


@dataclass(frozen=True, slots=True)
class Tick:
    """A timeframe of the schedule: when it was enqueued, if it just was, and when it is next."""

    timeframe: str
    enqueued_at: datetime | None
    next_at: datetime | None


async def lead(connection: Connection, worker: UUID, seconds: float) -> bool:
    """Have the schedule for so many seconds; return whether this worker has it."""
    return await connection.fetchval(_LEAD, worker, seconds) is not None


async def leave(connection: Connection, worker: UUID) -> None:
    """Leave the schedule, if this worker has it."""
    connection.later(_LEAVE, worker)


async def note(connection: Connection, ticks: Iterable[Tick]) -> None:
    """Note when timeframes were enqueued, and when they are next."""
    noted = list(ticks)
    connection.later(
        _NOTE,
        [one.timeframe for one in noted],
        [one.enqueued_at for one in noted],
        [one.next_at for one in noted],
    )
