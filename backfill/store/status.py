"""What is known of each series beside its bars, for ``backfill status``."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from backfill.core.series import SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.pool import Connection

# Every series that was ever leased; a scan of the progress rows.
_SERIES: Final = """
    SELECT p.symbol_id, p.timeframe::text AS timeframe
    FROM backfill_progress AS p
    ORDER BY p.symbol_id, p.timeframe
"""
# How many bars of each series wait in quarantine; a scan of those.
_QUARANTINED: Final = """
    SELECT symbol_id, timeframe::text AS timeframe, count(*) AS bars
    FROM quarantined_bars
    WHERE accepted_at IS NULL
    GROUP BY symbol_id, timeframe
"""
# Raw daily closes that follow one another within two weeks and differ by a third or more, with no
# split listed between them under any name of the symbol; one scan of all daily bars.
_JUMPS: Final = """
    SELECT d.symbol_id, d.ts, d.before::double precision, d.close::double precision
    FROM (
        SELECT b.symbol_id, b.ts, b.close,
            lag(b.close) OVER w AS before, lag(b.ts) OVER w AS before_ts
        FROM ohlc_bars AS b
        JOIN backfill_progress AS p
            ON p.symbol_id = b.symbol_id AND p.timeframe = b.timeframe AND p.adjustment = 'raw'
        WHERE b.timeframe = 'd1'
        WINDOW w AS (PARTITION BY b.symbol_id ORDER BY b.ts)
    ) AS d
    JOIN symbols AS s ON s.id = d.symbol_id AND s.asset_type <> 'crypto'
    WHERE (d.close >= d.before * 1.35 OR d.before >= d.close * 1.35)
        AND d.ts < d.before_ts + interval '14 days'
        AND NOT EXISTS (
            SELECT
            FROM splits AS x
            WHERE x.status <> 'dropped'
                AND (
                    x.symbol_id = s.id
                    OR x.ticker IN (SELECT ticker FROM symbol_names WHERE symbol_id = s.id)
                )
                AND backfill_midnight(x.execution_date, s.calendar) > d.before_ts
                AND backfill_midnight(x.execution_date, s.calendar) <= d.ts
        )
    ORDER BY d.symbol_id, d.ts
"""


@dataclass(frozen=True, slots=True)
class Jump:
    """Two raw daily closes that follow one another with a jump that no listed split explains."""

    ts: datetime
    before: float
    close: float


Counts: TypeAlias = dict[tuple[SymbolId, Timeframe], int]


async def quarantined(connection: Connection) -> Counts:
    """Return how many bars of each series are in quarantine and not accepted; none if missing."""
    return {
        (row["symbol_id"], Timeframe(row["timeframe"])): row["bars"]
        for row in await connection.fetch(_QUARANTINED)
    }


async def jumps(connection: Connection) -> dict[SymbolId, list[Jump]]:
    """Return where the raw daily closes of symbols jump without a listed split."""
    found: dict[SymbolId, list[Jump]] = {}
    for row in await connection.fetch(_JUMPS):
        jump = Jump(row["ts"], row["before"], row["close"])
        found.setdefault(row["symbol_id"], []).append(jump)
    return found


async def claimed_series(connection: Connection) -> list[tuple[SymbolId, Timeframe]]:
    """Return the keys of the series that some run has claimed at least once."""
    return [
        (row["symbol_id"], Timeframe(row["timeframe"])) for row in await connection.fetch(_SERIES)
    ]
