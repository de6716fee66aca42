"""Bars that leave a series for quarantine, since they turned out to be of another source."""

from typing import Final
from uuid import UUID

from backfill.core.coverage import Span, Spans
from backfill.core.series import Series
from backfill.store.pool import Connection
from backfill.store.times import to_ranges, to_time

# Served by the primary key.
_EXPEL: Final = """
    WITH gone AS (
        DELETE FROM ohlc_bars
        WHERE symbol_id = $1 AND timeframe = $2::text::timeframe AND ts >= $3 AND ts < $4
        RETURNING *
    ),
    kept AS (
        INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id)
        SELECT symbol_id, timeframe, ts, 'source_changed', to_jsonb(gone), $5 FROM gone
        RETURNING 1
    )
    SELECT count(*) FROM kept
"""
_UNCOVER: Final = """
    UPDATE backfill_progress AS p
    SET coverage = coverage - $3::tstzmultirange,
        invalidated = invalidated - $3::tstzmultirange,
        oldest_bar = held.oldest,
        newest_bar = held.newest
    FROM (
        SELECT min(ts) AS oldest, max(ts) AS newest
        FROM ohlc_bars
        WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
    ) AS held
    WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
"""


async def expel(connection: Connection, run_id: UUID, series: Series, span: Span) -> int:
    """Move the bars that start within a span to quarantine as ``source_changed``; how many."""
    expelled: int = await connection.fetchval(
        _EXPEL, *_key(series), to_time(span.start_ms), to_time(span.end_ms), run_id
    )
    return expelled


async def uncover(connection: Connection, series: Series, span: Span) -> None:
    """Take a span out of a series' coverage, not to be asked for again, after `expel`."""
    await connection.execute(_UNCOVER, *_key(series), to_ranges(Spans.of(span)))


def _key(series: Series) -> tuple[int, str]:
    return series.symbol.id, str(series.timeframe)
