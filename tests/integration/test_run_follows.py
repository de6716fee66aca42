"""What is rolled up follows its base, whatever changed that (R29)."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from backfill import api
from backfill.audit.quarantine import retry
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from backfill.store.quarantine import Choice
from tests.conftest import KEY, blocking, first_of, stored_bars
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
        accounts={"massive": api.AccountSettings(keys=(Secret(KEY),))},
        plan="unlimited",
    )


@pytest.fixture
def run(simulator: Simulator, settings: api.Settings) -> Run:
    """Run timeframes of a ticker so many days after `TOLD`, from `SINCE` on."""

    def one(
        ticker: str, timeframes: str, days: int = 0, exit_code: int = 0, **options: Any
    ) -> api.Summary:
        now = TOLD + timedelta(days=days)
        simulator.set_now(now)
        job = api.Job(
            symbols=(ticker,),
            timeframes=tuple(Timeframe(name) for name in timeframes.split(",")),
            as_of=now,
            **({"first": Bound(SINCE)} | options),
        )
        summary = blocking(api.run(settings, job))
        assert summary.exit_code == exit_code, summary
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


@pytest.mark.parametrize("ticker", first_of("AAPL", "X:BTCUSD"))
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


@pytest.mark.parametrize("ticker", first_of("AAPL", "X:BTCUSD"))
def test_a_day_that_comes_late_is_in_its_week_and_month_also_under_a_cron_job(
    simulator: Simulator, run: Run, market: Market, database_url: str, ticker: str
) -> None:
    newest = date(2024, 6, 3)
    lacks(simulator, ticker, newest)
    run(ticker, "d1,w1,mn1")
    simulator.clear_faults()

    for days in (1, 2, 6, 29):
        run(ticker, "d1,w1,mn1", days=days, first=None, mode=Mode.incremental)

    assert_true(database_url, market, ticker, "d1,w1,mn1", date(2024, 7, 1))


@pytest.mark.parametrize("mode", [Mode.default, Mode.incremental])
@pytest.mark.parametrize("timeframes", first_of("d1,w1,mn1", "d1,mn1"))
def test_a_months_last_day_that_comes_on_saturday_is_in_its_month(
    simulator: Simulator,
    run: Run,
    market: Market,
    database_url: str,
    mode: Mode,
    timeframes: str,
) -> None:
    # Friday 31 May 2024; the run of Saturday noon finds Friday lacking.
    run("AAPL", timeframes, days=-4)
    lacks(simulator, "AAPL", date(2024, 5, 31))
    run("AAPL", timeframes, days=-3, mode=mode)
    simulator.clear_faults()

    for days in (-2, -1, 0, 1):
        run("AAPL", timeframes, days=days, mode=mode)

    assert_true(database_url, market, "AAPL", timeframes)


def test_what_a_retry_brings_is_in_its_week_and_month(
    simulator: Simulator,
    run: Run,
    settings: api.Settings,
    market: Market,
    database_url: str,
) -> None:
    start = midnight_ms(date(2024, 5, 15), "AAPL")
    bad = Fault(action=Action.EDIT_BARS, ticker="AAPL", span_ms=(start, start + 1), bar={"h": 0.01})
    simulator.inject(bad)
    run("AAPL", "d1,w1,mn1", exit_code=1)
    simulator.clear_faults()

    reopened = blocking(retry(settings, Choice()))
    run("AAPL", "d1", mode=Mode.incremental)

    assert {str(one.timeframe) for one in reopened} == {"d1", "w1", "mn1"}
    run("AAPL", "d1,w1,mn1", mode=Mode.incremental)
    assert_true(database_url, market, "AAPL", "d1,w1,mn1")


@pytest.mark.parametrize("ticker", first_of("AAPL", "X:BTCUSD"))
@pytest.mark.parametrize("fault", ["lacks", "spoils"])
def test_a_week_keeps_a_stored_day_that_the_answer_for_its_last_day_lacks(
    simulator: Simulator, run: Run, market: Market, database_url: str, ticker: str, fault: str
) -> None:
    # Friday noon, then Monday's, when the week is final.
    run(ticker, "d1,w1", days=-4)
    start = midnight_ms(date(2024, 5, 29), ticker)
    action = Action.DROP_BARS if fault == "lacks" else Action.EDIT_BARS
    simulator.inject(
        Fault(action=action, ticker=ticker, span_ms=(start, start + 1), bar={"h": 0.01})
    )

    run(ticker, "d1,w1", days=-1, mode=Mode.incremental, exit_code=int(fault == "spoils"))

    assert_true(database_url, market, ticker, "d1,w1")


@pytest.mark.soak
@pytest.mark.parametrize("mode", [Mode.default, Mode.incremental])
def test_weeks_follow_days_that_a_split_puts_on_another_basis(
    simulator: Simulator, settings: api.Settings, market: Market, database_url: str, mode: Mode
) -> None:
    adjusted = dataclasses.replace(settings, adjustment_override="split")
    # SPLT splits on Monday, 10 June.
    for days in (0, 6, 7, 13):
        now = TOLD + timedelta(days=days)
        simulator.set_now(now)
        job = api.Job(
            symbols=("SPLT",),
            timeframes=(Timeframe.d1, Timeframe.w1, Timeframe.mn1),
            as_of=now,
            first=Bound(SINCE),
            mode=mode if days else Mode.default,
        )
        assert blocking(api.run(adjusted, job)).exit_code == 0

    true = true_bars(market, "SPLT", Timeframe.d1, SINCE, date(2024, 6, 17), now=now, adjusted=True)
    assert_same(stored_bars(database_url, "SPLT", Timeframe.d1), true)
    # The first week has days from before the range.
    for timeframe, skipped in ((Timeframe.w1, 1), (Timeframe.mn1, 0)):
        rows = stored_bars(database_url, "SPLT", timeframe)[skipped:]
        ends = [*(row[0] for row in rows[1:]), midnight_ms(date(2024, 6, 17), "SPLT")]
        if timeframe is Timeframe.mn1:
            ends[-1] = midnight_ms(UNTIL, "SPLT")
        assert rows
        for row, end in zip(rows, ends, strict=True):
            part = [day for day in true if row[0] <= day[0] < end]
            highest, lowest = max(day[2] for day in part), min(day[3] for day in part)
            assert row[1:5] == (part[0][1], highest, lowest, part[-1][4])
