"""A ticker as somebody writes it: what it names, and whose bars of that, or of when.

``AAPL@alpaca`` is another venue's bars of AAPL, a symbol of its own, and so is another feed's,
``AAPL@alpaca-iex``; ``REUSE@2024-06-28`` the company that had the ticker until then, which is set
aside.
"""

import re
from contextlib import suppress
from datetime import date
from itertools import chain
from typing import Final, Self

from backfill.core.dataclass import dataclass
from backfill.core.instrument import read_instrument
from backfill.errors import UsageError

_PROVIDER: Final = re.compile(r"[a-z][a-z0-9]{0,30}(-[a-z0-9]{1,30})?")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Ticker:
    """A ticker in its parts: ``body[@YYYY-MM-DD][@provider]``."""

    body: str
    retired: date | None = None
    provider: str | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the parts of a ticker; what the body names is not looked at.

        Raises
        ------
        UsageError
            If what follows an ``@`` is neither a day nor a provider's name.

        >>> Ticker.read("BTC/USD@coinbase")
        Ticker(body='BTC/USD', retired=None, provider='coinbase')
        """
        body, *suffixes = text.split("@")
        retired = provider = None
        if suffixes and _DATE.fullmatch(suffixes[0]):
            retired = _day(text, suffixes.pop(0))
        if suffixes and _PROVIDER.fullmatch(suffixes[0]):
            provider = suffixes.pop(0)
        if suffixes:
            raise UsageError(
                f"{text!r}: after @ stands a provider (AAPL@alpaca), or the last day of a retired "
                "symbol (REUSE@2024-06-28)"
            )
        return cls(body, retired, provider)

    @property
    def plain(self) -> str:
        """The ticker of which this is another venue's; itself if it is none."""
        return f"{self.body}@{self.retired}" if self.retired else self.body

    def __str__(self) -> str:
        return f"{self.plain}@{self.provider}" if self.provider else self.plain


def spelling(ticker: str) -> str:
    """Return what all ways to write a ticker have in common; a symbol is listed under one of them.

    Raises
    ------
    UsageError
        If it is no ticker.

    >>> spelling("BTC-USD") == spelling("X:BTCUSD") == "BTC/USD"
    True
    """
    read = Ticker.read(ticker)
    return str(Ticker(str(read_instrument(read.body)), read.retired, read.provider))


def spelling_of(stored: str) -> str:
    """Return the `spelling` of a ticker that is stored, or itself where it has no valid form."""
    try:
        return spelling(stored)
    except UsageError:
        return stored


def stored_spellings(*tickers: str) -> list[str]:
    """Return what the column ``symbols.spelling`` may hold for those tickers, however written.

    >>> sorted(stored_spellings("BRK-B"))
    ['BRK-B', 'BRK.B']
    """
    return sorted(set(chain.from_iterable(map(_stored, tickers))))


def _stored(ticker: str) -> set[str]:
    forms = {ticker}
    with suppress(UsageError):  # a row may hold what nobody would be let write
        read = Ticker.read(ticker)
        others = read_instrument(read.body).forms
        forms.update(str(Ticker(one, read.retired, read.provider)) for one in others)
    return {f"X:{one.replace('/', '')}" if "/" in one else one for one in forms}


def _day(text: str, day: str) -> date:
    try:
        return date.fromisoformat(day)
    except ValueError:
        raise UsageError(f"{text!r}: {day} is no day") from None
