"""What the table holds of each series, for ``backfill status``."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from backfill.core.series import SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.pool import Connection

# Bars of every series, by an index-only scan of the primary key.
_HOLDINGS: Final = """
    SELECT
        symbol_id,
        timeframe::text AS timeframe,
        count(*) AS bars,
        min(ts) AS oldest,
        max(ts) AS newest
    FROM ohlc_bars
    GROUP BY symbol_id, timeframe
"""
_SERIES: Final = """
    SELECT p.symbol_id, p.timeframe::text AS timeframe
    FROM backfill_progress AS p
    ORDER BY p.symbol_id, p.timeframe
"""
_QUARANTINED: Final = """
    SELECT symbol_id, timeframe::text AS timeframe, count(*) AS bars
    FROM quarantined_bars
    WHERE accepted_at IS NULL
    GROUP BY symbol_id, timeframe
"""


@dataclass(frozen=True, slots=True)
class Holding:
    """The bars stored of a series: how many, and the starts of the oldest and the newest."""

    bars: int
    oldest: datetime
    newest: datetime


Holdings: TypeAlias = dict[tuple[SymbolId, Timeframe], Holding]
Counts: TypeAlias = dict[tuple[SymbolId, Timeframe], int]


async def holdings(connection: Connection) -> Holdings:
    """Return what is stored, by series; a series without bars is missing from the result."""
    return {
        (row["symbol_id"], Timeframe(row["timeframe"])): Holding(
            row["bars"], row["oldest"], row["newest"]
        )
        for row in await connection.fetch(_HOLDINGS)
    }


async def quarantined(connection: Connection) -> Counts:
    """Return how many bars of each series are in quarantine and not accepted; none if missing."""
    return {
        (row["symbol_id"], Timeframe(row["timeframe"])): row["bars"]
        for row in await connection.fetch(_QUARANTINED)
    }


async def claimed_series(connection: Connection) -> list[tuple[SymbolId, Timeframe]]:
    """Return the keys of the series that some run has claimed at least once."""
    return [
        (row["symbol_id"], Timeframe(row["timeframe"])) for row in await connection.fetch(_SERIES)
    ]
