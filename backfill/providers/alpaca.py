"""Alpaca: bars of US stocks from all exchanges, and of coins at its own venue.

Protocol: https://docs.alpaca.markets/reference/stockbars. ``start`` and ``end`` are inclusive
instants of bars' starts; without ``limit`` a page holds a thousand bars. A page of coins holds as
many as the service likes: only a page without a token is the last one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Final
from urllib.parse import quote as quoted

import numpy as np

from backfill.core.asked import Asked
from backfill.core.capabilities import Capabilities
from backfill.core.coverage import Span
from backfill.core.instrument import Instrument, Pair, Stock
from backfill.core.pages import BarsPerPage, PerMarket, ServerSized
from backfill.core.series import Symbol
from backfill.core.terms import UNTOLD, Quota, Settling, Terms, Window
from backfill.core.timeframe import HOUR_MS, MINUTE_MS, Timeframe
from backfill.core.wire import GroupedDay, Kind, Page, Reference, Request, Response
from backfill.errors import BadAnswer, NotEntitled, Unauthorised, UnknownSymbol
from backfill.providers.alpaca_answers import (
    Answer,
    answer_in,
    asset_in,
    message_in,
    refuse_errors,
    symbol_in,
)
from backfill.providers.spellings import by_slash

MOST: Final = 10_000
# Of pages of hours 126 to 420 bars were seen (ccxt/ccxt#30095).
_COINS: Final = ServerSized(MOST, fewest=120, usual=420)
DELAYED: Final = Settling(intraday_ms=(15 + 2) * MINUTE_MS, daily_ms=HOUR_MS)
_STOCKS_SINCE: Final = date(2016, 1, 1)
BASIC: Final = Quota((Window(200, 60.0),))
PLUS: Final = Quota((Window(10_000, 60.0),))

# No bound is known; the address stays short.
_AT_ONCE: Final = 200

_TIMEFRAME: Final = {
    Timeframe.m1: "1Min",
    Timeframe.m5: "5Min",
    Timeframe.m15: "15Min",
    Timeframe.m30: "30Min",
    Timeframe.h1: "1Hour",
    Timeframe.d1: "1Day",
}
# Where its hours of four, weeks and months begin no recorded answer shows.
NATIVE: Final = frozenset(_TIMEFRAME)


class Alpaca:
    """The provider ``alpaca``. Plans: https://alpaca.markets/data."""

    name = "alpaca"
    asked_feed = "sip"
    """What the service calls the feed."""
    base_url = "https://data.alpaca.markets"
    can = Capabilities(
        feed="sip",
        native={"stock": NATIVE, "crypto": NATIVE},
        adjustments=("raw", "split"),
        pages=PerMarket(exchange=BarsPerPage(MOST), always_open=_COINS),
    )
    key_variables: tuple[tuple[str, ...], ...] = (("APCA_API_KEY_ID",), ("APCA_API_SECRET_KEY",))
    keys_at = "https://app.alpaca.markets"
    other_url = "https://api.alpaca.markets"
    other_variable = "APCA_API_BASE_URL"
    other_meaning = (
        "Alpaca's trading host, which tells whether a symbol exists; keys of a paper account need "
        "`https://paper-api.alpaca.markets`"
    )
    example = "AAPL"
    # The free plan reads all exchanges' trades once they are fifteen minutes old; coins at once.
    terms: Mapping[str, Terms] = {
        "free": replace(
            Terms("free", BASIC, DELAYED, None, _STOCKS_SINCE),
            classes={"crypto": Terms("free", BASIC, UNTOLD, None, _STOCKS_SINCE)},
        ),
        "plus": Terms("plus", PLUS, UNTOLD, None, _STOCKS_SINCE),
        "unlimited": Terms("unlimited", Quota(), UNTOLD, None, _STOCKS_SINCE),
    }
    plan_classes: Mapping[str, tuple[str, ...]] = {}
    most_grouped: int | None = _AT_ONCE
    most_symbols = _AT_ONCE

    def headers(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the headers that carry the key's id and its secret."""
        key_id, secret = keys
        return {"APCA-API-KEY-ID": key_id, "APCA-API-SECRET-KEY": secret}

    def spelling(self, instrument: Instrument) -> str:
        """Return the service's own spelling, which is ours: ``BRK.B``, ``BTC/USD``."""
        match instrument:
            case Stock():
                return str(instrument)
            case Pair(base, quote) if quote and instrument.asset_type == "crypto":
                return f"{base}/{quote}"
            case _:
                raise NotEntitled(f"alpaca has US stocks and coins only: {instrument} is neither")

    def instrument(self, spelling: str) -> Instrument | None:
        """Return what a spelling of the service names."""
        return by_slash(spelling)

    def bars(self, asked: Asked) -> Request:
        """Ask for the bars of a span of whole slots, newest first."""
        symbol, span = asked.symbol, asked.span
        parameters = {
            "symbols": self.spelling(symbol.instrument),
            "timeframe": _TIMEFRAME[asked.timeframe],
            "start": _iso(span.start_ms),
            "end": _iso(span.end_ms - 1),
            "limit": str(MOST),
            "sort": "desc",
        }
        if symbol.asset_type == "crypto":
            return Request("/v1beta3/crypto/us/bars", parameters)
        stocks = {"adjustment": asked.adjustment, "feed": self.asked_feed}
        named_on = _named_on(symbol)
        as_of = {"asof": named_on.isoformat()} if named_on else {}
        return Request("/v2/stocks/bars", parameters | stocks | as_of)

    def read_bars(self, response: Response, asked: Asked) -> Page:
        """Read a page of bars; a symbol without any isn't in it.

        Raises
        ------
        Unauthorised, NotEntitled, UnknownSymbol, RateLimited, ProviderError, UnreadableAnswer
            As the answer says.
        BadAnswer
            If it holds another symbol's bars, or goes on with another symbol.
        """
        refuse_errors(response)
        symbol = self.spelling(asked.symbol.instrument)
        answer = answer_in(response.body)
        if others := set(answer.symbols) - {symbol}:
            raise BadAnswer(f"bars of {', '.join(sorted(others))} came for {symbol}")
        if answer.token is None:
            return Page(answer.bars, next=None, oddities=answer.oddities)
        if (other := symbol_in(answer.token)) not in {None, symbol}:
            raise BadAnswer(f"the page after one of {symbol} is said to be of {other}")
        request = self.bars(asked)
        following = replace(request, params={**request.params, "page_token": answer.token})
        return Page(answer.bars, next=following, oddities=answer.oddities)

    def many(self, asked: Sequence[Asked]) -> Request:
        """Ask for the bars of several stocks, from where the first span begins to the last end.

        They come by symbol and then by time, and ``limit`` counts those of all.
        """
        alike = self.bars(asked[0])
        spans = [one.span for one in asked]
        return replace(
            alike,
            params={
                **alike.params,
                "symbols": ",".join(self.spelling(one.symbol.instrument) for one in asked),
                "start": _iso(min(one.start_ms for one in spans)),
                "end": _iso(max(one.end_ms for one in spans) - 1),
            },
        )

    def read_many(self, response: Response, asked: Sequence[Asked]) -> list[Page | None]:
        """Read the bars of several stocks; one that isn't in the only page had none.

        Pages are in the order of symbols, so where another one follows those are whole that came
        before the symbol with which it goes on. Of one that didn't come nothing is said then.

        Raises
        ------
        Unauthorised, NotEntitled, UnknownSymbol, RateLimited, ProviderError, UnreadableAnswer
            As the answer says.
        BadAnswer
            If it holds another symbol's bars.
        """
        refuse_errors(response)
        answer = answer_in(response.body)
        named = [self.spelling(one.symbol.instrument) for one in asked]
        if others := set(answer.symbols) - set(named):
            raise BadAnswer(f"bars of {', '.join(sorted(others))} came for others")
        whole = set(named) if answer.token is None else _before(answer)
        rows: dict[str, list[int]] = {name: [] for name in named}
        for row, name in enumerate(answer.symbols):
            rows[name].append(row)
        hull = Span(min(one.span.start_ms for one in asked), max(one.span.end_ms for one in asked))
        return [
            _part(answer, rows[name], one.span, hull) if name in whole else None
            for name, one in zip(named, asked, strict=True)
        ]

    def grouped(self, day: date, adjustment: str, tickers: Sequence[str]) -> Request:
        """Ask for the d1 bars of a session of some tickers, of whoever had them on that day."""
        return Request(
            "/v2/stocks/bars",
            {
                "symbols": ",".join(tickers),
                "timeframe": _TIMEFRAME[Timeframe.d1],
                "start": f"{day}T00:00:00Z",
                "end": f"{day}T23:59:59Z",
                "limit": str(MOST),
                "sort": "desc",
                "adjustment": adjustment,
                "feed": self.asked_feed,
                "asof": day.isoformat(),
            },
        )

    def read_grouped(self, response: Response, adjustment: str) -> GroupedDay:  # noqa: ARG002
        """Read a session's bars; of what another page holds each symbol's own request will tell.

        Raises
        ------
        Unauthorised, NotEntitled, UnknownSymbol, RateLimited, ProviderError, UnreadableAnswer
            As the answer says.
        """
        refuse_errors(response)
        answer = answer_in(response.body)
        return GroupedDay(answer.symbols, answer.bars, oddities=answer.oddities)

    def reference(self, symbol: Symbol) -> Request:
        """Ask the trading host whether a symbol exists."""
        spelling = quoted(self.spelling(symbol.instrument), safe="")
        return Request(f"/v2/assets/{spelling}", kind=Kind.lookup, at_other=True)

    def read_reference(self, response: Response, symbol: Symbol) -> Reference:
        """Read an asset: that it exists is all that is told, no date and no FIGI.

        Raises
        ------
        UnknownSymbol
            If the service has no such asset (404).
        Unauthorised
            If the trading host refused the keys: those of a paper account have a host of their own.
        BadAnswer
            If it is another asset.
        """
        if response.status == 404 and "asset not found" in message_in(response):
            raise UnknownSymbol("alpaca has no asset of this name")
        try:
            refuse_errors(response)
        except Unauthorised as error:
            raise Unauthorised(
                f"{error}: at the trading host. Keys of a paper account need "
                f"{self.other_variable}=https://paper-api.alpaca.markets"
            ) from None
        asset, spelling = asset_in(response.body), self.spelling(symbol.instrument)
        if asset.symbol != spelling:
            raise BadAnswer(f"the asset {asset.symbol!r} came for {spelling}")
        return Reference(spelling, None, None, figi=None)


def _before(answer: Answer) -> set[str]:
    """Return the symbols of a page that come before the one with which the next page goes on."""
    goes_on = symbol_in(answer.token) if answer.token else None
    came = set(answer.symbols)
    if goes_on is None or max(came, default="") > goes_on:
        return set()
    return {one for one in came if one < goes_on}


def _part(answer: Answer, rows: Sequence[int], span: Span, hull: Span) -> Page:
    """Return one symbol's part of an answer, but for what only others were asked for."""
    bars = answer.bars.take(np.array(rows, np.int64))
    at_ms = bars.ts_ms
    is_others = (at_ms >= hull.start_ms) & (at_ms < hull.end_ms)
    is_others &= (at_ms < span.start_ms) | (at_ms >= span.end_ms)
    return Page(bars.take(~is_others), next=None, oddities=answer.oddities)


def _named_on(symbol: Symbol) -> date | None:
    """Return a day on which a company had the ticker that it is asked under; None for today.

    The service follows a company through its names, from whoever had the ticker on that day: META
    of a day before 2022-06-09 is another's fund.
    """
    for alias in symbol.aliases:
        if alias.ticker == symbol.ticker:
            return alias.valid_until - timedelta(days=1)
    return symbol.last_day or symbol.retired_on


def _iso(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"
