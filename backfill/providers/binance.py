"""Binance: spot klines, without a key.

Protocol: https://developers.binance.com/docs/binance-spot-api-docs/rest-api. ``startTime`` and
``endTime`` are inclusive epoch milliseconds of bars' starts; with both, the oldest bars of the
range come first. Days are UTC's, weeks start on Monday, months on the 1st: all as ours.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

import numpy as np

from backfill.core.asked import Asked
from backfill.core.capabilities import ALL, Capabilities
from backfill.core.instrument import Instrument, Pair, Stock, parted
from backfill.core.pages import BarsPerPage, Order
from backfill.core.series import Symbol
from backfill.core.terms import UNTOLD, Quota, Terms, Window
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.wire import Kind, Page, Reference, Request, Response
from backfill.errors import BadAnswer, NotEntitled
from backfill.providers.base import Keyless
from backfill.providers.binance_answers import Klines, klines_in, refuse_errors
from backfill.providers.rows import first_day_in

_PATH: Final = "/api/v3/klines"
_COST: Final = 2
_MOST: Final = 1000
_EARLIEST: Final = date(2017, 7, 14)

_QUOTES: Final = {
    *("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY"),
    *("ARS", "COP", "CZK", "MXN", "PLN", "RON", "UAH", "ZAR"),
}

_INTERVAL: Final = {
    Timeframe.m1: "1m",
    Timeframe.m5: "5m",
    Timeframe.m15: "15m",
    Timeframe.m30: "30m",
    Timeframe.h1: "1h",
    Timeframe.h4: "4h",
    Timeframe.d1: "1d",
    Timeframe.w1: "1w",
    Timeframe.mn1: "1M",
}
_LONGEST_MS: Final = {
    Timeframe.d1: DAY_MS,
    Timeframe.w1: 7 * DAY_MS,
    Timeframe.mn1: 31 * DAY_MS,
}


class Binance(Keyless):
    """The provider ``binance``: public, limited by address, refused from some countries."""

    name = "binance"
    base_url = "https://data-api.binance.vision"
    # A minute in which nobody traded comes as a bar without volume; only where the whole exchange
    # stood still there is none.
    can = Capabilities(
        feed="spot",
        native={"crypto": ALL},
        adjustments=("raw",),
        pages=BarsPerPage(_MOST, Order.oldest),
        fills_empty=True,
        cost=_COST,
        refuses_places=True,
    )
    example = "BTC/USDT"
    terms: Mapping[str, Terms] = Terms(
        "free", Quota((Window(6000, 60.0),)), UNTOLD, None, _EARLIEST
    ).with_unlimited()

    def spelling(self, instrument: Instrument) -> str:
        """Return the service's own spelling: ``BTC/USDT`` is ``BTCUSDT`` there."""
        match instrument:
            case Pair(base, quote):
                return base + quote
            case Stock():
                raise NotEntitled(f"binance has no shares: {instrument}")

    def instrument(self, spelling: str) -> Instrument | None:
        """Return the pair that a spelling of the service names; it has none in dollars."""
        return parted(spelling, _QUOTES)

    def bars(self, asked: Asked) -> Request:
        """Ask for the bars of a span of whole slots, no more than a page holds."""
        return self._request(
            asked.symbol,
            asked.timeframe,
            {
                "startTime": str(asked.span.start_ms),
                "endTime": str(asked.span.end_ms - 1),
                "limit": str(_MOST),
            },
        )

    def read_bars(self, response: Response, asked: Asked) -> Page:
        """Read klines; whose they are they don't say.

        Raises
        ------
        UnknownSymbol, GeoBlocked, RateLimited, ProviderError, UnreadableAnswer
            As the answer says.
        BadAnswer
            If they are longer than asked for.
        """
        refuse_errors(response)
        klines = klines_in(response.body)
        _refuse_longer(klines, asked.timeframe)
        return Page(bars=klines.bars, next=None, oddities=klines.oddities)

    def reference(self, symbol: Symbol) -> Request:
        """Ask for the first day that the service has of a pair: that is when it was listed."""
        return self._request(
            symbol, Timeframe.d1, {"startTime": "0", "limit": "1"}, kind=Kind.lookup
        )

    def read_reference(self, response: Response, symbol: Symbol) -> Reference:
        """Read a pair's first day.

        Raises
        ------
        UnknownSymbol
            If the service doesn't know the pair (-1121).
        BadAnswer
            If what comes can't be its first day.
        """
        refuse_errors(response)
        listed_on = first_day_in(klines_in(response.body).bars)
        return Reference(self.spelling(symbol.instrument), listed_on, None, figi=None)

    def _request(
        self,
        symbol: Symbol,
        timeframe: Timeframe,
        bounds: Mapping[str, str],
        kind: Kind = Kind.bars,
    ) -> Request:
        pair = {"symbol": self.spelling(symbol.instrument), "interval": _INTERVAL[timeframe]}
        return Request(_PATH, pair | dict(bounds), kind, _COST)


def _refuse_longer(klines: Klines, timeframe: Timeframe) -> None:
    """Refuse bars most of which say that they end later than bars of the timeframe do.

    One that ends earlier is of a slot in which the exchange stopped or began.
    """
    longest_ms = _LONGEST_MS.get(timeframe) or timeframe.length_ms
    longer = klines.lengths_ms > longest_ms
    if 2 * np.count_nonzero(longer) > len(longer):
        raise BadAnswer(f"bars longer than {timeframe} came for it")
