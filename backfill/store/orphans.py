"""Bars of symbols that aren't there: somebody deleted rows of `symbols` and left theirs."""

from typing import Final

from backfill.core.series import SymbolId
from backfill.store.pool import Connection

# Which symbols the bars name that are in no row of `symbols`. From one id to the next by the
# primary key of the bars: as many steps as there are symbols, however many bars each has.
_ORPHANS: Final = """
    WITH RECURSIVE named AS (
        (SELECT symbol_id FROM ohlc_bars ORDER BY symbol_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT b.symbol_id
            FROM ohlc_bars AS b
            WHERE b.symbol_id > n.symbol_id
            ORDER BY b.symbol_id
            LIMIT 1
        )
        FROM named AS n
        WHERE n.symbol_id IS NOT NULL
    )
    SELECT n.symbol_id
    FROM named AS n
    WHERE n.symbol_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM symbols AS s WHERE s.id = n.symbol_id)
    ORDER BY n.symbol_id
"""


async def orphans(connection: Connection) -> list[SymbolId]:
    """Return the ids of symbols that have bars and no row of their own, in order."""
    return [row["symbol_id"] for row in await connection.fetch(_ORPHANS)]
