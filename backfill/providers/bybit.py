"""Bybit: spot klines, without a key.

Protocol: https://bybit-exchange.github.io/docs/v5/market/kline. ``start`` and ``end`` are epoch
milliseconds; bars come newest first, all as texts. Which end of a longer range is cut isn't
documented, so no more is asked for than a page holds. Without ``category`` the bars would be a
perpetual's. Refusals come with status 200.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Final

import msgspec

from backfill.core.asked import Asked
from backfill.core.bars import Bars
from backfill.core.capabilities import ALL, Capabilities
from backfill.core.instrument import QUOTES, Instrument, parted
from backfill.core.pages import BarsPerPage, Order
from backfill.core.raw import Oddities
from backfill.core.series import Symbol
from backfill.core.terms import UNTOLD, Quota, Terms, Window
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Kind, Page, Reference, Request, Response
from backfill.errors import (
    BadAnswer,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    UnknownSymbol,
)
from backfill.providers.base import Keyless
from backfill.providers.bodies import decoded
from backfill.providers.refusals import refuse_status, refused_place
from backfill.providers.retry_after import retry_after_s
from backfill.providers.rows import Places, first_day_in, read_rows, with_paid
from backfill.providers.spellings import joined

_MOST: Final = 1000
_CATEGORY: Final = "spot"
_PLACES: Final = Places(open=1, high=2, low=3, close=4, volume=5)
_PAID: Final = 6
_FREE: Final = Terms("free", Quota((Window(600, 5.0),)), UNTOLD, None, date(2021, 7, 5))
_BAN_S: Final = 600.0
_INVALID, _TOO_MANY, _BUSY = 10001, 10006, {10000, 10016}

_INTERVAL: Final = {
    Timeframe.m1: "1",
    Timeframe.m5: "5",
    Timeframe.m15: "15",
    Timeframe.m30: "30",
    Timeframe.h1: "60",
    Timeframe.h4: "240",
    Timeframe.d1: "D",
    Timeframe.w1: "W",
    Timeframe.mn1: "M",
}


class _Result(msgspec.Struct):
    category: str = ""
    symbol: str = ""
    rows: list[list[msgspec.Raw]] | None = msgspec.field(name="list", default=None)


class _Answer(msgspec.Struct):
    code: int = msgspec.field(name="retCode")
    said: str = msgspec.field(name="retMsg", default="")
    result: _Result = msgspec.field(default_factory=_Result)


_ANSWER: Final = msgspec.json.Decoder(_Answer)


class Bybit(Keyless):
    """The provider ``bybit``: public, limited by address, refused from some countries."""

    name = "bybit"
    base_url = "https://api.bybit.com"
    can = Capabilities(
        feed="spot",
        native={"crypto": ALL},
        adjustments=("raw",),
        pages=BarsPerPage(_MOST, Order.oldest),
        fills_empty=True,
        refuses_places=True,
    )
    example = "BTC/USDT"
    terms: Mapping[str, Terms] = _FREE.with_unlimited()

    def spelling(self, instrument: Instrument) -> str:
        """Return the service's own spelling: ``BTC/USDT`` is ``BTCUSDT`` there."""
        return joined(self.name, instrument)

    def instrument(self, spelling: str) -> Instrument | None:
        """Return the pair that a spelling of the service names; it has none in dollars."""
        return parted(spelling, QUOTES - {"USD"})

    def bars(self, asked: Asked) -> Request:
        """Ask for the bars of a span of whole slots, no more than a page holds."""
        span = asked.span
        bounds = {"start": str(span.start_ms), "end": str(span.end_ms - 1), "limit": str(_MOST)}
        return self._request(asked.symbol, asked.timeframe, bounds)

    def read_bars(self, response: Response, asked: Asked) -> Page:
        """Read klines.

        Raises
        ------
        UnknownSymbol, GeoBlocked, RateLimited, ProviderError, UnreadableAnswer
            As the answer says.
        BadAnswer
            If they are another symbol's, or of another category.
        """
        bars, oddities = self._read(response, asked.symbol)
        return Page(bars=bars, next=None, oddities=oddities)

    def reference(self, symbol: Symbol) -> Request:
        """Ask for the first day that the service has of a pair: that is when it was listed."""
        first = {"start": "9999", "limit": "1"}
        return self._request(symbol, Timeframe.d1, first, Kind.lookup)

    def read_reference(self, response: Response, symbol: Symbol) -> Reference:
        """Read a pair's first day.

        Raises
        ------
        BadAnswer
            If what comes can't be its first day; else as `read_bars` does.
        """
        listed_on = first_day_in(self._read(response, symbol)[0])
        return Reference(self.spelling(symbol.instrument), listed_on, None, figi=None)

    def _request(
        self,
        symbol: Symbol,
        timeframe: Timeframe,
        bounds: Mapping[str, str],
        kind: Kind = Kind.bars,
    ) -> Request:
        pair = {"category": _CATEGORY, "symbol": self.spelling(symbol.instrument)}
        interval = {"interval": _INTERVAL[timeframe]}
        return Request("/v5/market/kline", {**pair, **interval, **bounds}, kind)

    def _read(self, response: Response, symbol: Symbol) -> tuple[Bars, Oddities]:
        _refuse(response)
        answer = decoded(_ANSWER, response.body)
        _refuse_code(answer, retry_after_s(response.headers))
        of, result = (_CATEGORY, self.spelling(symbol.instrument)), answer.result
        if (result.category, result.symbol) != of or result.rows is None:
            raise BadAnswer(f"bars of {result.category} {result.symbol!r} came for {symbol.ticker}")
        bars, oddities = read_rows(result.rows, _PLACES, unit_ms=1)
        return with_paid(bars, oddities, result.rows, _PAID), oddities


def _refuse(response: Response) -> None:
    """Raise the outcome that a status other than 200 names; a 403 is told by its words."""
    if response.status == 403 and re.search(rb"from your country", response.body):
        raise refused_place(403, "")
    if response.status == 403 and re.search(rb"too frequent", response.body):
        wait_s = retry_after_s(response.headers)
        raise RateLimited("the provider banned this address (403)", wait_s or _BAN_S)
    refuse_status(response, "")


def _refuse_code(answer: _Answer, wait_s: float | None) -> None:
    """Raise the outcome that an answer with status 200 names."""
    code, said = answer.code, f"{answer.said.strip()} ({answer.code})"
    if code == _TOO_MANY:
        raise RateLimited(f"the provider asked to slow down: {said}", wait_s)
    if code == _INVALID and "symbol" in answer.said.lower():
        raise UnknownSymbol(f"bybit doesn't know this pair: {said}")
    if code in _BUSY:
        raise ProviderUnavailable(f"the provider answered {said}")
    if code:
        raise ProviderError(f"the provider answered {said}")
