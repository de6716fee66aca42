"""``status`` judges freshness by the calendar (R24)."""

from collections.abc import Callable
from datetime import UTC, date, datetime

from backfill.core.timeframe import Timeframe
from backfill.simulator import Market, Simulator
from tests.conftest import Cli
from tests.integration.truth import true_bars

SATURDAY = datetime(2024, 11, 16, 12, tzinfo=UTC)


def test_fridays_bar_is_fresh_all_weekend_and_stale_once_mondays_is_due(
    market: Market, simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    run = cli(simulate(now=SATURDAY))
    for command in (
        ("watch", "add", "--offline", "AAPL", "--since", "2024-10-01"),
        ("run", "--all", "--incremental", "--as-of", SATURDAY.isoformat()),
    ):
        assert run(*command).code == 0

    # Monday's bar is final at 06:00Z on Tuesday: an hour after New York's midnight.
    judged = [
        run("status", "--json", "--as-of", as_of)
        for as_of in ("2024-11-16T12:00Z", "2024-11-18T23:00Z", "2024-11-19T05:59Z")
    ]
    assert [one.code for one in judged] == [0, 0, 0]
    [series] = judged[-1].json["series"]
    bars = true_bars(market, "AAPL", Timeframe.d1, date(2024, 10, 1), date(2024, 11, 16))
    assert {name: series[name] for name in ("symbol", "timeframe", "bars", "fresh")} == {
        "symbol": "AAPL",
        "timeframe": "d1",
        "bars": len(bars),
        "fresh": True,
    }
    assert datetime.fromisoformat(series["newest"]).timestamp() * 1000 == bars[-1][0]
    assert datetime.fromisoformat(series["oldest"]).timestamp() * 1000 == bars[0][0]
    assert series["coverage"] == [["2024-10-01T04:00:00+00:00", "2024-11-16T05:00:00+00:00"]]

    tuesday = run("status", "--as-of", "2024-11-19T06:00Z", "--json")
    assert (tuesday.code, tuesday.json["series"][0]["fresh"]) == (4, False)


def test_a_watched_series_without_bars_is_never_fresh(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> None:
    run = cli(simulate())
    as_of = ("--as-of", SATURDAY.isoformat())
    assert run("status", *as_of).code == 0  # there is nothing to be stale

    run("watch", "add", "--offline", "MSFT", "-t", "d1", "-t", "m5")
    status = run("status", *as_of, "--json")

    assert status.code == 4
    assert [(one["timeframe"], one["bars"], one["fresh"]) for one in status.json["series"]] == [
        ("m5", 0, False),
        ("d1", 0, False),
    ]

    run("watch", "remove", "MSFT")
    assert run("status", *as_of).code == 0
