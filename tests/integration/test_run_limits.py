"""Runs that are cut short: what they have done stays, is fair, and is never paid for again."""

import time
from collections.abc import Callable
from datetime import date

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import NOW, Cli, query, stored_bars
from tests.integration.truth import Asked, asked, assert_same, true_bars

AS_OF = ("--as-of", NOW.isoformat())

# What the free plan reads at NOW: two years less a day's margin, on whole weeks here.
SINCE = date(2022, 11, 14)
TODAY = date(2024, 11, 12)


def test_a_first_load_cut_three_times_is_finished_by_incremental_runs_and_paid_for_once(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
    empty_url: str,
) -> None:
    whole, cut = simulate(), simulate()
    everything = ("run", "--all", "--incremental", *AS_OF, "--json")
    watch = (
        "watch",
        "add",
        "--offline",
        "AAPL",
        "X:ETHUSD",
        "-t",
        "h1",
        "-t",
        "d1",
        "--since",
        "2023-11-06",
    )

    undisturbed = cli(whole, DATABASE_URL=empty_url)
    assert undisturbed(*watch).code == 0
    assert undisturbed(*everything).code == 0
    calls = len(asked(whole))
    assert calls > 10  # a dozen pages, so that three cuts fall in the middle of requests

    run = cli(cut)
    assert run(*watch).code == 0
    ends = [run(*everything, "--max-calls", "4") for _ in range(3)]
    ends.append(run(*everything))

    assert [end.code for end in ends] == [5, 5, 5, 0]
    assert [end.json["status"] for end in ends] == ["stopped", "stopped", "stopped", "ok"]
    assert [end.json["calls"] for end in ends] == [4, 4, 4, calls - 12]
    assert len(asked(cut)) == calls
    for ticker in ("AAPL", "X:ETHUSD"):
        for timeframe in (Timeframe.h1, Timeframe.d1):
            assert_same(
                stored_bars(database_url, ticker, timeframe),
                true_bars(market, ticker, timeframe, date(2023, 11, 6), TODAY),
            )
        # Newest first, each call of a series ends where the one before it began.
        assert len(pages := _hours(asked(cut), ticker)) == len(_hours(asked(whole), ticker))
        assert pages == sorted(pages, reverse=True)
        assert len(set(pages)) == len(pages)


def _hours(calls: list[Asked], ticker: str) -> list[int]:
    """Return the ends of the calls for a ticker's hours, in epoch ms."""
    return [int(call.last) for call in calls if (call.ticker, call.unit) == (ticker, "1 hour")]


