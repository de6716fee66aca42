"""The quota's slots on the database's clock, shared by every process that uses one key (R13)."""

import hashlib
from typing import Final

from backfill.core.terms import Quota
from backfill.store.pool import Database

# Each statement reads and writes one row, found by its primary key; a second process waits for the
# row and then works on what the first one left.
_ENSURE: Final = """
    INSERT INTO provider_quota (provider, key_id) VALUES ($1, $2)
    ON CONFLICT DO NOTHING
    RETURNING next_at
"""
# $3 spacing of the pace in seconds for this call; $4, $5 limits and periods of the longer windows,
# in calls less this call's cost plus one and in seconds; $6 cost; $7 how many slots to remember.
_TAKE: Final = """
    UPDATE provider_quota AS q
    SET (next_at, recent) = (
        SELECT
            slot.at + make_interval(secs => $3),
            CASE
                WHEN $7 = 0 THEN '{}'
                ELSE (q.recent || array_fill(slot.at, ARRAY[$6::integer]))[
                    greatest(1, cardinality(q.recent) + $6 - $7 + 1):
                ]
            END
        FROM (
            SELECT greatest(
                clock_timestamp(),
                q.next_at,
                q.paused_until,
                (
                    SELECT max(
                        q.recent[cardinality(q.recent) - w.nth + 1]
                        + make_interval(secs => w.period)
                    )
                    FROM unnest($4::integer[], $5::double precision[]) AS w (nth, period)
                )
            ) AS at
        ) AS slot
    )
    WHERE provider = $1 AND key_id = $2
    RETURNING extract(
        epoch FROM next_at - make_interval(secs => $3) - clock_timestamp()
    )::double precision AS wait_s
"""
# Before PostgreSQL 17 nothing can be subtracted from -infinity, which is "never paused".
_CONFIRM: Final = """
    SELECT extract(
        epoch FROM greatest(paused_until, clock_timestamp()) - clock_timestamp()
    )::double precision AS paused_s
    FROM provider_quota
    WHERE provider = $1 AND key_id = $2
"""
# A call that is sent $3 seconds after its slot counts from now on in the longer windows too; $4 is
# how much earlier than that the slot can lie, seen from here. Slots still to come stay.
_CONFIRM_LATE: Final = """
    UPDATE provider_quota
    SET next_at = next_at + make_interval(secs => $3),
        recent = ARRAY(
            SELECT CASE
                WHEN r.at < clock_timestamp() - make_interval(secs => $3 + $4) THEN r.at
                ELSE greatest(r.at, clock_timestamp())
            END
            FROM unnest(recent) WITH ORDINALITY AS r (at, nth)
            ORDER BY r.nth
        )
    WHERE provider = $1 AND key_id = $2
    RETURNING extract(
        epoch FROM greatest(paused_until, clock_timestamp()) - clock_timestamp()
    )::double precision AS paused_s
"""
_PAUSE: Final = """
    UPDATE provider_quota
    SET paused_until = greatest(paused_until, clock_timestamp() + make_interval(secs => $3))
    WHERE provider = $1 AND key_id = $2
    RETURNING paused_until
"""

_LATENCY_S: Final = 0.25


def key_id(provider: str, key: str) -> str:
    """Return a digest that tells a provider's keys apart and does not give the key away."""
    return hashlib.sha256(f"backfill:{provider}:{key}".encode()).hexdigest()[:16]


class DatabaseSlots:
    """The slot ledger in ``provider_quota``: one row per provider and key.

    The shortest window's calls are spread evenly, ``spacing_s`` apart; each longer window looks at
    when the call that must have left it was made. The row remembers as many slots as the largest of
    those windows holds, and none where there is just one window.
    """

    def __init__(
        self, database: Database, provider: str, key: str, quota: Quota, spacing_s: float
    ) -> None:
        self._database = database
        self._row = (provider, key_id(provider, key))
        self._spacing_s = spacing_s
        self._longer = quota.longer

    async def open(self) -> None:
        """Create the row where it is missing."""
        await self._database.fetch_row(_ENSURE, *self._row)

    async def take(self, cost: int) -> float:
        """Reserve the next slot for a call of this cost and return the seconds until it."""
        row = await self._database.fetch_row(
            _TAKE,
            *self._row,
            self._spacing_s * cost,
            [window.limit - cost + 1 for window in self._longer],
            [window.period_s * 1.02 for window in self._longer],
            cost,
            max((window.limit for window in self._longer), default=0),
        )
        return float(row["wait_s"])

    async def confirm(self, late_s: float) -> float:
        """Return the seconds that calls are still paused for; move later slots by ``late_s``."""
        row = (
            await self._database.fetch_row(_CONFIRM_LATE, *self._row, late_s, _LATENCY_S)
            if late_s > 0
            else await self._database.fetch_row(_CONFIRM, *self._row)
        )
        return max(0.0, float(row["paused_s"]))

    async def pause(self, seconds: float) -> None:
        """Let nobody send for so many seconds from now."""
        await self._database.fetch_row(_PAUSE, *self._row, seconds)
