"""What is rolled up follows its base, whatever changed that (R29)."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from backfill import api
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.when import Bound
from backfill.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import KEY, blocking, stored_bars
from tests.integration.truth import asked, assert_same, midnight_ms, true_bars

TOLD = datetime(2024, 6, 4, 12, tzinfo=UTC)
"""A Tuesday noon: all of May 2024 is final."""
SINCE, UNTIL = date(2024, 5, 1), date(2024, 6, 1)

Run = Callable[..., api.Summary]


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(now=TOLD, plan="unlimited")


@pytest.fixture
def settings(simulator: Simulator, database_url: str) -> api.Settings:
    return api.Settings(
        database_url=Secret(database_url),
        provider_url=simulator.url,
        massive_key=Secret(KEY),
        plan="unlimited",
    )


@pytest.fixture
def run(simulator: Simulator, settings: api.Settings) -> Run:
    """Run timeframes of a ticker so many days after `TOLD`, from `SINCE` on."""

    def one(ticker: str, timeframes: str, days: int = 0, **options: Any) -> api.Summary:
        now = TOLD + timedelta(days=days)
        simulator.set_now(now)
        job = api.Job(
            symbols=(ticker,),
            timeframes=tuple(Timeframe(name) for name in timeframes.split(",")),
            as_of=now,
            **({"first": Bound(SINCE)} | options),
        )
        summary = blocking(api.run(settings, job))
        assert summary.exit_code == 0, summary
        return summary

    return one


def lacks(simulator: Simulator, ticker: str, day: date, days: int = 1) -> None:
    """Have the provider lack a ticker's sessions of some days."""
    start = midnight_ms(day, ticker)
    span = (start, start + days * DAY_MS)
    simulator.inject(Fault(action=Action.DROP_BARS, ticker=ticker, span_ms=span))


def assert_true(
    url: str, market: Market, ticker: str, timeframes: str, until: date = UNTIL
) -> None:
    for timeframe in map(Timeframe, timeframes.split(",")):
        assert_same(
            [
                row
                for row in stored_bars(url, ticker, timeframe)
                if row[0] < midnight_ms(until, ticker)
            ],
            true_bars(market, ticker, timeframe, _first(timeframe), until),
            rolled_up=True,
        )


def _first(timeframe: Timeframe) -> date:
    return date(2024, 4, 29) if timeframe is Timeframe.w1 else SINCE


@pytest.mark.parametrize("ticker", ["AAPL", "X:BTCUSD"])
@pytest.mark.parametrize("selected", ["d1,w1,mn1", "d1"])
def test_a_day_that_comes_late_is_in_its_week_and_month(
    simulator: Simulator,
    run: Run,
    market: Market,
    database_url: str,
    ticker: str,
    selected: str,
) -> None:
    lacks(simulator, ticker, date(2024, 5, 15))
    run(ticker, "d1,w1,mn1")
    simulator.clear_faults()
    calls = len(simulator.calls)

    run(ticker, selected, days=1)

    assert len(asked(simulator, calls)) == 1
    assert_true(database_url, market, ticker, "d1,w1,mn1")
