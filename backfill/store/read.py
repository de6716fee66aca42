"""Stored bars as columns."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.coverage import Spans
from backfill.core.series import Series
from backfill.store.keys import key_of, keys_of
from backfill.store.pool import Connection
from backfill.store.quote import bound
from backfill.store.times import stamps_to_ms, to_text

# Bars as one value: how many they are, and each column behind the other. No Python object is made
# for a bar.
_AS_COLUMNS: Final = f"""
            count(*) AS count,
            string_agg(timestamptz_send(ts), ''::bytea) AS ts,
            string_agg(float8send(open::double precision), ''::bytea) AS open,
            string_agg(float8send(high::double precision), ''::bytea) AS high,
            string_agg(float8send(low::double precision), ''::bytea) AS low,
            string_agg(float8send(close::double precision), ''::bytea) AS close,
            string_agg(float8send(volume::double precision), ''::bytea) AS volume,
            string_agg(float8send(coalesce(vwap, 'NaN')), ''::bytea) AS vwap,
            string_agg(
                int8send(coalesce(trade_count, {NO_COUNT})::bigint), ''::bytea
            ) AS trade_count
"""
_SENT: Final = """
        coalesce(
            int8send(bars.count) || ts || open || high || low || close || volume || vwap
                || trade_count,
            int8send(0)
        )
"""
# An adopted table may hold rows without a price: those are no bars, and would be missing in one
# column and move it against the others.
_IS_BAR: Final = """
                AND b.open IS NOT NULL AND b.high IS NOT NULL AND b.low IS NOT NULL
                AND b.close IS NOT NULL AND b.volume IS NOT NULL
"""
# The bars of each series within its spans, by the primary key. OFFSET keeps the planner from
# reading a series whole and in order for the sake of the sort, and in a table that was never
# analysed whole for each span.
_EACH: Final = """
    SELECT string_agg({sent}, ''::bytea ORDER BY k.number)
    FROM unnest($1::symbol_id[], $2::text[]::timeframe[], $3::text[])
        WITH ORDINALITY AS k (symbol_id, timeframe, spans, number)
    CROSS JOIN LATERAL (
        SELECT {as_columns}
        FROM (
            SELECT b.*
            FROM unnest(k.spans::tstzmultirange) AS s (span)
            CROSS JOIN LATERAL (
                SELECT *
                FROM ohlc_bars AS o
                WHERE o.symbol_id = k.symbol_id AND o.timeframe = k.timeframe
                    AND o.ts >= lower(s.span) AND o.ts < upper(s.span)
                OFFSET 0
            ) AS b
            WHERE true {is_bar}
            ORDER BY b.ts
        ) AS ordered
    ) AS bars
"""
_BARS: Final = _EACH.format(sent=_SENT, as_columns=_AS_COLUMNS, is_bar=_IS_BAR)
# So many bars of a series within spans, the first or the last, by the primary key: of one span
# after the other, until they are enough.
_SOME: Final = """
    SELECT {sent}
    FROM (
        SELECT {as_columns}
        FROM (
            SELECT *
            FROM (
                SELECT n.*
                FROM (
                    SELECT u.span
                    FROM unnest($3::text::tstzmultirange) AS u (span)
                    ORDER BY u.span {order}
                ) AS s
                CROSS JOIN LATERAL (
                    SELECT b.*
                    FROM ohlc_bars AS b
                    WHERE b.symbol_id = $1 AND b.timeframe = $2::text::timeframe
                        AND b.ts >= lower(s.span) AND b.ts < upper(s.span) {is_bar}
                    ORDER BY b.ts {order}
                    LIMIT $4
                ) AS n
                ORDER BY s.span {order}, n.ts {order}
                LIMIT $4
            ) AS found
            ORDER BY ts
        ) AS ordered
    ) AS bars
"""
_OLDEST: Final = _SOME.format(sent=_SENT, as_columns=_AS_COLUMNS, is_bar=_IS_BAR, order="ASC")
_NEWEST: Final = _SOME.format(sent=_SENT, as_columns=_AS_COLUMNS, is_bar=_IS_BAR, order="DESC")


async def some_bars(
    connection: Connection, series: Series, spans: Spans, most: int, *, newest: bool
) -> Bars:
    """Return the oldest, or the newest, bars of a series that begin in spans, oldest first."""
    query = _NEWEST if newest else _OLDEST
    sent = await connection.value(query, *key_of(series), to_text(spans), most)
    return _cut((series,), sent)[series]


async def stored_bars(connection: Connection, series: Series, spans: Spans) -> Bars:
    """Return a series' bars within spans, oldest first."""
    return (await bars_of_each(connection, {series: spans}))[series]


async def bars_of_each(
    connection: Connection, wanted: Mapping[Series, Spans]
) -> dict[Series, Bars]:
    """Return the bars of several series, each within its spans, oldest first."""
    return _cut(wanted, await connection.value(_asked(wanted))) if wanted else {}


def reading(wanted: Mapping[Series, Spans]) -> str:
    """Return the query for a few bars, to be asked along with others; `read_bars` reads its row."""
    return f"SELECT encode(({_asked(wanted)}), 'hex') AS bars"


def read_bars(
    wanted: Mapping[Series, Spans], rows: Sequence[Mapping[str, str | None]]
) -> dict[Series, Bars]:
    """Return what `bars_of_each` does, by the row of `reading`."""
    return _cut(wanted, bytes.fromhex(rows[0]["bars"] or ""))


def _asked(wanted: Mapping[Series, Spans]) -> str:
    spans = [to_text(one) for one in wanted.values()]
    return bound(_BARS, *keys_of(wanted), spans)


def _cut(wanted: Iterable[Series], sent: bytes) -> dict[Series, Bars]:
    """Return the bars of each series, which follow one another behind their number."""
    found, left = {}, memoryview(sent)
    for series in wanted:
        count = int.from_bytes(left[:8])
        found[series] = _bars(np.frombuffer(left[8 : 8 + 64 * count], ">i8").reshape(8, count))
        left = left[8 + 64 * count :]
    return found


def _bars(columns: NDArray[np.int64]) -> Bars:
    """Return the bars of columns of eight bytes each, as they are sent."""
    stamps, *prices, counts = columns
    names = ("open", "high", "low", "close", "volume", "vwap")
    return Bars(
        ts_ms=stamps_to_ms(stamps.tobytes()),
        trade_count=counts.astype(np.int64),
        **{
            name: price.view(">f8").astype(np.float64)
            for name, price in zip(names, prices, strict=True)
        },
    )
