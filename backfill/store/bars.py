"""Writing a page: its bars, the coverage they prove, and what stayed empty, in one transaction."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.paging import Chunk
from backfill.core.series import Progress
from backfill.core.timeframe import Timeframe
from backfill.errors import SourceMismatch
from backfill.store.changes import note_change
from backfill.store.empty import note_empty
from backfill.store.pool import Connection
from backfill.store.progress import LEASE_S, lock_progress
from backfill.store.source import expel, start_anew
from backfill.store.times import to_ranges, to_time

_STAGE: Final = """
    CREATE TEMPORARY TABLE incoming (
        ts timestamptz NOT NULL,
        open double precision NOT NULL,
        high double precision NOT NULL,
        low double precision NOT NULL,
        close double precision NOT NULL,
        volume double precision NOT NULL,
        vwap double precision,
        trade_count bigint
    ) ON COMMIT DROP
"""
# Rows that are there already, the same to the last bit, are not touched: the anti-join leaves no
# dead row and no WAL behind. A row new to the table has no xmax.
_MERGE: Final = """
    WITH changed AS (
        SELECT i.*
        FROM incoming AS i
        LEFT JOIN ohlc_bars AS b
            ON b.symbol_id = $1 AND b.timeframe = $2::text::timeframe AND b.ts = i.ts
        WHERE b.ts IS NULL
            OR (b.open, b.high, b.low, b.close, b.volume, b.vwap, b.trade_count)
                IS DISTINCT FROM (i.open, i.high, i.low, i.close, i.volume, i.vwap, i.trade_count)
    ),
    written AS (
        INSERT INTO ohlc_bars (
            symbol_id, timeframe, ts, open, high, low, close, volume, vwap, trade_count
        )
        SELECT $1, $2::text::timeframe, c.* FROM changed AS c ORDER BY c.ts
        ON CONFLICT (symbol_id, timeframe, ts) DO UPDATE
        SET open = excluded.open, high = excluded.high, low = excluded.low,
            close = excluded.close, volume = excluded.volume, vwap = excluded.vwap,
            trade_count = excluded.trade_count
        RETURNING ts, (xmax = 0) AS inserted
    )
    SELECT
        count(*) FILTER (WHERE inserted) AS inserted,
        count(*) FILTER (WHERE NOT inserted) AS updated,
        min(ts) AS first,
        max(ts) AS last
    FROM written
"""
# A stored bar that a reload no longer brings leaves for quarantine as it was.
_WITHDRAW: Final = """
    WITH gone AS (
        DELETE FROM ohlc_bars AS b
        WHERE b.symbol_id = $1 AND b.timeframe = $2::text::timeframe
            AND b.ts <@ $3::tstzmultirange
            AND b.ts BETWEEN lower($3::tstzmultirange) AND upper($3::tstzmultirange)
            AND NOT EXISTS (SELECT FROM incoming AS i WHERE i.ts = b.ts)
        RETURNING b.*
    ),
    kept AS (
        INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id)
        SELECT symbol_id, timeframe, ts, 'withdrawn', to_jsonb(gone), $4 FROM gone
    )
    SELECT count(*) AS withdrawn, min(ts) AS first, max(ts) AS last FROM gone
"""
# A bar that was rejected before with the same values stays the one row it is: its page may be
# fetched again and again. Served by the index on the series.
_QUARANTINE: Final = """
    INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id)
    SELECT $1, $2::text::timeframe, n.ts, n.reason, n.raw, $6
    FROM (
        SELECT DISTINCT ts, reason, raw::jsonb AS raw
        FROM unnest($3::timestamptz[], $4::text[], $5::text[]) AS q (ts, reason, raw)
    ) AS n
    WHERE NOT EXISTS (
        SELECT FROM quarantined_bars AS q
        WHERE q.symbol_id = $1 AND q.timeframe = $2::text::timeframe
            AND (q.ts, q.reason, q.raw) = (n.ts, n.reason, n.raw)
    )
"""
_ADVANCE: Final = """
    UPDATE backfill_progress
    SET provider = $3,
        feed = $4,
        adjustment = $5,
        derived_from = $6::text::timeframe,
        loaded_at = CASE WHEN provider IS NULL THEN $11 ELSE loaded_at END,
        coverage = coverage + $7::tstzmultirange,
        invalidated = invalidated - $7::tstzmultirange,
        oldest_bar = least(oldest_bar, $8),
        newest_bar = greatest(newest_bar, $9),
        claimed_until = now() + make_interval(secs => $10),
        last_updated = now()
    WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
"""


@dataclass(slots=True)
class Counts:
    """What became of bars: new, corrected, there already, quarantined, withdrawn."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    withdrawn: int = 0

    def add(self, other: "Counts") -> None:
        """Add another's counts to these."""
        self.inserted += other.inserted
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.rejected += other.rejected
        self.withdrawn += other.withdrawn


