"""Stored bars as columns."""

from typing import Final

import numpy as np

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.coverage import Spans
from backfill.core.series import Series
from backfill.store.pool import Connection
from backfill.store.times import stamps_to_ms, to_time

# Each column comes as one value, and no Python object is made for a bar.
_BARS: Final = """
    SELECT
        string_agg(timestamptz_send(ts), ''::bytea) AS ts,
        string_agg(float8send(open::double precision), ''::bytea) AS open,
        string_agg(float8send(high::double precision), ''::bytea) AS high,
        string_agg(float8send(low::double precision), ''::bytea) AS low,
        string_agg(float8send(close::double precision), ''::bytea) AS close,
        string_agg(float8send(volume::double precision), ''::bytea) AS volume,
        string_agg(float8send(coalesce(vwap, 'NaN')), ''::bytea) AS vwap,
        string_agg(int8send(coalesce(trade_count, $5)), ''::bytea) AS trade_count
    FROM (
        SELECT b.*
        FROM unnest($3::timestamptz[], $4::timestamptz[]) AS s (starts, ends)
        JOIN ohlc_bars AS b ON b.ts >= s.starts AND b.ts < s.ends
        WHERE b.symbol_id = $1 AND b.timeframe = $2::text::timeframe
        ORDER BY b.ts
    ) AS bars
"""


async def stored_bars(connection: Connection, series: Series, spans: Spans) -> Bars:
    """Return a series' bars within spans, oldest first."""
    row = await connection.fetchrow(
        _BARS,
        series.symbol.id,
        str(series.timeframe),
        [to_time(span.start_ms) for span in spans],
        [to_time(span.end_ms) for span in spans],
        NO_COUNT,
    )
    columns = {name: value or b"" for name, value in row.items()}
    prices = {
        name: np.frombuffer(columns[name], ">f8").astype(np.float64)
        for name in ("open", "high", "low", "close", "volume", "vwap")
    }
    return Bars(
        ts_ms=stamps_to_ms(columns["ts"]),
        trade_count=np.frombuffer(columns["trade_count"], ">i8").astype(np.int64),
        **prices,
    )
