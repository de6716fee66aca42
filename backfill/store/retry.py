"""What bars in quarantine have asked again: their stamps, and slots that leave the coverage."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from backfill.core.bars import IntColumn
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.store.empty import drop_emptied
from backfill.store.keys import key_of
from backfill.store.pool import Connection
from backfill.store.quarantine import Choice, values_of
from backfill.store.quote import numbers
from backfill.store.times import stamps_to_ms

# The next stamps of the chosen bars of a series that nobody has accepted, by the index on the
# series; as one value those where the table holds no bar by now. Each is looked up by its key:
# OFFSET keeps the planner from joining all that is stored anew for each lot.
_LACKING: Final = """
    SELECT
        string_agg(timestamptz_send(q.ts), ''::bytea ORDER BY q.ts) FILTER (WHERE b.ts IS NULL)
            AS stamps,
        count(*) AS looked_at,
        max(q.ts) AS last
    FROM (
        SELECT DISTINCT q.ts
        FROM quarantined_bars AS q
        WHERE q.symbol_id = $1 AND q.timeframe = $2::text::timeframe AND q.ts > $4
            AND q.accepted_at IS NULL
            AND ($3::text[] IS NULL OR q.reason = ANY ($3))
        ORDER BY q.ts
        LIMIT $5
    ) AS q
    LEFT JOIN LATERAL (
        SELECT o.ts
        FROM ohlc_bars AS o
        WHERE o.symbol_id = $1 AND o.timeframe = $2::text::timeframe AND o.ts = q.ts
        OFFSET 0
    ) AS b ON true
"""
# Which series of a symbol have been claimed, finest first, and what each is rolled up from.
_ORIGINS: Final = """
    SELECT timeframe::text AS timeframe, derived_from::text AS derived_from
    FROM backfill_progress
    WHERE symbol_id = $1
    ORDER BY timeframe
"""
# What of the slots a series was covered for: it is to be asked for again, what is rolled up from it
# made again, and nothing is known to be empty there. Only that comes back, the bounds of its ranges
# as one value: the whole coverage may be as long as all slots before. The slots come as numbers,
# which the server reads in a tenth of the time of ranges. Derived series are coarser: they are
# locked after their base, in the order of keys.
_REOPEN: Final = """
    WITH asked AS MATERIALIZED (
        SELECT range_agg(tstzrange(
            to_timestamp(n.starts::double precision / 1000),
            to_timestamp(n.ends::double precision / 1000)
        )) AS slots
        FROM unnest($3::bigint[], $4::bigint[]) AS n (starts, ends)
    ),
    held AS MATERIALIZED (
        SELECT p.symbol_id, p.timeframe, p.provider, p.feed, p.adjustment,
            p.coverage * a.slots AS spans
        FROM backfill_progress AS p
        CROSS JOIN asked AS a
        WHERE p.symbol_id = $1 AND p.timeframe = $2::text::timeframe
        FOR UPDATE OF p
    ),
    invalidated AS (
        UPDATE backfill_progress AS p
        SET invalidated = p.invalidated + h.spans,
            coverage = p.coverage - h.spans
        FROM held AS h
        WHERE p.symbol_id = h.symbol_id AND p.timeframe = h.timeframe AND NOT isempty(h.spans)
    ),
    uncovered AS (
        UPDATE backfill_progress AS p
        SET coverage = p.coverage - h.spans
        FROM held AS h
        WHERE p.symbol_id = h.symbol_id AND p.derived_from = h.timeframe
            AND (p.provider, p.feed, p.adjustment) = (h.provider, h.feed, h.adjustment)
            AND p.coverage && h.spans
    ),
    cleared AS (
        UPDATE known_empty AS k
        SET slots = k.slots - h.spans
        FROM held AS h
        WHERE k.symbol_id = h.symbol_id AND k.timeframe = h.timeframe AND k.slots && h.spans
    )
    SELECT string_agg(
        timestamptz_send(lower(s.span)) || timestamptz_send(upper(s.span)), ''::bytea
    )
    FROM held AS h
    CROSS JOIN LATERAL unnest(h.spans) AS s (span)
"""
_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, eq=False, slots=True)
class Lacking:
    """Where bars in quarantine are lacking, in epoch ms, in order.

    ``last`` is the stamp behind which there may be more, None if there are none.
    """

    ts_ms: IntColumn
    last: datetime | None


async def lacking_ms(
    connection: Connection, series: Series, choice: Choice, after: datetime | None, most: int
) -> Lacking:
    """Return where the table lacks a bar of a series that is in quarantine: the next after one."""
    _, _, reasons = values_of(choice)
    key = key_of(series)
    row = await connection.fetchrow(_LACKING, *key, reasons, after or _BEFORE_ALL, most)
    last = row["last"] if row["looked_at"] == most else None
    return Lacking(stamps_to_ms(row["stamps"] or b""), last)


async def origins(connection: Connection, series: Series) -> Mapping[Timeframe, Timeframe]:
    """Return the claimed series of a symbol, and which one feeds each: itself, or its base."""
    return {
        (timeframe := Timeframe(row["timeframe"])): Timeframe(row["derived_from"] or timeframe)
        for row in await connection.fetch(_ORIGINS, series.symbol.id)
    }


async def reopen_covered(connection: Connection, series: Series, slots: IntColumn) -> IntColumn:
    """Have what a series was covered for of some slots asked for again, and return it.

    Both are pairs of bounds in epoch ms. What is rolled up from it is to be made again, and nothing
    is known to be empty there. What of the slots was not covered is left as it is.
    """
    bounds = map(numbers, slots.T.tolist())
    covered = await connection.fetchval(_REOPEN, *key_of(series), *bounds)
    drop_emptied(connection, [series])
    return stamps_to_ms(covered or b"").reshape(-1, 2)
