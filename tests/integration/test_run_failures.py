"""One failed series never fails the others, and each failure is told by its type."""

import json
from collections.abc import Callable
from datetime import date

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import NOW, Cli, query, stored_bars
from tests.integration.truth import asked, assert_same, true_bars

AS_OF = ("--as-of", NOW.isoformat())
SINCE = date(2022, 11, 14)
TODAY = date(2024, 11, 12)


def test_of_five_symbols_two_are_complete_and_three_failures_are_named_by_type(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    simulator.inject(Fault(action=Action.STATUS, status=403, ticker="SIM001"))
    simulator.inject(Fault(action=Action.STATUS, status=500, ticker="SIM002"))
    run = cli(simulator)
    command = ("run", "--symbols", "AAPL,NOSUCH,SIM001,SIM002,MSFT", *AS_OF, "--json")

    first = run(*command)

    assert first.code == 1, first.err
    assert first.json["status"] == "partial"
    assert first.json["series"] == {
        "total": 5,
        "complete": 2,
        "partial": 0,
        "failed": 3,
        "skipped": 0,
    }
    failures = {one["symbol"]: one["outcome"] for one in first.json["failures"]}
    assert failures == {
        "NOSUCH": "unknown_symbol",
        "SIM001": "not_entitled",
        "SIM002": "provider_error",
    }
    for ticker in ("AAPL", "MSFT"):
        assert_same(
            stored_bars(database_url, ticker, Timeframe.d1),
            true_bars(market, ticker, Timeframe.d1, SINCE, TODAY),
        )
    # Every try counts, and what the summary counts is what the provider saw.
    kinds = [call.kind for call in simulator.calls]
    assert first.json["calls"] == kinds.count("bars")
    assert first.json["lookups"] == kinds.count("lookup") == 3  # and splits, dividends
    tries = [call.ticker for call in asked(simulator)].count("SIM002")
    assert first.json["retries"] == tries - 1 > 0

    [row] = query(database_url, "SELECT * FROM backfill_runs")
    assert (row["status"], row["symbols_processed"]) == ("partial", 5)
    assert row["calls"] == first.json["calls"]
    assert row["bars_inserted"] == first.json["bars"]["inserted"] > 0
    told = {one["symbol"]: one["outcome"] for one in json.loads(row["failures"])}
    assert told == failures
    events = [event for event in first.events if event["event"] == "series.failed"]
    assert {event["symbol"]: event["outcome"] for event in events} == failures

    # The unknown one has left nothing behind, the others have.
    known = "SELECT ticker FROM symbols ORDER BY ticker"
    assert [row["ticker"] for row in query(database_url, known)] == [
        "AAPL", "MSFT", "SIM001", "SIM002",
    ]  # fmt: skip
    assert query(database_url, "SELECT count(*) FROM backfill_progress")[0][0] == 4

    simulator.clear_faults()
    calls = len(simulator.calls)
    second = run(*command)

    assert second.code == 1
    assert {one["symbol"]: one["outcome"] for one in second.json["failures"]} == {
        "NOSUCH": "unknown_symbol",
        "SIM001": "not_entitled",
    }
    # The refusal holds for a day, the error doesn't: only what was not refused is asked again.
    assert sorted(call.ticker for call in asked(simulator, calls)) == ["NOSUCH", "SIM002"]

    simulator.set_now(NOW.replace(day=14))
    calls = len(simulator.calls)
    third = run("run", "--symbol", "SIM001", "--as-of", "2024-11-14T12:00Z", "--json")

    assert third.code == 0, third.err
    assert [call.ticker for call in asked(simulator, calls)] == ["SIM001"]


def test_a_run_in_which_every_series_fails_for_its_own_reason_is_exit_1(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate()

    ended = cli(simulator)("run", "--symbols", "NOSUCH,NONE.SUCH", *AS_OF, "--json")

    assert ended.code == 1
    assert ended.json["status"] == "failed"
    assert ended.json["series"]["failed"] == 2
    assert query(database_url, "SELECT count(*) FROM symbols")[0][0] == 0


def test_a_watched_symbol_that_nobody_knows_fails_and_stays_watched(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    run = cli(simulate())
    run("watch", "add", "--offline", "AAPL", "NOSUCH", "--since", "2024-10-01")

    ended = run("run", "--all", "--incremental", *AS_OF, "--json")
    status = run("status", *AS_OF, "--json")

    assert ended.code == 1
    assert [one["outcome"] for one in ended.json["failures"]] == ["unknown_symbol"]
    fresh = {one["symbol"]: one["fresh"] for one in status.json["series"]}
    assert (status.code, fresh) == (4, {"AAPL": True, "NOSUCH": False})


def test_a_bad_bar_is_set_aside_and_makes_exit_1_once(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    days = true_bars(market, "AAPL", Timeframe.d1, date(2024, 10, 1), TODAY)
    bad = days[7]
    simulator.inject(Fault(action=Action.EDIT_BARS, span_ms=(bad[0], bad[0] + 1), bar={"h": 0.01}))
    run = cli(simulator)
    command = ("run", "--symbol", "AAPL", "--from", "2024-10-01", *AS_OF, "--json")

    first, second = run(*command), run(*command)

    assert first.code == 1
    assert first.json["bars"]["rejected"] == 1
    assert [one["outcome"] for one in first.json["failures"]] == ["quarantined"]
    assert_same(
        stored_bars(database_url, "AAPL", Timeframe.d1), [day for day in days if day != bad]
    )
    [row] = query(database_url, "SELECT reason, raw FROM quarantined_bars")
    assert (row["reason"], json.loads(row["raw"])["high"]) == ("high_low", 0.01)
    assert (second.code, second.json["calls"]) == (0, 0)


def test_an_unknown_ticker_is_told_however_short_the_range(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    """Two sessions of minutes hold no whole day, midnight to midnight."""
    short = ("--from", "2024-11-08", "--to", "2024-11-11")
    ended = cli(simulate())("run", "--symbol", "NOSUCH", "-t", "m5", *short, *AS_OF, "--json")

    assert ended.code == 1, ended.err
    assert [one["outcome"] for one in ended.json["failures"]] == ["unknown_symbol"]
    assert query(database_url, "SELECT ticker FROM symbols") == []
