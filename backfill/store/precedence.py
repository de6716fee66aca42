"""In which order the sources of an instrument are composed: a plain symbol and its listings."""

from collections.abc import Sequence
from typing import Final

from backfill.core.series import Symbol
from backfill.store.pool import Connection

# The named ones come first, in their order; of the others of the instrument none has a number.
_PREFER: Final = """
    UPDATE symbols AS s
    SET listing_precedence = (
        SELECT n.place
        FROM unnest($2::symbol_id[]) WITH ORDINALITY AS n (symbol_id, place)
        WHERE n.symbol_id = s.id
    )
    WHERE s.id = $1 OR s.listing_of = $1
"""
# The sources of an instrument, as `ohlc_bars_composed` takes them; by the index on the listings.
_IN_ORDER: Final = """
    SELECT ticker::text AS ticker
    FROM symbols
    WHERE id = $1 OR listing_of = $1
    ORDER BY listing_precedence NULLS LAST, id <> $1, ticker::text COLLATE "C"
"""


async def prefer(connection: Connection, symbols: Sequence[Symbol]) -> list[str]:
    """Put sources of one instrument before its others; return the tickers of all, in their order.

    Those that aren't named follow in the order that all begin with: the plain symbol, then its
    listings by ticker.
    """
    first = symbols[0]
    plain = first.id if first.listing_of is None else first.listing_of
    await connection.execute(_PREFER, plain, [one.id for one in symbols])
    return [row["ticker"] for row in await connection.fetch(_IN_ORDER, plain)]
