"""Finnhub: candles of US stocks, days adjusted for splits and minutes not.

Protocol: https://finnhub.io/docs/api/stock-candles. ``from`` and ``to`` are inclusive epoch seconds
of bars' starts; ``from`` is floored to its day where days are asked for. A month of minutes or
hours comes in one answer at most, and the newest of what is more (finnhubio/Finnhub-API#406, #445).
How its weeks and months are stamped no recorded answer shows.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final

import msgspec

from backfill.core.asked import Asked
from backfill.core.capabilities import Capabilities
from backfill.core.instrument import Instrument, stock_of
from backfill.core.pages import BarsPerPage, ByLength, Files, Order
from backfill.core.series import Symbol
from backfill.core.terms import Quota, Settling, Terms, Window
from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS, Timeframe
from backfill.core.wire import Kind, Page, Reference, Request, Response
from backfill.errors import UnknownSymbol
from backfill.providers.bodies import decoded
from backfill.providers.finnhub_answers import candles_in, refuse_errors
from backfill.providers.spellings import share

_RESOLUTION: Final = {
    Timeframe.m1: "1",
    Timeframe.m5: "5",
    Timeframe.m15: "15",
    Timeframe.m30: "30",
    Timeframe.h1: "60",
    Timeframe.d1: "D",
}
_DAYS: Final = 1000
"""No most is told for days: so few are asked for that none was ever seen to be missing."""
# Its newest bars have come some minutes late (#494).
_SETTLED: Final = Settling(intraday_ms=15 * MINUTE_MS, daily_ms=HOUR_MS)
_EARLIEST: Final = date(2000, 1, 1)
_YEAR: Final = timedelta(days=365)
_AT_ONCE: Final = Window(30, 1.0)
"""Whatever the plan."""


class _Profile(msgspec.Struct):
    ticker: str = ""
    ipo: str = ""


_PROFILE: Final = msgspec.json.Decoder(_Profile)


class Finnhub:
    """The provider ``finnhub``: its candles are paid, https://finnhub.io/pricing."""

    name = "finnhub"
    base_url = "https://finnhub.io/api/v1"
    # The volumes recorded are those of the consolidated tape, and so are the hours.
    can = Capabilities(
        feed="sip",
        native={"stock": frozenset(_RESOLUTION)},
        adjustments=("raw",),
        daily_adjustments=("split",),
        pages=ByLength(Files(Timeframe.mn1), BarsPerPage(_DAYS, Order.oldest)),
        doubts_empty=True,
        insists=False,
    )
    key_variables: tuple[tuple[str, ...], ...] = (("FINNHUB_API_KEY",),)
    keys_at = "https://finnhub.io/dashboard"
    example = "AAPL"
    terms: Mapping[str, Terms] = {
        "free": Terms("free", Quota((Window(60, 60.0), _AT_ONCE)), _SETTLED, _YEAR, _EARLIEST),
        "unlimited": Terms("unlimited", Quota(), _SETTLED, None, _EARLIEST),
    }
    plan_classes: Mapping[str, tuple[str, ...]] = {}

    def headers(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the ``X-Finnhub-Token`` header: the key never travels in a URL."""
        [key] = keys
        return {"X-Finnhub-Token": key}

    def spelling(self, instrument: Instrument) -> str:
        """Return the service's own spelling: ``BRK-B`` is ``BRK.B`` there."""
        return share(self.name, instrument)

    def instrument(self, spelling: str) -> Instrument | None:
        """Return the share that a spelling of the service names."""
        return stock_of(spelling)

    def bars(self, asked: Asked) -> Request:
        """Ask for the candles from a span's first slot on; for days from its midnight UTC on.

        Between that and the end of the last day lie all the stamps that it has ever given a day.
        Closed hours before the first slot would make a month longer than it may be.
        """
        calendar, grid = asked.calendar, asked.calendar.grid(asked.timeframe)
        start_ms = grid.start_of(grid.index_from(asked.span.start_ms))
        last_ms = asked.span.end_ms - 1
        if not asked.timeframe.is_intraday:
            start_ms = _utc_midnight_ms(calendar.day_of(start_ms))
            last_ms = _utc_midnight_ms(calendar.day_of(last_ms)) + DAY_MS - 1
        return Request(
            "/stock/candle",
            {
                "symbol": self.spelling(asked.symbol.instrument),
                "resolution": _RESOLUTION[asked.timeframe],
                "from": str(start_ms // 1000),
                "to": str(last_ms // 1000),
            },
        )

    def read_bars(self, response: Response, asked: Asked) -> Page:  # noqa: ARG002  # they don't say
        """Read candles; whose they are they don't say.

        One without any proves nothing: outages and load have answered so, and plans that don't
        reach so far back (#303, #335, #420, #475, #512, #564).

        Raises
        ------
        NotEntitled, Unauthorised, RateLimited, ProviderError, UnreadableAnswer
            As the answer says; an unknown ticker is one without candles here.
        BadAnswer
            If its columns are of several lengths, or stamped in another unit.
        """
        refuse_errors(response)
        bars, oddities = candles_in(response.body)
        return Page(bars=bars, next=None, oddities=oddities, unconfirmed=not len(bars))

    def reference(self, symbol: Symbol) -> Request:
        """Ask for the profile of the company behind a ticker."""
        return Request(
            "/stock/profile2", {"symbol": self.spelling(symbol.instrument)}, kind=Kind.lookup
        )

    def read_reference(self, response: Response, symbol: Symbol) -> Reference:
        """Read a company's profile: since when it is listed, if it is that of the ticker itself.

        A fund has none, or another's (#209, #560), and a class of shares may have another class'.
        So an empty one says nothing of a ticker that has had bars.

        Raises
        ------
        UnknownSymbol
            If there is no profile, and never were any bars.
        """
        refuse_errors(response)
        profile = decoded(_PROFILE, response.body)
        if not profile.ticker and not symbol.confirmed:
            raise UnknownSymbol(
                "the provider has neither candles nor a company's profile of this ticker"
            )
        spelled = self.spelling(symbol.instrument)
        told = _day(profile.ipo) if profile.ticker == spelled else None
        return Reference(spelled, told, symbol.delisted_on, figi=None)


def _utc_midnight_ms(day: date) -> int:
    return (day.toordinal() - date(1970, 1, 1).toordinal()) * DAY_MS


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007  # a date has no zone
    except ValueError:
        return None
