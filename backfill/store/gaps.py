"""What is stored, as gap finding asks for it."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from backfill.core.bars import IntColumn
from backfill.core.coverage import Span, Spans
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.store.pool import Connection
from backfill.store.times import to_time

# Sessions whose stored bars are not as many as their slots, for all series of one calendar and
# timeframe: one range of the primary key per series and session, index-only.
_INCOMPLETE: Final = """
    SELECT k.symbol_id, s.session
    FROM unnest($1::integer[]) AS k (symbol_id)
    CROSS JOIN unnest($3::timestamptz[], $4::timestamptz[], $5::integer[])
        WITH ORDINALITY AS s (starts, ends, slots, session)
    CROSS JOIN LATERAL (
        SELECT count(*) AS bars
        FROM ohlc_bars AS b
        WHERE b.symbol_id = k.symbol_id AND b.timeframe = $2::text::timeframe
            AND b.ts >= s.starts AND b.ts < s.ends
    ) AS c
    WHERE c.bars <> s.slots
    ORDER BY 1, 2
"""
_STORED: Final = """
    SELECT (extract(epoch FROM b.ts) * 1000)::bigint
    FROM unnest($3::timestamptz[], $4::timestamptz[]) AS s (starts, ends)
    JOIN ohlc_bars AS b ON b.ts >= s.starts AND b.ts < s.ends
    WHERE b.symbol_id = $1 AND b.timeframe = $2::text::timeframe
    ORDER BY 1
"""


async def incomplete_sessions(
    connection: Connection,
    symbol_ids: Sequence[int],
    timeframe: Timeframe,
    sessions: Sequence[Span],
    slots: Sequence[int],
) -> dict[int, list[int]]:
    """Return, by symbol, the indices of the sessions that hold more or fewer bars than slots."""
    rows = await connection.fetch(
        _INCOMPLETE,
        list(symbol_ids),
        str(timeframe),
        [to_time(session.start_ms) for session in sessions],
        [to_time(session.end_ms) for session in sessions],
        list(slots),
    )
    found: dict[int, list[int]] = {}
    for symbol_id, session in rows:
        found.setdefault(symbol_id, []).append(session - 1)
    return found


async def stored_ms(connection: Connection, series: Series, spans: Spans) -> IntColumn:
    """Return the starts of a series' bars within spans, in epoch ms."""
    rows = await connection.fetch(
        _STORED,
        series.symbol.id,
        str(series.timeframe),
        [to_time(span.start_ms) for span in spans],
        [to_time(span.end_ms) for span in spans],
    )
    return np.array([row[0] for row in rows], np.int64)
