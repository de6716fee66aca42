"""The stored bars of one series, block by block: however many there are, few are held at once."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from backfill.core.series import Series
from backfill.store.keys import key_of
from backfill.store.pool import Connection, Database

BLOCK: Final = 5_000
"""How many bars a block holds at most."""
_NEXT: Final = timedelta(microseconds=1)

# The bars of a series from one time to before another, the oldest first, by the primary key.
_BLOCK: Final = """
    SELECT ts, open::double precision, high::double precision, low::double precision,
        close::double precision, volume::double precision, vwap::double precision,
        trade_count::bigint
    FROM {table}
    WHERE symbol_id = $1 AND timeframe = $2::text::timeframe AND ts >= $3 AND ts < $4
    ORDER BY ts
    LIMIT $5
"""
_BARS: Final = _BLOCK.format(table="ohlc_bars")
_ADJUSTED: Final = _BLOCK.format(table="ohlc_bars_adjusted")
# Where the newest bars of a series begin, so many of them, by the primary key.
_NEWEST: Final = """
    SELECT min(ts)
    FROM (
        SELECT ts
        FROM ohlc_bars
        WHERE symbol_id = $1 AND timeframe = $2::text::timeframe AND ts >= $3 AND ts < $4
        ORDER BY ts DESC
        LIMIT $5
    ) AS newest
"""


class StoredBar(NamedTuple):
    """One row of a series, as the table has it; what no provider gave is None."""

    ts: datetime
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: float | None
    vwap: float | None
    trade_count: int | None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which bars of a series: from one time to before another, or only the newest of them."""

    series: Series
    start: datetime
    end: datetime
    newest: int | None
    adjusted: bool


async def blocks(
    database: Database, stretch: Stretch, most: int = BLOCK
) -> AsyncIterator[list[StoredBar]]:
    """Yield the bars of a stretch, oldest first; each block is read when it is asked for.

    What is written between two blocks may show in the later one.
    """
    start: datetime | None = stretch.start
    if stretch.newest is not None:
        start = await database.run(partial(_newest, stretch=stretch))
    while start is not None:
        block = await database.run(partial(_block, stretch=stretch, start=start, most=most))
        if block:
            yield block
        start = block[-1].ts + _NEXT if len(block) == most else None


async def _newest(connection: Connection, stretch: Stretch) -> datetime | None:
    key = key_of(stretch.series)
    found: datetime | None = await connection.fetchval(
        _NEWEST, *key, stretch.start, stretch.end, stretch.newest
    )
    return found


async def _block(
    connection: Connection, stretch: Stretch, start: datetime, most: int
) -> list[StoredBar]:
    query, key = _ADJUSTED if stretch.adjusted else _BARS, key_of(stretch.series)
    rows: list[Any] = await connection.fetch(query, *key, start, stretch.end, most)
    return [StoredBar(*row) for row in rows]
