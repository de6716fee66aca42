"""Twelve Data: US stocks in their regular session, currencies and coins, paid for in credits.

Protocol: https://twelvedata.com/docs. A bar is stamped with its start by a clock on a wall, its
day with a date. A range is answered with its newest 5,000 bars, so no more are asked for at once.
Whether ``end_date`` is inclusive isn't known: it is set where both readings mean the same. Hours of
stocks are counted from the open, and how it counts days, weeks and months of anything else no
recorded answer shows.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from backfill.core.asked import Asked
from backfill.core.bars import Bars
from backfill.core.capabilities import Capabilities
from backfill.core.instrument import Instrument, Pair, Stock
from backfill.core.pages import BarsPerPage, Order
from backfill.core.terms import UNTOLD, Quota, Terms, Window
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Page, Request, Response
from backfill.errors import NotEntitled
from backfill.providers.base import spelled
from backfill.providers.spellings import by_slash
from backfill.providers.twelvedata_answers import (
    bars_in,
    check_meta,
    is_without_bars,
    refuse_errors,
    series_in,
)

_INTERVAL: Final = {
    Timeframe.m1: "1min",
    Timeframe.m5: "5min",
    Timeframe.m15: "15min",
    Timeframe.m30: "30min",
    Timeframe.h1: "1h",
    Timeframe.d1: "1day",
}
_MINUTES: Final = frozenset({Timeframe.m1, Timeframe.m5, Timeframe.m15, Timeframe.m30})
_MOST: Final = 5_000
_SINCE: Final = date(2020, 2, 10)
"""From when on it has minutes; of longer ones of the day nothing else is known."""
_EARLIEST: Final = date(1980, 1, 1)
_QUOTA: Final = Quota((Window(8, 60.0), Window(800, 86_400.0)))


class TwelveData:
    """The provider ``twelvedata``. Plans: https://twelvedata.com/pricing."""

    # A batch of n symbols costs n credits, and so saves none: each symbol is asked for by itself.
    name = "twelvedata"
    base_url = "https://api.twelvedata.com"
    can = Capabilities(
        feed="time_series",
        native={
            "stock": _MINUTES | {Timeframe.d1},
            "crypto": _MINUTES | {Timeframe.h1},
            "fx": _MINUTES | {Timeframe.h1},
        },
        adjustments=("raw",),
        daily_adjustments=("split",),
        # One more than what is asked for may come.
        pages=BarsPerPage(_MOST - 1, Order.oldest),
        doubts_empty=True,
        insists=False,
        reach=dict.fromkeys((*_MINUTES, Timeframe.h1), _SINCE),
    )
    key_variables: tuple[tuple[str, ...], ...] = (("TWELVEDATA_API_KEY",),)
    keys_at = "https://twelvedata.com/account/api-keys"
    example = "AAPL"
    terms: Mapping[str, Terms] = Terms("free", _QUOTA, UNTOLD, None, _EARLIEST).with_unlimited()
    plan_classes: Mapping[str, tuple[str, ...]] = {}

    def headers(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the ``Authorization`` header: the key never travels in a URL."""
        [key] = keys
        return {"Authorization": f"apikey {key}"}

    def spelling(self, instrument: Instrument) -> str:
        """Return the service's own spelling: ``EUR/USD``, ``BTC/USD``, ``BRK.B``."""
        match instrument:
            case Stock():
                return str(instrument)
            case Pair(base, quote) if quote:
                return f"{base}/{quote}"
            case _:
                raise NotEntitled(f"twelvedata is asked for BASE/QUOTE, and not {instrument}")

    def instrument(self, spelling: str) -> Instrument | None:
        """Return what a spelling of the service names."""
        return by_slash(spelling)

    def bars(self, asked: Asked) -> Request:
        """Ask for the bars of a span of whole slots, oldest first, by the clock that they tell.

        A day more is asked for than the days of a span, and a second more than the start of its
        last bar: so that is in the answer, and no other after it, whichever way its end is read.
        """
        grid, span = asked.calendar.grid(asked.timeframe), asked.span
        first_ms = grid.start_of(grid.index_from(span.start_ms))
        last_ms = grid.start_of(grid.index_from(span.end_ms) - 1)
        intraday = asked.timeframe.is_intraday
        if intraday:
            zone = asked.calendar.zone if asked.symbol.is_share else UTC
            start, end = (
                datetime.fromtimestamp(at_ms / 1000, zone).strftime("%Y-%m-%d %H:%M:%S")
                for at_ms in (first_ms, last_ms + 1000)
            )
        else:
            start = asked.calendar.day_of(first_ms).isoformat()
            end = (asked.calendar.day_of(last_ms) + timedelta(days=1)).isoformat()
        parameters = {
            "symbol": spelled(self, asked.symbol.instrument),
            "interval": _INTERVAL[asked.timeframe],
            "start_date": start,
            "end_date": end,
            "outputsize": str(_MOST),
            "order": "asc",
            "adjust": _adjust(asked.adjustment),
        }
        return Request("/time_series", parameters | ({} if asked.symbol.is_share else _BY_UTC))

    def read_bars(self, response: Response, asked: Asked) -> Page:
        """Read the bars of an answer, less those that lie beyond what was asked for.

        One without bars comes as an error, and proves nothing: bars were there where it said so
        (twelvedata-python#58). Older ones than 5,000 it leaves out.

        Raises
        ------
        Unauthorised, NotEntitled, UnknownSymbol, RateLimited, ProviderError, UnreadableAnswer
            As the answer says.
        BadAnswer
            If it is of another symbol, length, currency or exchange.
        """
        if is_without_bars(response):
            return Page(Bars.empty(), next=None, unconfirmed=True)
        refuse_errors(response)
        spelling = self.spelling(asked.symbol.instrument)
        series = series_in(response.body, spelling)
        zone = str(asked.calendar.zone) if asked.symbol.is_share else None
        check_meta(series, spelling, _INTERVAL[asked.timeframe], zone)
        bars, oddities = bars_in(series, asked)
        oldest_ms = int(bars.ts_ms.min()) if len(bars) >= _MOST else None
        bars = bars.take(bars.ts_ms < asked.span.end_ms)
        return Page(
            bars,
            next=None,
            oddities=oddities,
            silent_before_ms=oldest_ms,
            unconfirmed=not len(bars),
        )


_BY_UTC: Final = {"timezone": "UTC"}


def _adjust(adjustment: str) -> str:
    return "splits" if adjustment == "split" else "none"
