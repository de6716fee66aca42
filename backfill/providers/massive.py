"""Massive (formerly Polygon): aggregates, splits, dividends and the ticker reference.

Protocol: https://massive.com/docs/rest. ``from`` and ``to`` are inclusive dates or epoch
milliseconds, snapped outward by the service; ``limit`` counts base aggregates (minutes or days),
and a page carries whole bars only (https://massive.com/blog/aggs-api-updates).
"""

# Over 300 lines: every endpoint has its request beside its reader; what reads a body stands apart,
# and is loaded with the first answer.

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote as quoted

from backfill.core.archive import Held
from backfill.core.asked import Asked
from backfill.core.calendar import Calendar
from backfill.core.capabilities import ALL, Capabilities
from backfill.core.coverage import Span
from backfill.core.instrument import QUOTES, Instrument, Pair, Stock, parted, stock_of
from backfill.core.pages import BaseAggregates
from backfill.core.series import Symbol
from backfill.core.terms import Quota, Settling, Terms, Window
from backfill.core.timeframe import HOUR_MS, MINUTE_MS, Timeframe
from backfill.core.wire import (
    Dividend,
    GroupedDay,
    Kind,
    Names,
    Owner,
    Page,
    Reference,
    Request,
    Response,
    Split,
)
from backfill.errors import BadAnswer, ProviderError, UnknownSymbol, UnreadableAnswer
from backfill.providers.massive_files import ARCHIVE, held_in, path_of

if TYPE_CHECKING:
    from backfill.core.bars import Bars
    from backfill.providers.massive_bars import Envelope, PageEnvelope
    from backfill.providers.massive_sessions import SessionReader

_PAGES: Final = BaseAggregates(50_000)
_EARLIEST: Final = date(2003, 9, 10)
_YEAR: Final = timedelta(days=365)
_SETTLED: Final = Settling(intraday_ms=MINUTE_MS, daily_ms=HOUR_MS)
_DELAY_MS: Final = 15 * MINUTE_MS
_DELAYED: Final = Settling(intraday_ms=_DELAY_MS + MINUTE_MS, daily_ms=HOUR_MS)
_END_OF_DAY: Final = Settling(intraday_ms=MINUTE_MS, daily_ms=HOUR_MS, end_of_day=True)
# The end of its days of currencies is midnight UTC, two or three hours after the roll.
_END_OF_UTC_DAY: Final = Settling(intraday_ms=MINUTE_MS, daily_ms=4 * HOUR_MS, end_of_day=True)
_FAIR_USE: Final = Quota((Window(100, 1.0),))
_BASIC: Final = Quota((Window(5, 60.0),))

_Value = TypeVar("_Value")

_RANGE: Final = {
    Timeframe.m1: (1, "minute"),
    Timeframe.m5: (5, "minute"),
    Timeframe.m15: (15, "minute"),
    Timeframe.m30: (30, "minute"),
    Timeframe.h1: (1, "hour"),
    Timeframe.h4: (4, "hour"),
    Timeframe.d1: (1, "day"),
    Timeframe.w1: (1, "week"),
    Timeframe.mn1: (1, "month"),
}