def test_with_one_call_for_each_that_is_fetched_every_series_has_its_newest_page(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    run = cli(simulate())
    tickers, timeframes = ("AAPL", "MSFT", "TSLA"), (Timeframe.m30, Timeframe.h1, Timeframe.d1)
    series = [(ticker, timeframe) for ticker in tickers for timeframe in timeframes]
    # Each symbol's m30 and d1 are fetched, its h1 is rolled up.
    calls = 2 * len(tickers)

    ended = run(
        "run", "--symbols", ",".join(tickers), "-t", "m30,h1,d1", "--max-calls", str(calls),
        *AS_OF, "--json",
    )  # fmt: skip

    assert ended.code == 5
    assert ended.json["calls"] == calls
    for ticker, timeframe in series:
        rows = stored_bars(database_url, ticker, timeframe)
        true = true_bars(market, ticker, timeframe, date(2024, 11, 1), TODAY)
        rolled_up = timeframe is Timeframe.h1
        assert_same([row for row in rows if row[0] >= true[0][0]], true, rolled_up=rolled_up)


@pytest.mark.soak
def test_a_run_that_resumes_serves_the_newest_data_of_the_others_before_the_past_of_one(
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
) -> None:
    simulator = simulate()
    run = cli(simulator)
    for _ in range(3):
        ended = run(
            "run", "--symbols", "AAPL,MSFT,NVDA", "-t", "h1", "--max-calls", "1", *AS_OF, "--json"
        )
        assert ended.code == 5

    assert sorted(call.ticker for call in asked(simulator)) == ["AAPL", "MSFT", "NVDA"]


def test_when_calls_are_few_they_are_spent_by_priority_but_never_on_the_past_of_one_first(
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
) -> None:
    simulator = simulate()
    run = cli(simulator)
    for ticker, priority in (("AAPL", "0"), ("MSFT", "9"), ("NVDA", "1")):
        assert (
            run("watch", "add", "--offline", ticker, "-t", "h1", "--priority", priority).code == 0
        )

    for calls in (2, 2):
        assert run("run", "--all", "--max-calls", str(calls), *AS_OF).code == 5

    assert [call.ticker for call in asked(simulator)] == ["MSFT", "NVDA", "AAPL", "MSFT"]


def test_every_call_that_max_calls_allows_is_made_however_long_it_waits_for_its_slot(
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
) -> None:
    simulator = simulate(quota="20/3s")
    run = cli(simulator, BACKFILL_QUOTA="20/3s")

    ended = run(
        "run", "--symbols", "AAPL,MSFT,NVDA,TSLA,JPM", "-t", "d1", "--max-calls", "3",
        *AS_OF, "--json",
    )  # fmt: skip

    assert ended.code == 5
    assert (ended.json["calls"], ended.json["series"]["complete"]) == (3, 3)
    assert len(asked(simulator)) == 3


def test_a_deadline_ends_a_run_within_ten_seconds_and_the_next_run_goes_on(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    simulator.inject(Fault(action=Action.HANG, ticker="MSFT"))
    run = cli(simulator)
    command = ("run", "--symbols", "AAPL,MSFT", *AS_OF, "--json")

    began = time.monotonic()
    ended = run(*command, "--deadline", "2")
    took_s = time.monotonic() - began

    assert ended.code == 5
    assert ended.json["status"] == "stopped"
    assert ended.json["series"]["complete"] == 1
    assert 2 <= took_s < 2 + 10

    simulator.clear_faults()
    calls = len(simulator.calls)
    again = run(*command)

    assert again.code == 0
    assert [call.ticker for call in asked(simulator, calls)] == ["MSFT"]
    for ticker in ("AAPL", "MSFT"):
        assert_same(
            stored_bars(database_url, ticker, Timeframe.d1),
            true_bars(market, ticker, Timeframe.d1, SINCE, TODAY),
        )


def test_a_dry_run_names_the_calls_makes_none_and_writes_nothing(
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    run = cli(simulator)
    command = ("run", "--symbols", "AAPL,VTHIN", "-t", "h1,h4,d1", *AS_OF, "--json")

    plan = run(*command, "--dry-run")

    assert plan.code == 0
    assert simulator.calls == []
    written = query(
        database_url,
        "SELECT (SELECT count(*) FROM symbols) + (SELECT count(*) FROM backfill_progress) "
        "+ (SELECT count(*) FROM backfill_runs) + (SELECT count(*) FROM provider_quota) "
        "+ (SELECT count(*) FROM ohlc_bars) + (SELECT count(*) FROM known_empty)",
    )
    assert written[0][0] == 0
    series = {(one["symbol"], one["timeframe"]): one for one in plan.json["series"]}
    assert series.keys() == {
        (ticker, timeframe) for ticker in ("AAPL", "VTHIN") for timeframe in ("h1", "h4", "d1")
    }
    for name in ("calls", "calls_max"):
        assert plan.json[name] == sum(one[name] for one in series.values())

    real = run(*command)

    assert real.code == 0
    assert 0 < real.json["calls"] <= plan.json["calls_max"]
    for (ticker, timeframe), one in series.items():
        unit = {"h1": "1 hour", "d1": "1 day"}.get(timeframe)
        sent = [call for call in asked(simulator) if (call.ticker, call.unit) == (ticker, unit)]
        assert one["calls"] <= one["calls_max"]
        assert len(sent) <= one["calls_max"]
        if timeframe == "d1":
            assert one["calls"] == one["calls_max"] == len(sent) == 1
    assert series["AAPL", "h1"]["calls_max"] > 1  # the bound is of more than one page
    assert series["AAPL", "h4"]["calls_max"] == 0  # rolled up from h1, for no call of its own
    assert real.json["calls"] == len(asked(simulator))

    nothing = run(*command, "--dry-run")
    assert (nothing.json["calls"], nothing.json["calls_max"]) == (0, 0)
