"""What somebody may have meant by a ticker: of those that are known, or as a crypto pair.

>>> is_misspelled("aapl"), is_misspelled("BACpB"), is_misspelled("btc-usd")
(True, False, False)
>>> likely("aapl", ["AAPL", "MSFT"])
['AAPL']
>>> likely("APPL", ["AAPL", "APP", "APPN", "APPS", "MSFT"])
['AAPL', 'APP']
>>> likely("bitcoin", []), likely("BTC_USD", []), likely("BTCUSD", ["X:BTCUSD"])
(['X:BTCUSD'], ['X:BTCUSD'], [])
"""

from collections.abc import Collection
from difflib import get_close_matches
from itertools import groupby
from typing import Final

from backfill.core.instrument import Stock, read_instrument
from backfill.core.ticker import Ticker, spelling_of
from backfill.errors import UsageError

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
_MOST: Final = 2


def is_misspelled(ticker: str) -> bool:
    """Whether a ticker is surely none: that of a share, and without a capital letter."""
    try:
        body = Ticker.read(ticker).body
        return body.islower() and isinstance(read_instrument(body), Stock)
    except UsageError:
        return False


def hint(ticker: str, known: Collection[str]) -> str:
    """Return what a ticker may have been meant for as a question in brackets; nothing for nothing.

    >>> hint("APPL", ["AAPL", "MSFT"])
    ' (did you mean AAPL?)'
    """
    meant = likely(ticker, known)
    return f" (did you mean {' or '.join(meant)}?)" if meant else ""


def likely(ticker: str, known: Collection[str]) -> list[str]:
    """Return what a ticker may have been meant for, the likeliest first; none of them itself."""
    upper = ticker.upper()
    found = [pair] if (pair := _pair(upper)) else []
    if upper in known or (not found and upper != ticker):
        found.append(upper)
    close = get_close_matches(upper, set(known), n=len(known) or 1, cutoff=_ALIKE)
    found += sorted(close, key=lambda one: not _is_slip(upper, one))[:_MOST]
    same = spelling_of(ticker)
    return [one for one in dict.fromkeys(found) if spelling_of(one) != same]


def _is_slip(one: str, other: str) -> bool:
    """Whether two words differ in which letter is doubled, or in the order of their letters.

    >>> _is_slip("APPL", "AAPL"), _is_slip("TLSA", "TSLA"), _is_slip("APPL", "APPN")
    (True, True, False)
    """
    letters = [[letter for letter, _ in groupby(word)] for word in (one, other)]
    return letters[0] == letters[1] or sorted(one) == sorted(other)


def _pair(upper: str) -> str | None:
    """Return the pair in dollars that a coin, or coin and dollars in one word, may stand for."""
    code = _COINS.get(upper, upper)
    if code in _CODES:
        return f"X:{code}USD"
    if (coin := upper.removeprefix("X:")) in _CODES:
        return f"X:{coin}USD"
    coin = upper.removesuffix("USD").rstrip("-_")
    return f"X:{coin}USD" if coin != upper and coin in _CODES else None