async def write_chunks(
    connection: Connection, run_id: UUID, chunks: list[Chunk], now: datetime
) -> list[Counts]:
    """Write what one page brings, to one series or several of a symbol; all of it or nothing.

    Returns the counts of each chunk, in the order of the timeframes. ``now`` is the clock by which
    known-empty slots expire.

    Raises
    ------
    LeaseLost
        If another run has taken one of the series over.
    SourceMismatch
        If a series holds bars of another source that its chunk does not replace.
    """
    chunks = sorted(chunks, key=lambda chunk: list(Timeframe).index(chunk.series.timeframe))
    progress = await lock_progress(connection, [chunk.series for chunk in chunks], run_id)
    return [
        await _write(connection, run_id, chunk, progress[chunk.series.key], now) for chunk in chunks
    ]


async def _write(
    connection: Connection, run_id: UUID, chunk: Chunk, known: Progress, now: datetime
) -> Counts:
    key = (chunk.series.symbol.id, str(chunk.series.timeframe))
    counts = Counts(rejected=len(chunk.rejected))
    if known.source not in {None, chunk.source}:
        if known.source != chunk.replaces:
            raise SourceMismatch(f"the series holds {known.source}; {chunk.source} was asked for")
        counts.withdrawn = await expel(connection, run_id, chunk.series)
        await start_anew(connection, chunk.series)
    withdrawable = known.invalidated & chunk.claims
    if len(chunk.bars) or withdrawable:
        await connection.execute(_STAGE)
        await connection.copy_records_to_table("incoming", records=_records(chunk.bars))
        changed: list[datetime | None] = []
        withdrawn = 0
        if withdrawable:
            ranges = to_ranges(withdrawable)
            row = await connection.fetchrow(_WITHDRAW, *key, ranges, run_id)
            withdrawn = row["withdrawn"]
            changed += [row["first"], row["last"]]
        row = await connection.fetchrow(_MERGE, *key)
        await connection.execute("DROP TABLE incoming")
        counts.inserted, counts.updated = row["inserted"], row["updated"]
        counts.unchanged = len(chunk.bars) - counts.inserted - counts.updated
        changed += [row["first"], row["last"]]
        await note_change(
            connection,
            run_id,
            chunk.series,
            changed,
            inserted=counts.inserted,
            updated=counts.updated,
            withdrawn=withdrawn,
        )
        counts.withdrawn += withdrawn
    if len(chunk.rejected):
        times = [to_time(ms) for ms in chunk.rejected.ts_ms.tolist()]
        raw = [json.dumps(values) for values in _raw(chunk.rejected)]
        await connection.execute(_QUARANTINE, *key, times, list(chunk.reasons), raw, run_id)
    await note_empty(connection, chunk.series, chunk.claims, chunk.empty, now)
    stamps = chunk.bars.ts_ms
    source = chunk.source
    await connection.execute(
        _ADVANCE,
        *key,
        source.provider,
        source.feed,
        source.adjustment,
        str(source.derived_from) if source.derived_from else None,
        to_ranges(chunk.claims),
        to_time(int(stamps[0])) if len(stamps) else None,
        to_time(int(stamps[-1])) if len(stamps) else None,
        LEASE_S,
        now,
    )
    return counts


def _records(bars: Bars) -> Iterator[tuple[Any, ...]]:
    """Rows in the order of the staging table."""
    return zip(
        map(to_time, bars.ts_ms.tolist()),
        bars.open.tolist(),
        bars.high.tolist(),
        bars.low.tolist(),
        bars.close.tolist(),
        bars.volume.tolist(),
        _given_vwaps(bars),
        _given_counts(bars),
        strict=True,
    )


def _given_vwaps(bars: Bars) -> list[float | None]:
    return [None if value != value else value for value in bars.vwap.tolist()]  # noqa: PLR0124  # NaN


def _given_counts(bars: Bars) -> list[int | None]:
    return [None if value == NO_COUNT else value for value in bars.trade_count.tolist()]


def _raw(bars: Bars) -> Iterator[dict[str, Any]]:
    """Values of rejected bars as they came; what JSON can't hold is spelled out."""
    names = ("open", "high", "low", "close", "volume", "vwap", "trade_count")
    for stamp, *values in zip(
        bars.ts_ms.tolist(),
        *(getattr(bars, name).tolist() for name in names[:5]),
        _given_vwaps(bars),
        _given_counts(bars),
        strict=True,
    ):
        yield {"ts_ms": stamp, **dict(zip(names, map(_spelled, values), strict=True))}


def _spelled(value: float | None) -> float | str | None:
    return value if value is None or abs(value) < float("inf") else str(value)
