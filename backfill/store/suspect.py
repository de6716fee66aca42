"""What is stored of sessions that may be suspect, as they are judged by it."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from backfill.core.coverage import Spans
from backfill.core.series import Series
from backfill.core.suspect import Doubt
from backfill.store.keys import keys_of
from backfill.store.pool import Connection
from backfill.store.quote import bound
from backfill.store.times import to_time

# How many bars each session holds, and of those that lost some how much volume, beside that of the
# day's own bar from the same source. Ranges of the primary key.
_HELD: Final = """
    SELECT s.number,
        (
            SELECT count(*)
            FROM ohlc_bars AS b
            WHERE b.symbol_id = s.symbol_id AND b.timeframe = s.timeframe::timeframe
                AND b.ts >= s.starts AND b.ts < s.ends
        ) AS bars,
        CASE WHEN d.volume IS NOT NULL THEN (
            SELECT sum(b.volume)
            FROM ohlc_bars AS b
            WHERE b.symbol_id = s.symbol_id AND b.timeframe = s.timeframe::timeframe
                AND b.ts >= s.day_begins AND b.ts < s.day_ends
        ) END AS volume,
        d.volume AS day_volume
    FROM unnest(
        $1::symbol_id[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[],
        $6::timestamptz[], $7::boolean[]
    ) WITH ORDINALITY AS s (
        symbol_id, timeframe, starts, ends, day_begins, day_ends, emptied, number
    )
    LEFT JOIN backfill_progress AS p
        ON p.symbol_id = s.symbol_id AND p.timeframe = s.timeframe::timeframe
    LEFT JOIN backfill_progress AS q
        ON s.emptied AND q.symbol_id = s.symbol_id AND q.timeframe = 'd1'
        AND (q.provider, q.feed, q.adjustment) = (p.provider, p.feed, p.adjustment)
    LEFT JOIN ohlc_bars AS d
        ON d.symbol_id = q.symbol_id AND d.timeframe = q.timeframe AND d.ts >= s.day_begins
        AND d.ts < s.day_ends
    ORDER BY s.number
"""


async def suspect_sessions(
    connection: Connection, doubts: Mapping[Series, tuple[Doubt, Spans]]
) -> dict[Series, Spans]:
    """Return the regular hours of each series' suspect sessions; one without any is missing.

    With each doubt comes what its series is covered for.
    """
    asked = [
        (series, span, day, emptied)
        for series, (doubt, _) in doubts.items()
        for span, day, emptied in zip(doubt.spans, doubt.days, doubt.emptied.tolist(), strict=True)
    ]
    if not asked:
        return {}
    (rows,) = await connection.ask(
        bound(
            _HELD,
            *keys_of(series for series, *_ in asked),
            [to_time(span.start_ms) for _, span, _, _ in asked],
            [to_time(span.end_ms) for _, span, _, _ in asked],
            [to_time(day.start_ms) for _, _, day, _ in asked],
            [to_time(day.end_ms) for _, _, day, _ in asked],
            [emptied for *_, emptied in asked],
        )
    )
    bars = np.array([row["bars"] for row in rows], np.int64)
    volume, day_volume = (
        np.array([row[name] for row in rows], np.float64) for name in ("volume", "day_volume")
    )
    found: dict[Series, Spans] = {}
    first = 0
    for series, (doubt, covered) in doubts.items():
        mine = slice(first, first + len(doubt.sessions))
        first = mine.stop
        spans = doubt.suspect(covered, bars[mine], volume[mine], day_volume[mine])
        if spans:
            found[series] = spans
    return found
