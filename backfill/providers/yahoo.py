"""Yahoo's charts: US stocks adjusted for splits, without a key, for whoever names it.

No documentation: what is known of ``/v8/finance/chart`` is what clients have seen. ``period1`` and
``period2`` are epoch seconds, both inclusive. A day is stamped with its session's open, the one
that forms with its last trade. Bars of before the open and after the close come unasked.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final
from urllib.parse import quote as quoted

import numpy as np

from backfill.core.asked import Asked
from backfill.core.bars import Bars
from backfill.core.capabilities import Capabilities
from backfill.core.pages import BarsPerPage, ByLength, Order
from backfill.core.series import Symbol
from backfill.core.terms import UNTOLD, Quota, Terms, Window
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Kind, Page, Reference, Request, Response
from backfill.errors import BadAnswer, UnknownSymbol
from backfill.providers.base import Keyless, spelled
from backfill.providers.spellings import Dashed
from backfill.providers.yahoo_answers import Meta, bars_in, chart_in

_INTERVAL: Final = {
    Timeframe.m1: "1m",
    Timeframe.m5: "5m",
    Timeframe.m15: "15m",
    Timeframe.d1: "1d",
}
"""Half hours were answered with hours, and hours are counted from the open."""
# Measured: eight days of minutes a call; of five and fifteen all there are. Three sessions take
# eight days at no time of a year, whichever minute they begin with.
_MINUTES: Final = BarsPerPage(3 * 390, Order.oldest)
_OTHERS: Final = BarsPerPage(59 * 78, Order.oldest)
_HISTORY: Final = BarsPerPage(50_000)
"""All days that there ever were."""
_REACH: Final = {
    Timeframe.m1: timedelta(days=29),
    Timeframe.m5: timedelta(days=59),
    Timeframe.m15: timedelta(days=59),
}
_EARLIEST: Final = date(1962, 1, 2)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEW_YORK: Final = "America/New_York"


class Yahoo(Dashed, Keyless):
    """The provider ``yahoo``. Its terms: https://legal.yahoo.com/us/en/yahoo/terms/otos/index.html.

    No quota is told: about 950 quick calls were too many. A call every two seconds, and no second
    one beside it, is what it is asked here.
    """

    name = "yahoo"
    base_url = "https://query1.finance.yahoo.com"
    caution = "its terms allow no automated use without consent"
    can = Capabilities(
        feed="chart",
        native={"stock": frozenset(_INTERVAL)},
        adjustments=("split",),
        pages=ByLength(_OTHERS, _HISTORY, minutes=_MINUTES),
        reach=_REACH,
        at_once=1,
    )
    proven: re.Pattern[str] = re.compile(r"[A-Z0-9]+(-[A-Z])?")
    """A share, and one of a class."""
    example = "AAPL"
    terms: Mapping[str, Terms] = Terms(
        "free", Quota((Window(1, 2.0),)), UNTOLD, None, _EARLIEST
    ).with_unlimited()

    def headers(self, keys: Sequence[str]) -> dict[str, str]:  # noqa: ARG002  # it takes none
        """Return how it is told who asks: what names no browser is refused."""
        return {"User-Agent": "Mozilla/5.0 (compatible; backfill)"}

    def bars(self, asked: Asked) -> Request:
        """Ask for the bars from a span's first slot on; closed hours before it are none."""
        grid = asked.calendar.grid(asked.timeframe)
        start_ms = grid.start_of(grid.index_from(asked.span.start_ms))
        return Request(
            f"/v8/finance/chart/{quoted(spelled(self, asked.symbol.instrument), safe='')}",
            {
                "interval": _INTERVAL[asked.timeframe],
                "period1": str(start_ms // 1000),
                "period2": str((asked.span.end_ms - 1) // 1000),
                "includePrePost": "false",
            },
        )

    def read_bars(self, response: Response, asked: Asked) -> Page:
        """Read a chart.

        What still forms, and what was traded before the open and after the close, comes unasked
        and is left out.

        Raises
        ------
        UnknownSymbol, NotEntitled, RateLimited, GeoBlocked, ProviderError, UnreadableAnswer
            As the answer says.
        BadAnswer
            If it is another symbol's, of another market, or of bars of another length.
        """
        chart = chart_in(response)
        if chart is None:
            return Page(bars=Bars.empty(), next=None)
        _see_symbol(chart.meta, self.spelling(asked.symbol.instrument))
        if chart.meta.dataGranularity != _INTERVAL[asked.timeframe]:
            raise BadAnswer(
                f"bars of {chart.meta.dataGranularity[:10]!r} came for {asked.timeframe}"
            )
        bars, oddities = bars_in(chart)
        if len(bars):
            _see_market(chart.meta)
            bars = _in_session(bars.take(bars.ts_ms < asked.span.end_ms), asked)
        return Page(bars=bars, next=None, oddities=oddities)

    def reference(self, symbol: Symbol) -> Request:
        """Ask for a chart of a day, for what it says of the symbol."""
        return Request(
            f"/v8/finance/chart/{quoted(self.spelling(symbol.instrument), safe='')}",
            {"interval": "1d", "range": "1d"},
            kind=Kind.lookup,
        )

    def read_reference(self, response: Response, symbol: Symbol) -> Reference:
        """Read since when there are trades of a symbol.

        Raises
        ------
        UnknownSymbol
            If it has no such symbol.
        BadAnswer
            If it is another symbol's.
        """
        chart, spelling = chart_in(response), self.spelling(symbol.instrument)
        if chart is None:
            raise UnknownSymbol("the provider has nothing of this symbol")
        _see_symbol(chart.meta, spelling)
        first_s = chart.meta.firstTradeDate
        listed_on = None if first_s is None else (_EPOCH + timedelta(seconds=first_s)).date()
        return Reference(spelling, listed_on, symbol.delisted_on, figi=None)


def _see_symbol(meta: Meta, spelling: str) -> None:
    if meta.symbol.upper() != spelling:
        raise BadAnswer(f"the chart of {meta.symbol[:40]!r} came for {spelling}")


def _see_market(meta: Meta) -> None:
    """See that a chart is of the market that a US stock is traded in."""
    if (meta.currency, meta.exchangeTimezoneName) != ("USD", _NEW_YORK):
        raise BadAnswer(
            f"the chart is of another market: in {meta.currency}, by the clock of "
            f"{meta.exchangeTimezoneName}"
        )


def _in_session(bars: Bars, asked: Asked) -> Bars:
    """Leave out what was traded outside of a day's session; what is of no such day stays."""
    calendar = asked.calendar
    if not asked.timeframe.is_intraday or not len(calendar):
        return bars
    at = np.maximum(calendar.session_of(bars.ts_ms), 0)
    of_a_day = (bars.ts_ms >= calendar.midnight_ms[at]) & (
        bars.ts_ms < calendar.next_midnight_ms[at]
    )
    open_ = (bars.ts_ms >= calendar.open_ms[at]) & (bars.ts_ms < calendar.close_ms[at])
    return bars.take(open_ | ~of_a_day)
