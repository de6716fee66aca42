"""What the provider is asked: addresses, dates, spelling, and no key in any of them."""

from datetime import UTC, date, datetime
from typing import Final

import pytest

from backfill.core.asked import Asked
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span
from backfill.core.series import Symbol
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Kind, Request
from backfill.errors import UsageError
from backfill.providers import ALIASES, PROVIDERS, provider_named
from backfill.providers.massive import Massive

MASSIVE: Final = Massive()
NEW_YORK: Final = Calendar.of("XNYS", "America/New_York", [])
ALWAYS: Final = Calendar.of("24/7", "UTC", [])


def stock(ticker: str = "AAPL") -> Symbol:
    return Symbol(1, ticker, "stock", "XNYS")


def crypto(ticker: str = "BTC/USD") -> Symbol:
    return Symbol(2, ticker, "crypto", "24/7")


def span(first: str, last: str) -> Span:
    start, end = (datetime.fromisoformat(text).timestamp() for text in (first, last))
    return Span(round(start * 1000), round(end * 1000))


def path(request: Request) -> str:
    return request.target.partition("/range/")[2]


@pytest.mark.parametrize(
    ("timeframe", "first", "end", "asked"),
    [
        # One summer day and one winter day; the days of a change to daylight time and back.
        ("d1", "2024-07-03T04:00Z", "2024-07-04T04:00Z", "1/day/2024-07-03/2024-07-03"),
        ("d1", "2024-01-03T05:00Z", "2024-01-06T05:00Z", "1/day/2024-01-03/2024-01-05"),
        ("d1", "2024-03-08T05:00Z", "2024-03-12T04:00Z", "1/day/2024-03-08/2024-03-11"),
        ("d1", "2024-11-01T04:00Z", "2024-11-05T05:00Z", "1/day/2024-11-01/2024-11-04"),
        # Our week ends on Sunday; asked up to that day, the service would add its next week.
        ("w1", "2024-07-01T04:00Z", "2024-07-15T04:00Z", "1/week/2024-07-01/2024-07-13"),
        ("mn1", "2024-02-01T05:00Z", "2024-04-01T04:00Z", "1/month/2024-02-01/2024-03-31"),
    ],
)
def test_days_weeks_and_months_are_asked_for_by_exchange_dates(
    timeframe: str, first: str, end: str, asked: str
) -> None:
    request = MASSIVE.bars(Asked(stock(), NEW_YORK, Timeframe(timeframe), span(first, end), "raw"))
    assert path(request) == asked


def test_crypto_days_are_asked_for_by_utc_dates() -> None:
    week = span("2024-07-01T00:00Z", "2024-07-08T00:00Z")
    request = MASSIVE.bars(Asked(crypto(), ALWAYS, Timeframe.d1, week, "raw"))
    assert request.target == "/v2/aggs/ticker/X:BTCUSD/range/1/day/2024-07-01/2024-07-07"


@pytest.mark.parametrize(
    ("timeframe", "unit"),
    [
        ("m1", "1/minute"),
        ("m5", "5/minute"),
        ("m15", "15/minute"),
        ("m30", "30/minute"),
        ("h1", "1/hour"),
        ("h4", "4/hour"),
    ],
)
def test_intraday_bars_are_asked_for_by_milliseconds_and_the_last_one_is_within(
    timeframe: str, unit: str
) -> None:
    day = span("2024-07-03T08:00Z", "2024-07-04T00:00Z")
    request = MASSIVE.bars(Asked(stock(), NEW_YORK, Timeframe(timeframe), day, "raw"))
    assert path(request) == f"{unit}/1719993600000/1720051199999"
    last = datetime.fromtimestamp(1_720_051_199, UTC)
    assert last.isoformat() == "2024-07-03T23:59:59+00:00"


def test_a_page_of_bars_is_asked_for_newest_first_and_as_large_as_it_gets() -> None:
    day = span("2024-07-03T04:00Z", "2024-07-04T04:00Z")
    request = MASSIVE.bars(Asked(stock(), NEW_YORK, Timeframe.d1, day, "raw"))
    assert request.params == {"adjusted": "false", "sort": "desc", "limit": "50000"}
    assert (request.kind, request.cost) == (Kind.bars, 1)
    split = MASSIVE.bars(Asked(stock(), NEW_YORK, Timeframe.d1, day, "split"))
    assert split.params["adjusted"] == "true"


