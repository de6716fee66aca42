"""Coinbase Exchange: candles of its products, at most 300 a request, both bounds inclusive.

Protocol: https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products. A row is
``[time, low, high, open, close, volume]``, newest first; slots without trades are left out. What
has bars was answered with none about one time in five in 2018 (danpaquin/coinbasepro-python#338).
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final
from urllib.parse import quote as quoted

import msgspec

from backfill.core.asked import Asked
from backfill.core.bars import Bars
from backfill.core.capabilities import Capabilities
from backfill.core.instrument import Instrument, Pair
from backfill.core.pages import BarsPerPage, Order
from backfill.core.terms import UNTOLD, Quota, Terms, Window
from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS, Timeframe
from backfill.core.wire import Page, Request, Response
from backfill.errors import BadAnswer, UnknownSymbol
from backfill.providers.base import Keyless, spelled
from backfill.providers.bodies import decoded, decoded_or
from backfill.providers.refusals import refuse_status
from backfill.providers.rows import Places, read_rows

_MOST: Final = 300
_PLACES: Final = Places(open=3, high=2, low=1, close=4, volume=5)
_ROWS: Final = msgspec.json.Decoder(list[list[msgspec.Raw]])
_STEP_MS: Final = {
    Timeframe.m1: MINUTE_MS,
    Timeframe.m5: 5 * MINUTE_MS,
    Timeframe.m15: 15 * MINUTE_MS,
    Timeframe.h1: HOUR_MS,
    Timeframe.d1: DAY_MS,
}
# BTC-USD, the oldest product, trades since then.
_EARLIEST: Final = date(2015, 7, 20)


class _Refusal(msgspec.Struct):
    message: str = ""


_REFUSAL: Final = msgspec.json.Decoder(_Refusal)


class Coinbase(Keyless):
    """The provider ``coinbase``: the exchange's public market data, which takes no key."""

    name = "coinbase"
    base_url = "https://api.exchange.coinbase.com"
    can = Capabilities(
        feed="spot",
        native={"crypto": frozenset(_STEP_MS)},
        adjustments=("raw",),
        # As asked for here: no request may hold more, and each is answered by one page.
        pages=BarsPerPage(_MOST, Order.oldest),
        doubts_empty=True,
        refuses_places=True,
    )
    example = "BTC/USD"
    terms: Mapping[str, Terms] = Terms(
        "free", Quota((Window(10, 1.0),)), UNTOLD, None, _EARLIEST
    ).with_unlimited()

    def spelling(self, instrument: Instrument) -> str:
        """Return the product: ``BTC/USD`` is ``BTC-USD`` there."""
        match instrument:
            case Pair(base, quote) if quote:
                return f"{base}-{quote}"
        return str(instrument)

    def instrument(self, spelling: str) -> Instrument | None:
        """Return the pair that a product is of."""
        base, dash, quote = spelling.partition("-")
        return Pair(base, quote) if dash else None

    def bars(self, asked: Asked) -> Request:
        """Ask for the candles up to the end of a span, as many as a page holds.

        More than were asked for cost no call more, and tell a market that was silent for a while
        from an answer that came without its candles.
        """
        step_ms = _STEP_MS[asked.timeframe]
        last_ms = asked.span.end_ms - step_ms
        return Request(
            f"/products/{quoted(spelled(self, asked.symbol.instrument), safe='')}/candles",
            {
                "granularity": str(step_ms // 1000),
                "start": _iso(last_ms - (_MOST - 1) * step_ms),
                "end": _iso(last_ms),
            },
        )

    def read_bars(self, response: Response, asked: Asked) -> Page:
        """Read candles; those from before the span are left out.

        Raises
        ------
        UnknownSymbol
            If there is no such product (404).
        RateLimited, GeoBlocked, ProviderError, UnreadableAnswer
            As the answer says.
        BadAnswer
            If it holds candles of another range.
        """
        _refuse(response)
        rows = decoded(_ROWS, response.body)
        bars, oddities = read_rows(rows, _PLACES)
        return Page(
            bars=_within(bars, asked),
            next=None,
            oddities=oddities,
            unconfirmed=not len(bars),
        )


def _refuse(response: Response) -> None:
    """Raise the outcome that an answer other than 200 names."""
    if response.status == 200:
        return
    said = decoded_or(_REFUSAL, response.body, _Refusal()).message.strip()
    if response.status == 404 and said == "NotFound":
        raise UnknownSymbol("the provider has no such product")
    refuse_status(response, said)


def _within(bars: Bars, asked: Asked) -> Bars:
    """Leave out what may come from before the span, and refuse a page that is of another range."""
    if not len(bars):
        return bars
    start_ms, end_ms = asked.span
    page_ms = _MOST * _STEP_MS[asked.timeframe]
    first_ms = min(start_ms, end_ms - page_ms) - page_ms
    if not first_ms <= bars.ts_ms.min() < end_ms:
        raise BadAnswer("the candles are of another range, or not stamped in epoch seconds")
    return bars.take(bars.ts_ms >= start_ms)


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
