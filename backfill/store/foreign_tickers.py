"""The tickers of another system: which of them name one instrument, and what isn't fetched."""

from typing import Final

from backfill.core.instrument import read_instrument
from backfill.core.ticker import spelling_of
from backfill.errors import UsageError
from backfill.store.foreign import TRADED
from backfill.store.pool import Connection

_TOLD: Final = 5
_PAIRS: Final = {"crypto": "X:BTCUSD or BTC/USD", "fx": "C:EURUSD or EUR/USD"}

# Every ticker of the other system; a scan of all symbols.
_TICKERS_SQL: Final = """
    SELECT ticker::text AS ticker FROM symbols WHERE ticker IS NOT NULL ORDER BY ticker
"""


async def collision(connection: Connection) -> str | None:
    """Return which tickers of the other system name one instrument, if any do, and what mends it.

    Bars of one instrument in two symbols would be fetched twice, and split between them.
    """
    named: dict[str, list[str]] = {}
    for row in await connection.fetch(_TICKERS_SQL):
        named.setdefault(spelling_of(row["ticker"]), []).append(row["ticker"])
    twice = [" and ".join(tickers) for tickers in named.values() if len(tickers) > 1]
    if not twice:
        return None
    return (
        f"symbols holds one instrument under several tickers: {'; '.join(twice[:_TOLD])}"
        f"{f' and {len(twice) - _TOLD} more' if len(twice) > _TOLD else ''}. Keep one row of each"
    )


def set_aside_for(ticker: str, asset_type: str) -> str | None:
    """Return why nothing is fetched for a symbol of the other system; None if it is."""
    if asset_type not in TRADED:
        return f"{asset_type}s are not fetched: only stocks, crypto pairs and fx are"
    try:
        read = read_instrument(ticker)
    except UsageError:
        read = None
    if asset_type in _PAIRS and (read is None or read.asset_type == "stock"):
        return f"not spelled as a pair: {_PAIRS[asset_type]}"
    if read is None:
        return "not spelled as a ticker: AAPL or BRK.B"
    if read.asset_type != asset_type:
        return f"its ticker names {read} ({read.asset_type}), and it is a {asset_type}"
    return None
