"""Day by day: what is new is fetched, and nothing else ever is."""

from collections.abc import Callable
from datetime import UTC, date, datetime

from backfill.core.timeframe import Timeframe
from backfill.simulator import Market, Simulator
from tests.conftest import Cli, Ended, stored_bars
from tests.integration.truth import Asked, asked, assert_same, midnight_ms, true_bars


def test_a_day_later_the_new_day_is_fetched_and_nothing_else_and_on_a_weekend_nothing(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    run = cli(simulator)
    watch = (
        "watch",
        "add",
        "--offline",
        "AAPL",
        "MSFT",
        "-t",
        "d1",
        "-t",
        "h1",
        "--since",
        "2024-10-15",
    )
    assert run(*watch).code == 0

    def incremental(now: datetime) -> tuple[Ended, list[Asked]]:
        simulator.set_now(now)
        before = len(simulator.calls)
        as_of = ("--as-of", now.isoformat())
        ended = run("run", "--all", "--incremental", *as_of, "--json")
        assert ended.code == 0, ended.err
        assert ended.json["calls"] + ended.json["lookups"] == len(simulator.calls) - before
        return ended, asked(simulator, before)

    thursday = datetime(2024, 11, 14, 12, tzinfo=UTC)
    incremental(thursday)

    # On Friday noon Thursday is final: its day in one call, and its hours of each symbol.
    friday = thursday.replace(day=15)
    ended, calls = incremental(friday)
    day = (midnight_ms(date(2024, 11, 14), "AAPL"), midnight_ms(date(2024, 11, 15), "AAPL"))
    assert sorted(call.ticker for call in calls) == ["*", "AAPL", "MSFT"]
    for call in calls:
        if call.unit == "grouped":
            assert (call.first, call.last) == ("2024-11-14", "2024-11-14")
        else:
            assert day[0] <= int(call.first) <= int(call.last) < day[1]
    new = 0
    for ticker in ("AAPL", "MSFT"):
        for timeframe in (Timeframe.d1, Timeframe.h1):
            assert_same(
                stored_bars(database_url, ticker, timeframe),
                true_bars(market, ticker, timeframe, date(2024, 10, 15), date(2024, 11, 15)),
            )
            new += len(true_bars(market, ticker, timeframe, date(2024, 11, 14), date(2024, 11, 15)))
    assert ended.json["bars"] == {
        "inserted": new,
        "updated": 0,
        "unchanged": 0,
        "rejected": 0,
        "withdrawn": 0,
        "ignored": 0,
    }

    assert incremental(friday)[1] == []
    # New York's Friday ends at 05:00Z, and its bars are final an hour later.
    assert incremental(datetime(2024, 11, 16, 5, 59, tzinfo=UTC))[1] == []
    assert len(incremental(datetime(2024, 11, 16, 6, 0, tzinfo=UTC))[1]) == 3
    assert incremental(datetime(2024, 11, 17, 12, tzinfo=UTC))[1] == []
    assert incremental(datetime(2024, 11, 18, 12, tzinfo=UTC))[1] == []


def test_nothing_is_asked_for_on_thanksgiving_and_a_half_day_is_whole_by_the_next_morning(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    run = cli(simulator)
    calls = []
    for day in (28, 29, 30):
        now = datetime(2024, 11, day, 12, tzinfo=UTC)
        simulator.set_now(now)
        before = len(simulator.calls)
        ended = run(
            *("run", "--symbol", "AAPL", "-t", "d1,m30", "--from", "2024-11-18"),
            *("--as-of", now.isoformat(), "--json"),
        )
        assert ended.code == 0, ended.err
        calls.append(len(simulator.calls) - before)

    # Two for bars, and two that list splits and dividends.
    assert calls == [4, 0, 4]
    for timeframe in (Timeframe.d1, Timeframe.m30):
        assert_same(
            stored_bars(database_url, "AAPL", timeframe),
            true_bars(market, "AAPL", timeframe, date(2024, 11, 18), date(2024, 11, 30)),
        )
