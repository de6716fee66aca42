"""Stored bars as columns."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.coverage import Spans
from backfill.core.series import Series
from backfill.store.keys import keys_of
from backfill.store.pool import Connection
from backfill.store.times import stamps_to_ms, to_text

# The bars of each series within its spans, by the primary key. Each column comes as one value, and
# no Python object is made for a bar. An adopted table may hold rows without a price: those are no
# bars, and would be missing in one column and move it against the others.
_BARS: Final = """
    SELECT bars.*
    FROM unnest($1::symbol_id[], $2::text[]::timeframe[], $3::text[])
        WITH ORDINALITY AS k (symbol_id, timeframe, spans, number)
    CROSS JOIN LATERAL (
        SELECT
            string_agg(timestamptz_send(ts), ''::bytea) AS ts,
            string_agg(float8send(open::double precision), ''::bytea) AS open,
            string_agg(float8send(high::double precision), ''::bytea) AS high,
            string_agg(float8send(low::double precision), ''::bytea) AS low,
            string_agg(float8send(close::double precision), ''::bytea) AS close,
            string_agg(float8send(volume::double precision), ''::bytea) AS volume,
            string_agg(float8send(coalesce(vwap, 'NaN')), ''::bytea) AS vwap,
            string_agg(int8send(coalesce(trade_count, $4)), ''::bytea) AS trade_count
        FROM (
            SELECT b.*
            FROM unnest(k.spans::tstzmultirange) AS s (span)
            JOIN ohlc_bars AS b ON b.ts >= lower(s.span) AND b.ts < upper(s.span)
            WHERE b.symbol_id = k.symbol_id AND b.timeframe = k.timeframe
                AND b.open IS NOT NULL AND b.high IS NOT NULL AND b.low IS NOT NULL
                AND b.close IS NOT NULL AND b.volume IS NOT NULL
            ORDER BY b.ts
        ) AS ordered
    ) AS bars
    ORDER BY k.number
"""


async def stored_bars(connection: Connection, series: Series, spans: Spans) -> Bars:
    """Return a series' bars within spans, oldest first."""
    return (await bars_of_each(connection, {series: spans}))[series]


async def bars_of_each(
    connection: Connection, wanted: Mapping[Series, Spans]
) -> dict[Series, Bars]:
    """Return the bars of several series, each within its spans, oldest first."""
    rows = await connection.fetch(
        _BARS, *keys_of(wanted), [to_text(spans) for spans in wanted.values()], NO_COUNT
    )
    return {series: _bars(row) for series, row in zip(wanted, rows, strict=True)}


def _bars(row: Mapping[str, bytes | None]) -> Bars:
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
