"""Tiingo: days of US stocks from all exchanges, and minutes of those that IEX traded.

Protocol: https://www.tiingo.com/documentation/end-of-day and ``/iex``. ``startDate`` and
``endDate`` are days, both inclusive. A day's row is stamped with its date, and has the raw values
beside those that are adjusted for splits and dividends: only the raw ones are read. A week is
stamped with its last day, and the last one of an answer is cut short: weeks are made of days here.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final
from urllib.parse import quote as quoted

import numpy as np
from numpy.typing import NDArray

from backfill.core.asked import Asked
from backfill.core.bars import Bars, IntColumn
from backfill.core.capabilities import Capabilities
from backfill.core.pages import BarsPerPage, ByLength, Order
from backfill.core.series import Symbol
from backfill.core.terms import UNTOLD, Quota, Terms, Window
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.wire import Kind, Page, Reference, Request, Response
from backfill.errors import BadAnswer, UnknownSymbol
from backfill.providers.base import spelled
from backfill.providers.spellings import Dashed
from backfill.providers.tiingo_answers import bars_in, metadata_in, refuse_errors

_RESAMPLED: Final = {
    Timeframe.m1: "1min",
    Timeframe.m5: "5min",
    Timeframe.m15: "15min",
    Timeframe.m30: "30min",
}
"""Where its hours begin no recorded answer shows."""
_MOST: Final = 9_000
"""10,000 rows were told to be the most; an answer holds whole days, of 390 minutes each."""
_HISTORY: Final = 50_000
"""All days that there ever were."""
_EARLIEST: Final = date(1962, 1, 2)
_TELLING: Final = 2
"""So many rows beside the last tell that they are of more than a day."""
_THURSDAY: Final = 3
"""The weekday of 1970-01-01; Monday is 0."""
_FRIDAY: Final = 4
_IEX_SINCE: Final = date(2016, 8, 19)
"""On which day IEX became an exchange."""


class Tiingo(Dashed):
    """The provider ``tiingo``. Plans: https://www.tiingo.com/about/pricing."""

    name = "tiingo"
    base_url = "https://api.tiingo.com"
    can = Capabilities(
        feed="iex",
        daily_feed="eod",
        native={"stock": frozenset({*_RESAMPLED, Timeframe.d1})},
        adjustments=("raw",),
        pages=ByLength(BarsPerPage(_MOST, Order.oldest), BarsPerPage(_HISTORY)),
        reach=dict.fromkeys(_RESAMPLED, _IEX_SINCE),
    )
    key_variables: tuple[tuple[str, ...], ...] = (("TIINGO_API_KEY",),)
    keys_at = "https://www.tiingo.com/account/api/token"
    proven: re.Pattern[str] = re.compile(r"[A-Z0-9]+(-[A-Z]|-P-[A-Z])?")
    """A share, one of a class, and a preferred one of a series, as its documentation has them."""
    example = "AAPL"
    # Days come from 17:30 in New York on, and are corrected until 20:00: before they are final.
    terms: Mapping[str, Terms] = Terms(
        "free", Quota((Window(50, 3600.0), Window(1000, 86_400.0))), UNTOLD, None, _EARLIEST
    ).with_unlimited()
    plan_classes: Mapping[str, tuple[str, ...]] = {}

    def headers(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the ``Authorization`` header: the key never travels in a URL."""
        [key] = keys
        return {"Authorization": f"Token {key}"}

    def bars(self, asked: Asked) -> Request:
        """Ask for the bars of the days that a span touches."""
        first, last = _days(asked)
        days = {"startDate": first.isoformat(), "endDate": last.isoformat()}
        ticker = quoted(spelled(self, asked.symbol.instrument), safe="")
        if not asked.timeframe.is_intraday:
            return Request(f"/tiingo/daily/{ticker}/prices", days)
        return Request(
            f"/iex/{ticker}/prices",
            days
            | {
                "resampleFreq": _RESAMPLED[asked.timeframe],
                "columns": "open,high,low,close,volume",
            },
        )

    def read_bars(self, response: Response, asked: Asked) -> Page:
        """Read the rows of an answer; whose they are they don't say.

        Raises
        ------
        SymbolsUsedUp, RateLimited, UnknownSymbol, Unauthorised, NotEntitled, GeoBlocked,
        ProviderError, UnreadableAnswer
            As the answer says.
        BadAnswer
            If no row has a volume, or its days are weeks, months or years.
        """
        refuse_errors(response)
        bars, oddities = bars_in(response.body)
        if asked.timeframe.is_intraday:
            bars = _within(bars, asked)
        else:
            _refuse_longer(bars)
        return Page(bars=bars, next=None, oddities=oddities)

    def reference(self, symbol: Symbol) -> Request:
        """Ask for the metadata of a ticker."""
        ticker = quoted(self.spelling(symbol.instrument), safe="")
        return Request(f"/tiingo/daily/{ticker}", kind=Kind.lookup)

    def read_reference(self, response: Response, symbol: Symbol) -> Reference:
        """Read the metadata of a ticker: since when it has prices of it.

        Its last day is the last one with prices, and says nothing of a delisting.

        Raises
        ------
        UnknownSymbol
            If it has no such ticker, or not a single price of it.
        BadAnswer
            If it is another ticker's.
        """
        refuse_errors(response)
        metadata, spelling = metadata_in(response.body), self.spelling(symbol.instrument)
        if metadata.ticker.upper() != spelling:
            raise BadAnswer(f"the metadata of {metadata.ticker[:40]!r} came for {spelling}")
        if metadata.startDate is None:
            raise UnknownSymbol("tiingo knows this ticker, and has no prices of it")
        return Reference(spelling, metadata.startDate, symbol.delisted_on, figi=None)


def _days(asked: Asked) -> tuple[date, date]:
    """Return the first and the last day of which a span holds a slot; closed hours are none."""
    calendar, grid = asked.calendar, asked.calendar.grid(asked.timeframe)
    first_ms = grid.start_of(grid.index_from(asked.span.start_ms))
    return calendar.day_of(first_ms), calendar.day_of(asked.span.end_ms - 1)


def _within(bars: Bars, asked: Asked) -> Bars:
    """Leave out what the days that were asked for hold beside the span.

    A bar of another day stays, to be seen: nobody asked for it.
    """
    first, last = _days(asked)
    of_those_days = (bars.ts_ms >= asked.calendar.midnight(first)) & (
        bars.ts_ms < asked.calendar.midnight(last + timedelta(days=1))
    )
    start_ms, end_ms = asked.span
    return bars.take(~of_those_days | ((bars.ts_ms >= start_ms) & (bars.ts_ms < end_ms)))


def _refuse_longer(bars: Bars) -> None:
    """Refuse rows that are stamped as those of weeks, months and years are: with their last day.

    The last one may be cut short.
    """
    days = np.sort(bars.ts_ms)[:-1] // DAY_MS
    if len(days) < _TELLING:
        return
    weekday = (days + _THURSDAY) % 7
    following = days + np.where(weekday < _FRIDAY, 1, 7 - weekday)
    if (weekday == _FRIDAY).all():
        raise BadAnswer("the rows of the answer are weeks, not days")
    if (_months(days) != _months(following)).all():
        raise BadAnswer("the rows of the answer are months or years, not days")


def _months(days: IntColumn) -> NDArray[np.datetime64]:
    return days.astype("M8[D]").astype("M8[M]")
