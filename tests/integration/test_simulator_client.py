"""The provider's own client, from PyPI, against the simulator."""

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
from massive import RESTClient

from backfill.core.bars import NO_COUNT
from backfill.core.timeframe import Timeframe
from backfill.simulator import Simulator, run_in_thread
from tests.conftest import MARKET

NEW_YORK: Final = ZoneInfo("America/New_York")
UTC_ZONE: Final = ZoneInfo("UTC")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    now = datetime(2025, 3, 5, 12, tzinfo=UTC)
    with run_in_thread(Simulator(market=MARKET, now=now)) as running:
        yield running


@pytest.fixture
def client(simulator: Simulator) -> Iterator[RESTClient]:
    made = RESTClient(simulator.key, base=simulator.url, retries=0, read_timeout=60)
    yield made
    made.client.clear()  # the client has no close: its pool is what holds the sockets


def truth(
    simulator: Simulator,
    ticker: str,
    timeframe: Timeframe,
    first: str,
    last: str,
    *,
    adjusted: bool = False,
) -> list[tuple[Any, ...]]:
    """Bars of the days from first to last, as tuples of the wire's values."""
    zone = UTC_ZONE if ticker.startswith("X:") else NEW_YORK

    def midnight(day: date) -> int:
        return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp() * 1000)

    bars = simulator.market.bars(
        ticker,
        timeframe,
        midnight(date.fromisoformat(first)),
        midnight(date.fromisoformat(last) + timedelta(days=1)),
        adjusted=adjusted,
        now_ms=round(simulator.now.timestamp() * 1000),
    )
    columns = (bars.ts_ms, bars.open, bars.high, bars.low, bars.close, bars.volume)
    return [
        (
            *values,
            None if math.isnan(vwap) else vwap,
            None if count == NO_COUNT else count,
        )
        for *values, vwap, count in zip(
            *(column.tolist() for column in columns),
            bars.vwap.tolist(),
            bars.trade_count.tolist(),
            strict=True,
        )
    ]


def listed(client: RESTClient, *range_: Any, **options: Any) -> list[tuple[Any, ...]]:
    return [
        (
            bar.timestamp,
            bar.open,
            bar.high,
            bar.low,
            bar.close,
            bar.volume,
            bar.vwap,
            bar.transactions,
        )
        for bar in client.list_aggs(*range_, **options)
    ]


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize("adjusted", [False, True])
@pytest.mark.parametrize(
    ("ticker", "span", "timeframe", "first", "last", "limit"),
    [
        ("AAPL", (1, "minute"), Timeframe.m1, "2024-07-01", "2024-07-05", 300),  # a half day
        ("SPLT", (30, "minute"), Timeframe.m30, "2024-06-06", "2024-06-11", 400),  # its split
        ("MSFT", (1, "hour"), Timeframe.h1, "2024-03-07", "2024-03-13", 500),  # DST begins
        ("MSFT", (4, "hour"), Timeframe.h4, "2024-10-30", "2024-11-06", 500),  # and ends
        ("BRK.B", (1, "day"), Timeframe.d1, "2024-11-20", "2024-12-06", 5),  # Thanksgiving
        ("JPM", (1, "month"), Timeframe.mn1, "2024-01-01", "2024-06-30", 50),
        ("X:BTCUSD", (15, "minute"), Timeframe.m15, "2024-03-09", "2024-03-11", 700),
        ("X:ETHUSD", (1, "day"), Timeframe.d1, "2024-03-09", "2024-03-20", 5),
        ("VTHIN", (5, "minute"), Timeframe.m5, "2024-07-01", "2024-07-05", 10),
    ],
)
def test_the_official_client_lists_exactly_the_markets_bars(
    simulator: Simulator,
    client: RESTClient,
    sort: str,
    adjusted: bool,
    ticker: str,
    span: tuple[int, str],
    timeframe: Timeframe,
    first: str,
    last: str,
    limit: int,
) -> None:
    before = len(simulator.calls)
    found = listed(client, ticker, *span, first, last, adjusted=adjusted, sort=sort, limit=limit)
    expected = truth(simulator, ticker, timeframe, first, last, adjusted=adjusted)
    assert found == (expected if sort == "asc" else expected[::-1])
    assert len(simulator.calls) - before > 1
    assert {call.status for call in simulator.calls[before:]} == {200}


def test_more_bars_than_fit_the_largest_page_arrive_whole(
    simulator: Simulator, client: RESTClient
) -> None:
    range_ = ("AAPL", 1, "minute", "2024-01-01", "2024-08-31")
    found = listed(client, *range_, adjusted=False, limit=50_000)
    assert len(found) > 50_000
    assert found == truth(simulator, "AAPL", Timeframe.m1, "2024-01-01", "2024-08-31")


def test_the_official_client_reads_splits(simulator: Simulator, client: RESTClient) -> None:
    found = [
        (row.ticker, row.execution_date, row.split_from, row.split_to)
        for row in client.list_splits(limit=2, sort="execution_date", order="asc")
    ]
    today = simulator.now.date()
    assert found == [
        (split.ticker, split.execution_date.isoformat(), split.split_from, split.split_to)
        for split in sorted(simulator.market.splits(), key=lambda split: split.execution_date)
        if split.announced <= today
    ]


def test_the_official_client_reads_dividends(client: RESTClient) -> None:
    found = list(client.list_dividends(ticker="AAPL", limit=3))
    dates = [row.ex_dividend_date for row in found]
    assert len(dates) > 3
    assert dates == sorted(dates, reverse=True)


def test_the_official_client_reads_tickers(simulator: Simulator, client: RESTClient) -> None:
    details = client.get_ticker_details("NEWCO")
    assert (details.list_date, details.active) == ("2024-03-14", True)
    listed_now = [row.ticker for row in client.list_tickers(market="stocks", limit=300)]
    assert len(listed_now) > 1000
    assert set(listed_now) < set(simulator.market.tickers)


def test_the_official_client_reads_grouped_days(simulator: Simulator, client: RESTClient) -> None:
    rows = {row.ticker: row for row in client.get_grouped_daily_aggs("2024-07-03", adjusted=False)}
    ((_, first, high, low, last, volume, *_),) = truth(
        simulator, "TSLA", Timeframe.d1, "2024-07-03", "2024-07-03"
    )
    tesla = rows["TSLA"]
    assert (tesla.open, tesla.high, tesla.low, tesla.close, tesla.volume) == (
        first, high, low, last, volume,
    )  # fmt: skip
    crypto = client.get_grouped_daily_aggs("2024-07-03", locale="global", market_type="crypto")
    assert {row.ticker for row in crypto} == {
        "X:BTCUSD", "X:ETHUSD", "X:BTCUSDT", "X:ETHUSDT",
    }  # fmt: skip
