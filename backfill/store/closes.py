"""The newest closes of series."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias

from backfill.core.series import Series, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.keys import keys_of
from backfill.store.pool import Connection

# The newest closes of each series that are numbers, oldest first, and where the bar of the last one
# starts; as many steps of the primary key for each as closes are asked for, and a few more where a
# foreign table holds bars without one: NaN is greater than infinity.
_CLOSES: Final = """
    SELECT k.symbol_id, k.timeframe, max(b.ts) AS newest,
        array_agg(b.close::double precision ORDER BY b.ts) AS closes
    FROM unnest($1::symbol_id[], $2::text[]) AS k (symbol_id, timeframe)
    CROSS JOIN LATERAL (
        SELECT o.ts, o.close
        FROM ohlc_bars AS o
        WHERE o.symbol_id = k.symbol_id AND o.timeframe = k.timeframe::timeframe
            AND o.close::double precision > '-Infinity'
            AND o.close::double precision < 'Infinity'
        ORDER BY o.ts DESC
        LIMIT $3
    ) AS b
    GROUP BY k.symbol_id, k.timeframe
"""

NewestCloses: TypeAlias = dict[tuple[SymbolId, Timeframe], tuple[datetime, tuple[float, ...]]]


async def newest_closes(
    connection: Connection, series: Sequence[Series], most: int
) -> NewestCloses:
    """Return the newest closes of each series, oldest first, and when the last one's bar starts."""
    return {
        (row["symbol_id"], Timeframe(row["timeframe"])): (row["newest"], tuple(row["closes"]))
        for row in await connection.fetch(_CLOSES, *keys_of(series), most)
    }
