"""Binance: spot klines, without a key.

Protocol: https://developers.binance.com/docs/binance-spot-api-docs/rest-api. ``startTime`` and
``endTime`` are inclusive epoch milliseconds of bars' starts; with both, the oldest bars of the
range come first. Days are UTC's, weeks start on Monday, months on the 1st: all as ours.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

import numpy as np

from backfill.core.archive import Held
from backfill.core.asked import Asked
from backfill.core.capabilities import ALL, Capabilities
from backfill.core.instrument import Instrument, parted
from backfill.core.pages import BarsPerPage, Order
from backfill.core.series import Symbol
from backfill.core.terms import UNTOLD, Quota, Terms, Window
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.wire import Kind, Page, Reference, Request, Response
from backfill.errors import BadAnswer
from backfill.providers.base import Keyless
from backfill.providers.binance_answers import INTERVAL, Klines, klines_in, refuse_errors
from backfill.providers.binance_files import ARCHIVE, checksum_in, held_in, klines_of, path_of
from backfill.providers.rows import first_day_in
from backfill.providers.spellings import joined

_PATH: Final = "/api/v3/klines"
_COST: Final = 2
_MOST: Final = 1000
_EARLIEST: Final = date(2017, 7, 14)

_QUOTES: Final = {
    *("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY"),
    *("ARS", "COP", "CZK", "MXN", "PLN", "RON", "UAH", "ZAR"),
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
        archive=ARCHIVE,
    )
    archive_url = "https://data.binance.vision"
    archive_variable = "BINANCE_ARCHIVE_URL"
    archive_meaning = "where Binance's archive is: the files of whole months and days"
    example = "BTC/USDT"
    terms: Mapping[str, Terms] = Terms(
        "free", Quota((Window(6000, 60.0),)), UNTOLD, None, _EARLIEST
    ).with_unlimited()

    def spelling(self, instrument: Instrument) -> str:
        """Return the service's own spelling: ``BTC/USDT`` is ``BTCUSDT`` there."""
        return joined(self.name, instrument)

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
        return _page_of(klines_in(response.body), asked.timeframe)

    def checksum(self, asked: Asked, period: Timeframe) -> Request:
        """Ask for the checksum of a file."""
        return Request(f"{self.file(asked, period).target}.CHECKSUM", cost=0)

    def read_checksum(self, response: Response, asked: Asked, period: Timeframe) -> str:
        """Read the SHA-256 of a file, and see that it is that file's.

        Raises
        ------
        FileMissing, GeoBlocked, RateLimited, ProviderError
            As the answer says.
        BadAnswer
            If it is something else.
        """
        return checksum_in(response, self._path(asked, period))

    def file(self, asked: Asked, period: Timeframe) -> Request:
        """Ask for the file of a day or a month."""
        return Request(f"/{self._path(asked, period)}", cost=0)

    def read_file(self, response: Response, asked: Asked, period: Timeframe, checksum: str) -> Page:
        """Read a file, if its checksum is the one that was published.

        Raises
        ------
        FileMissing, GeoBlocked, RateLimited, ProviderError
            As the answer says.
        BadAnswer
            If it isn't what its checksum is of, or holds something else.
        """
        path = self._path(asked, period)
        return _page_of(klines_of(response, path, checksum, asked, period), asked.timeframe)

    def held_in(self, path: str) -> Held | None:
        """Return what a file of the archive holds, by its path."""
        return held_in(path)

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

    def _path(self, asked: Asked, period: Timeframe) -> str:
        return path_of(self.spelling(asked.symbol.instrument), asked, period)

    def _request(
        self,
        symbol: Symbol,
        timeframe: Timeframe,
        bounds: Mapping[str, str],
        kind: Kind = Kind.bars,
    ) -> Request:
        pair = {"symbol": self.spelling(symbol.instrument), "interval": INTERVAL[timeframe]}
        return Request(_PATH, pair | dict(bounds), kind, _COST)


def _page_of(klines: Klines, timeframe: Timeframe) -> Page:
    _refuse_longer(klines, timeframe)
    return Page(bars=klines.bars, next=None, oddities=klines.oddities)


def _refuse_longer(klines: Klines, timeframe: Timeframe) -> None:
    """Refuse bars most of which say that they end later than bars of the timeframe do.

    One that ends earlier is of a slot in which the exchange stopped or began.
    """
    longest_ms = _LONGEST_MS.get(timeframe) or timeframe.length_ms
    longer = klines.lengths_ms > longest_ms
    if 2 * np.count_nonzero(longer) > len(longer):
        raise BadAnswer(f"bars longer than {timeframe} came for it")
