"""Symbols, series, and what is known of a series before a run."""

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, NamedTuple

from backfill.core.calendar import ALWAYS_OPEN
from backfill.core.coverage import Span, Spans
from backfill.core.timeframe import Timeframe
from backfill.errors import UsageError

_PAIR: Final = re.compile(r"[A-Z0-9]{2,10}/[A-Z]{3,5}")
_TICKER: Final = re.compile(r"[A-Za-z0-9]+([.:/_-][A-Za-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol as the table ``symbols`` holds it; ``confirmed`` once a provider has known it."""

    id: int
    ticker: str
    asset_type: str
    calendar: str
    listed_on: date | None = None
    delisted_on: date | None = None
    confirmed: bool = False
    reference_at: datetime | None = None


class Series(NamedTuple):
    """One symbol × one timeframe."""

    symbol: Symbol
    timeframe: Timeframe

    @property
    def key(self) -> tuple[int, Timeframe]:
        """The key of the series in every table."""
        return self.symbol.id, self.timeframe


@dataclass(frozen=True, slots=True)
class Source:
    """Where a series' bars come from; bars of two sources never share a series (R1)."""

    provider: str
    feed: str
    adjustment: str
    derived_from: Timeframe | None = None

    def __str__(self) -> str:
        derived = f", derived from {self.derived_from}" if self.derived_from else ""
        return f"{self.provider}/{self.feed}/{self.adjustment}{derived}"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the ledger knows of a series; a series never seen has the defaults.

    ``wanted_from_ms`` is how deep its first load meant to go. ``denied`` is a range that the plan
    refused and that isn't asked again until the refusal expires. ``invalidated`` is what a reload
    or a repair took out of the coverage, ``expired`` what was found empty and may be asked again.
    """

    source: Source | None = None
    coverage: Spans = field(default_factory=Spans)
    invalidated: Spans = field(default_factory=Spans)
    expired: Spans = field(default_factory=Spans)
    wanted_from_ms: int | None = None
    oldest_bar_ms: int | None = None
    newest_bar_ms: int | None = None
    denied: Span | None = None
    denied_until_ms: int | None = None


def ticker_traits(ticker: str) -> tuple[str, str]:
    """Return the asset type and calendar that a ticker's form implies.

    ``X:BTCUSD`` and ``BTC/USD`` are crypto; a ticker without a market prefix is a US equity.

    Raises
    ------
    UsageError
        If it is no ticker, or of a market that isn't kept (options, indices, currencies).

    >>> ticker_traits("BRK.B")
    ('stock', 'XNYS')
    >>> ticker_traits("X:BTCUSD")
    ('crypto', '24/7')
    """
    if len(ticker) > 32 or not _TICKER.fullmatch(ticker):
        raise UsageError(f"{ticker!r} is not a symbol: expected a form like AAPL, BRK.B, X:BTCUSD")
    market, colon, _ = ticker.partition(":")
    if colon and market != "X":
        raise UsageError(f"{ticker!r}: only stocks (AAPL) and crypto (X:BTCUSD) are kept")
    if colon or _PAIR.fullmatch(ticker):
        return "crypto", ALWAYS_OPEN
    if "/" in ticker:
        raise UsageError(f"{ticker!r} is no pair such as BTC/USD; a share class is written BRK.B")
    return "stock", "XNYS"