@pytest.mark.parametrize(
    ("ticker", "wire"),
    [
        ("AAPL", "AAPL"),
        ("BRK.B", "BRK.B"),
        ("BC_A", "BC_A"),
        ("BC-A", "BC.A"),
        ("A?apiKey=1", "A%3FapiKey%3D1"),
        ("A#B", "A%23B"),
        ("A%2fB", "A%252fB"),
        ("A B&c", "A%20B%26c"),
        ("É", "%C3%89"),
    ],
)
def test_a_ticker_stays_within_its_part_of_the_address(ticker: str, wire: str) -> None:
    day = span("2024-07-03T04:00Z", "2024-07-04T04:00Z")
    request = MASSIVE.bars(Asked(stock(ticker), NEW_YORK, Timeframe.d1, day, "raw"))
    assert request.target == f"/v2/aggs/ticker/{wire}/range/1/day/2024-07-03/2024-07-03"
    assert MASSIVE.reference(stock(ticker)).target == f"/v3/reference/tickers/{wire}"


def test_a_grouped_day_is_asked_for_by_its_session_and_counts_as_bars() -> None:
    request = MASSIVE.grouped(date(2024, 7, 3), "raw", ["AAPL"])
    assert request.target == "/v2/aggs/grouped/locale/us/market/stocks/2024-07-03"
    assert request.params == {"adjusted": "false", "include_otc": "false"}
    assert (request.kind, request.cost) == (Kind.bars, 1)
    assert MASSIVE.grouped(date(2024, 7, 3), "split", ["AAPL"]).params["adjusted"] == "true"


def test_look_ups_are_counted_apart_from_bars() -> None:
    assert MASSIVE.reference(stock()).kind is Kind.lookup
    splits = MASSIVE.splits(date(2024, 7, 3))
    assert splits.kind is Kind.lookup
    assert splits.target == "/stocks/v1/splits"
    assert splits.params == {
        "execution_date.gte": "2024-07-03", "sort": "execution_date.asc", "limit": "5000",
    }  # fmt: skip
    dividends = MASSIVE.dividends(date(2024, 7, 3))
    assert (dividends.kind, dividends.target) == (Kind.lookup, "/stocks/v1/dividends")
    assert dividends.params == {
        "ex_dividend_date.gte": "2024-07-03", "sort": "ex_dividend_date.asc", "limit": "5000",
    }  # fmt: skip


def test_where_the_newer_lists_are_refused_the_older_ones_are_asked() -> None:
    for request, name, day in (
        (MASSIVE.splits(date(2024, 7, 3)), "splits", "execution_date"),
        (MASSIVE.dividends(date(2024, 7, 3)), "dividends", "ex_dividend_date"),
    ):
        older = request.instead
        assert older is not None
        assert (older.kind, older.target) == (Kind.lookup, f"/v3/reference/{name}")
        assert older.params == {
            f"{day}.gte": "2024-07-03", "sort": day, "order": "asc", "limit": "1000",
        }  # fmt: skip
        assert older.instead is None


def test_the_key_is_in_a_header_and_nowhere_else() -> None:
    assert MASSIVE.headers(("s3cret",)) == {"Authorization": "Bearer s3cret"}


@pytest.mark.parametrize(
    ("symbol", "timeframe", "base"),
    [
        (stock(), "h4", "h1"),
        (crypto(), "h4", "h1"),
        (stock(), "w1", "w1"),
        (crypto(), "w1", "d1"),
        (stock(), "d1", "d1"),
        (stock(), "m1", "m1"),
        (crypto(), "mn1", "mn1"),
    ],
)
def test_four_hours_and_crypto_weeks_are_rolled_up_and_daily_bars_never_are(
    symbol: Symbol, timeframe: str, base: str
) -> None:
    assert MASSIVE.can.base_of(symbol.asset_type, Timeframe(timeframe)) is Timeframe(base)


def test_polygon_is_another_name_for_massive() -> None:
    assert provider_named("polygon") is provider_named("massive")


@pytest.mark.parametrize("name", ["", "Massive", "alpine"])
def test_a_provider_that_is_not_known_is_a_usage_error_that_names_the_known(name: str) -> None:
    with pytest.raises(UsageError, match=", ".join([*PROVIDERS, *ALIASES])):
        provider_named(name)


def test_every_provider_has_the_plans_free_and_unlimited() -> None:
    assert {"free", "unlimited"} <= set(MASSIVE.terms)
    free, unlimited = MASSIVE.terms["free"], MASSIVE.terms["unlimited"]
    assert [(window.limit, window.period_s) for window in free.quota.windows] == [(5, 60.0)]
    assert free.settling.end_of_day
    assert unlimited.quota.windows == ()
    assert unlimited.depth is None
    assert (unlimited.settling.intraday_ms, unlimited.settling.daily_ms) == (60_000, 3_600_000)
