"""What somebody may have meant by a ticker: of those that are known, or as a crypto pair.

>>> likely("aapl", ["AAPL", "MSFT"])
['AAPL']
>>> likely("APPL", ["AAPL", "MSFT"])
['AAPL']
>>> likely("bitcoin", []), likely("BTC_USD", []), likely("BTCUSD", ["X:BTCUSD"])
(['X:BTCUSD'], ['X:BTCUSD'], [])
"""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

from backfill.core.ticker import spelling_of

_COINS: Final = {
    "BITCOIN": "BTC",
    "ETHEREUM": "ETH",
    "ETHER": "ETH",
    "SOLANA": "SOL",
    "LITECOIN": "LTC",
    "DOGECOIN": "DOGE",
    "CARDANO": "ADA",
    "RIPPLE": "XRP",
}
_CODES: Final = frozenset(_COINS.values())
_ALIKE: Final = 0.7
"""Of four letters one may be another, or two may have changed places."""


def likely(ticker: str, known: Collection[str]) -> list[str]:
    """Return what a ticker may have been meant for, the likeliest first; none of them itself."""
    upper = ticker.upper()
    found = [pair] if (pair := _pair(upper)) else []
    if upper in known or (not found and upper != ticker):
        found.append(upper)
    found += get_close_matches(upper, list(known), n=2, cutoff=_ALIKE)
    same = spelling_of(ticker)
    return [one for one in dict.fromkeys(found) if spelling_of(one) != same]


def _pair(upper: str) -> str | None:
    """Return the pair in dollars that a coin, or coin and dollars in one word, may stand for."""
    code = _COINS.get(upper, upper)
    if code in _CODES:
        return f"X:{code}USD"
    coin = upper.removesuffix("USD").rstrip("-_")
    return f"X:{coin}USD" if coin != upper and coin in _CODES else None