class Massive:
    """The provider ``massive``. Plans: https://massive.com/pricing."""

    name = "massive"
    base_url = "https://api.massive.com"
    # Where the service anchors h4 in winter isn't known from a recorded answer, and its crypto week
    # runs from Sunday to Saturday. Its days of currencies are counted by UTC, Sundays among them,
    # and no recorded answer shows one: days are made of hours, from roll to roll.
    can = Capabilities(
        feed="sip",
        native={
            "stock": ALL - {Timeframe.h4},
            "crypto": ALL - {Timeframe.h4, Timeframe.w1},
            "fx": ALL - {Timeframe.h4, Timeframe.d1, Timeframe.w1, Timeframe.mn1},
        },
        adjustments=("raw", "split"),
        pages=_PAGES,
        archive=ARCHIVE,
    )
    archive_url = "https://files.massive.com"
    archive_variable = "MASSIVE_FLATFILES_URL"
    archive_meaning = "where Massive's flat files are"
    bucket = "flatfiles"
    file_key_variables = ("MASSIVE_S3_ACCESS_KEY_ID", "MASSIVE_S3_SECRET_ACCESS_KEY")
    file_adjustment = "raw"
    key_variables: tuple[tuple[str, ...], ...] = (("MASSIVE_API_KEY", "POLYGON_API_KEY"),)
    example = "AAPL"
    keys_at = "https://massive.com/dashboard/keys"
    terms: Mapping[str, Terms] = {
        "free": Terms(
            "free",
            _BASIC,
            _END_OF_DAY,
            2 * _YEAR,
            _EARLIEST,
            classes={"fx": Terms("free", _BASIC, _END_OF_UTC_DAY, 2 * _YEAR, _EARLIEST)},
        ),
        "starter": Terms("starter", _FAIR_USE, _DELAYED, 5 * _YEAR, _EARLIEST),
        "developer": Terms("developer", _FAIR_USE, _DELAYED, 10 * _YEAR, _EARLIEST),
        "advanced": Terms("advanced", _FAIR_USE, _SETTLED, None, _EARLIEST),
        "unlimited": Terms("unlimited", Quota(), _SETTLED, None, _EARLIEST),
    }
    plan_classes: Mapping[str, tuple[str, ...]] = {
        "stocks": ("stock",),
        "currencies": ("crypto", "fx"),
    }
    most_grouped: int | None = None

    def headers(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the ``Authorization`` header: the key never travels in a URL."""
        [key] = keys
        return {"Authorization": f"Bearer {key}"}

    def spelling(self, instrument: Instrument) -> str:
        """Return the service's own spelling: ``X:BTCUSD`` for BTC/USD, ``C:EURUSD`` for EUR/USD."""
        match instrument:
            case Stock():
                return str(instrument)
            case Pair(base, quote):
                return f"{'C' if instrument.asset_type == 'fx' else 'X'}:{base}{quote}"

    def instrument(self, spelling: str) -> Instrument | None:
        """Return what a spelling of the service names."""
        market, colon, word = spelling.partition(":")
        if not colon:
            return stock_of(spelling)
        pair = parted(word, QUOTES) if market in {"X", "C"} else None
        return pair if pair and (pair.asset_type == "fx") == (market == "C") else None

    def market_path(self, day: date, timeframe: Timeframe) -> str:
        """Return where the file of a session's minutes or days is."""
        return path_of(day, timeframe)

    def market_reader(self, tickers: Collection[str]) -> "SessionReader":
        """Return what reads the bars of some tickers out of a file."""
        from backfill.providers.massive_sessions import SessionReader

        return SessionReader(tickers)

    def held_in(self, path: str) -> Held | None:
        """Return what a file holds, by its path."""
        return held_in(path)

    def bars(self, asked: Asked) -> Request:
        """Ask for the bars of a span of whole slots, newest first."""
        timeframe, calendar, span = asked.timeframe, asked.calendar, asked.span
        multiplier, timespan = _RANGE[timeframe]
        first, last = span.start_ms, span.end_ms - 1
        bounds = (
            f"{first}/{last}"
            if timeframe.is_intraday
            else f"{calendar.day_of(first)}/{_last_day(calendar, timeframe, last)}"
        )
        return Request(
            f"/v2/aggs/ticker/{self._on_the_wire(asked.symbol)}/range/{multiplier}/{timespan}/{bounds}",
            {
                "adjusted": _adjusted(asked.adjustment),
                "sort": "desc",
                "limit": str(self.can.pages.most_bars),
            },
        )

    def read_bars(self, response: Response, asked: Asked) -> Page:
        """Read a page of aggregates.

        Raises
        ------
        NotEntitled, Unauthorised, RateLimited, ProviderError, UnreadableAnswer
            As the answer says; an unknown ticker is an empty page here.
        BadAnswer
            If it holds another ticker's bars, or bars of another adjustment.
        """
        from backfill.providers.massive_bars import read_page

        answer, bars, oddities = _read(response, read_page)
        if answer.ticker != self.spelling(asked.symbol.instrument):
            raise BadAnswer(f"bars of {answer.ticker!r} came for {asked.symbol.ticker}")
        _refuse_other_adjustment(answer, asked.adjustment)
        return Page(
            bars=bars,
            next=Request(answer.next_url) if answer.next_url else self._rest(answer, bars, asked),
            delayed_ms=_delayed_ms(answer),
            base_count=answer.queryCount,
            oddities=oddities,
        )

    def _rest(self, answer: "PageEnvelope", bars: "Bars", asked: Asked) -> Request | None:
        """Ask for what lies before a page that is full and names no next one.

        Of a range that holds just as many bars that brings an empty answer, which proves it.
        """
        timeframe, calendar, span = asked.timeframe, asked.calendar, asked.span
        if max(answer.queryCount or 0, len(bars)) < _PAGES.fewest(timeframe):
            return None
        stamps = bars.ts_ms[(bars.ts_ms >= span.start_ms) & (bars.ts_ms < span.end_ms)]
        if not len(stamps):
            return None
        oldest_ms = int(calendar.canonical(timeframe, stamps[[stamps.argmin()]])[0])
        oldest = calendar.grid(timeframe).widen((oldest_ms, oldest_ms + 1))
        if not span.start_ms < oldest.start_ms < oldest.end_ms < span.end_ms:
            return None
        # That bar once more: one that the page cut in two comes otherwise then, and is refused.
        return self.bars(replace(asked, span=Span(span.start_ms, oldest.end_ms)))

    def grouped(
        self,
        day: date,
        adjustment: str,
        tickers: Sequence[str],  # noqa: ARG002  # all there are come
    ) -> Request:
        """Ask for the d1 bars of all US stocks of a session; none that trade over the counter."""
        return Request(
            f"/v2/aggs/grouped/locale/us/market/stocks/{day}",
            {"adjusted": _adjusted(adjustment), "include_otc": "false"},
        )

    def read_grouped(self, response: Response, adjustment: str) -> GroupedDay:
        """Read the bars of a session; each is stamped somewhere on it, often with the close.

        Raises
        ------
        NotEntitled, Unauthorised, RateLimited, ProviderError, UnreadableAnswer
            As the answer says.
        BadAnswer
            If it holds bars of another adjustment.
        """
        from backfill.providers.massive_bars import read_grouped_day

        answer, tickers, bars, oddities = _read(response, read_grouped_day)
        _refuse_other_adjustment(answer, adjustment)
        return GroupedDay(tickers, bars, _delayed_ms(answer), oddities)

    def reference(self, symbol: Symbol) -> Request:
        """Ask for a ticker's details: whether it exists, and since when it trades."""
        return Request(f"/v3/reference/tickers/{self._on_the_wire(symbol)}", kind=Kind.lookup)

    def read_reference(self, response: Response, symbol: Symbol) -> Reference:
        """Read a ticker's details.

        Raises
        ------
        UnknownSymbol
            If the service doesn't know the ticker (404).
        BadAnswer
            If the details are another ticker's.
        """
        from backfill.providers.massive_errors import refusal_in
        from backfill.providers.massive_lists import reference_in

        if response.status == 404 and refusal_in(response).status == "NOT_FOUND":
            raise UnknownSymbol("the provider doesn't know this ticker (they are case-sensitive)")
        reference = _read(response, reference_in)
        if reference.ticker != self.spelling(symbol.instrument):
            raise BadAnswer(f"the reference of {reference.ticker!r} came for {symbol.ticker}")
        return reference

    def names(self, symbol: Symbol) -> Request:
        """Ask when the company behind a ticker took on its names."""
        return Request(
            f"/vX/reference/tickers/{self._on_the_wire(symbol)}/events",
            {"types": "ticker_change"},
            kind=Kind.lookup,
        )

    def reference_on(self, symbol: Symbol, day: date) -> Request:
        """Ask for the details of who had a ticker on a day."""
        return Request(
            f"/v3/reference/tickers/{self._on_the_wire(symbol)}",
            {"date": day.isoformat()},
            kind=Kind.lookup,
        )

    def names_of(self, figi: str) -> Request:
        """Ask when a company took on its names, whichever ticker it has now."""
        return Request(
            f"/vX/reference/tickers/{quoted(figi, safe='')}/events",
            {"types": "ticker_change"},
            kind=Kind.lookup,
        )

    def read_names(self, response: Response) -> Names:
        """Read when a company took on its names.

        Raises
        ------
        UnknownSymbol
            If the service has no events of the ticker, or none at all (404).
        """
        if response.status == 404:
            raise UnknownSymbol("the provider tells of no former names of this ticker")
        from backfill.providers.massive_lists import names_in

        return _read(response, names_in)

    def owners(self, first: str, last: str) -> Request:
        """Ask for the active stock tickers from one to another, a thousand a page."""
        return Request(
            "/v3/reference/tickers",
            {
                "market": "stocks",
                "active": "true",
                "ticker.gte": first,
                "ticker.lte": last,
                "sort": "ticker",
                "order": "asc",
                "limit": "1000",
            },
            kind=Kind.lookup,
        )

    def read_owners(self, response: Response) -> tuple[list[Owner], Request | None]:
        """Read a page of tickers with their FIGIs, and the request for the next page."""
        from backfill.providers.massive_lists import owners_in

        owners, following = _read(response, owners_in)
        return owners, Request(following, kind=Kind.lookup) if following else None

    def splits(self, since: date) -> Request:
        """Ask for every ticker's splits since a day."""
        return _listed_since(since, "splits", "execution_date")

    def read_splits(self, response: Response) -> tuple[list[Split], Request | None]:
        """Read a page of splits, as listed, and the request for the next page."""
        from backfill.providers.massive_lists import splits_in

        splits, following = _read(response, splits_in)
        return splits, Request(following, kind=Kind.lookup) if following else None

    def dividends(self, since: date) -> Request:
        """Ask for every ticker's cash dividends since an ex-dividend date."""
        return _listed_since(since, "dividends", "ex_dividend_date")

    def read_dividends(self, response: Response) -> tuple[list[Dividend], Request | None]:
        """Read a page of dividends, as listed, and the request for the next page."""
        from backfill.providers.massive_lists import dividends_in

        dividends, following = _read(response, dividends_in)
        return dividends, Request(following, kind=Kind.lookup) if following else None

    def _on_the_wire(self, symbol: Symbol) -> str:
        return quoted(self.spelling(symbol.instrument), safe=":.")


def _read(response: Response, read: Callable[[bytes], _Value]) -> _Value:
    """Read a body, unless the answer refuses: by its status, or for all its status of 200."""
    from backfill.providers.massive_errors import refuse_errors, refuse_said

    refuse_errors(response)
    try:
        return read(response.body)
    except (ProviderError, UnreadableAnswer):
        refuse_said(response)
        raise


def _listed_since(since: date, kind: str, day: str) -> Request:
    """Ask for a list of everybody's, oldest first: five thousand a page, or one of the old lists.

    The old ones are deprecated, without a date. They hold a thousand a page.
    """
    from_day = {f"{day}.gte": since.isoformat()}
    old = Request(
        f"/v3/reference/{kind}",
        {**from_day, "sort": day, "order": "asc", "limit": "1000"},
        kind=Kind.lookup,
    )
    return Request(
        f"/stocks/v1/{kind}",
        {**from_day, "sort": f"{day}.asc", "limit": "5000"},
        kind=Kind.lookup,
        instead=old,
    )


def _adjusted(adjustment: str) -> str:
    return "true" if adjustment == "split" else "false"


def _refuse_other_adjustment(answer: "Envelope", adjustment: str) -> None:
    if answer.adjusted != (adjustment == "split"):
        came = "split-adjusted" if answer.adjusted else "raw"
        raise BadAnswer(f"{came} bars came for {adjustment} ones")


def _delayed_ms(answer: "Envelope") -> int:
    return _DELAY_MS if answer.status == "DELAYED" else 0


def _last_day(calendar: Calendar, timeframe: Timeframe, last_ms: int) -> date:
    """Return the last day to ask for: a provider's week ends on Saturday, ours on Sunday."""
    last = calendar.day_of(last_ms)
    return last - timedelta(days=1) if timeframe is Timeframe.w1 else last
