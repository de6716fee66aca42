"""Bars on a source or basis that no longer holds: they leave, and their series starts anew."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from backfill.core.checks import Reason
from backfill.core.coverage import Span, Spans
from backfill.core.series import Series
from backfill.store.changes import Change, note_changes
from backfill.store.keys import key_of
from backfill.store.pool import Connection
from backfill.store.times import to_ms, to_text, to_time

EVER: Final = Span(to_ms(datetime.min.replace(tzinfo=UTC)), to_ms(datetime.max.replace(tzinfo=UTC)))
# In slices, by the primary key: one statement for decades of minutes would run into its timeout.
_SLICE: Final = 200_000
# The oldest bars of a range, so many, move to quarantine; by the primary key.
_EXPEL: Final = """
    WITH gone AS (
        DELETE FROM ohlc_bars
        WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
            AND ts >= $3 AND ts < least($4, (
                SELECT ts
                FROM ohlc_bars
                WHERE symbol_id = $1 AND timeframe = $2::text::timeframe AND ts >= $3
                ORDER BY ts
                OFFSET $5
                LIMIT 1
            ))
        RETURNING *
    ),
    kept AS (
        INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id)
        SELECT symbol_id, timeframe, ts, $7, to_jsonb(gone), $6 FROM gone
    ),
    counted AS (
        UPDATE backfill_progress
        SET bars = bars - (SELECT count(*) FROM gone)
        WHERE symbol_id = $1 AND timeframe = $2::text::timeframe AND EXISTS (SELECT FROM gone)
    )
    SELECT count(*) AS bars, min(ts) AS first, max(ts) AS last FROM gone
"""
# A range that left is neither covered nor asked for, and the oldest and newest bar are those left.
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
# What was taken out of the coverage stays marked: it is what the new source has to bring.
_START_ANEW: Final = """
    UPDATE backfill_progress
    SET provider = NULL, feed = NULL, adjustment = NULL, derived_from = NULL, loaded_at = NULL,
        coverage = '{}', provisional = '{}', oldest_bar = NULL, newest_bar = NULL
    WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
"""
# Nothing of a series is known to be empty; by the primary key, of which it is the beginning.
_FORGET_EMPTY: Final = """
    DELETE FROM known_empty WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
"""


async def expel(
    connection: Connection,
    run_id: UUID,
    series: Series,
    span: Span = EVER,
    most: int = _SLICE,
    reason: Reason = Reason.source_changed,
) -> int:
    """Move the bars that start within a span to quarantine, and count them.

    The run's change of the series holds their range. ``most`` is how many one statement moves.
    """
    change = Change(series)
    start, end = to_time(span.start_ms), to_time(span.end_ms)
    while True:
        row = await connection.fetchrow(_EXPEL, *key_of(series), start, end, most, run_id, reason)
        change.withdrawn += row["bars"]
        change.reach(row["first"], row["last"])
        if row["bars"] < most:
            break
    note_changes(connection, run_id, [change])
    return change.withdrawn


async def uncover(connection: Connection, series: Series, span: Span) -> None:
    """Take a span out of a series' coverage, not to be asked for again, after `expel`."""
    await connection.execute(_UNCOVER, *key_of(series), to_text(Spans.of(span)))


async def start_anew(connection: Connection, series: Series) -> None:
    """Forget a series' source and all that it answered; what is invalidated stays so."""
    await connection.execute(_START_ANEW, *key_of(series))
    await connection.execute(_FORGET_EMPTY, *key_of(series))
