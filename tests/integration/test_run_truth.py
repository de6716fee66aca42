"""The bars that a run stores are the provider's own, in every timeframe, to the last bit."""

from collections.abc import Callable
from datetime import date

from backfill.core.timeframe import Timeframe
from backfill.simulator import Market, Simulator
from tests.conftest import NOW, Cli, query, stored_bars
from tests.integration.truth import asked, assert_same, true_bars

FETCHED = {Timeframe.m1, Timeframe.d1}
"""Of all nine these are asked for; the others are rolled up from them."""

AS_OF = ("--as-of", NOW.isoformat())

# From --from 2023-11-01 to --to 2024-03-15: daylight time ends on 5 November and begins on
# 10 March, 24 November is a half day. A week and a month are stored whole.
WINTER = ("--from", "2023-11-01", "--to", "2024-03-15")
WINTER_DAYS = (date(2023, 11, 1), date(2024, 3, 16))
WINTER_OF = {
    Timeframe.w1: (date(2023, 10, 30), date(2024, 3, 18)),
    Timeframe.mn1: (date(2023, 11, 1), date(2024, 4, 1)),
}

MINUTES_OF_AAPL = ("AAPL", "1 minute")

MARCH = ("--from", "2024-03-04", "--to", "2024-03-17")
MARCH_DAYS = (date(2024, 3, 4), date(2024, 3, 18))
MARCH_OF = {
    Timeframe.mn1: (date(2024, 3, 1), date(2024, 4, 1)),
}


def test_stocks_equal_the_market_in_all_timeframes_over_both_clock_changes_and_a_half_day(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    run = cli(simulator)
    command = ("run", "--symbols", "AAPL,VTHIN", "--all-timeframes", *WINTER, *AS_OF, "--json")

    first = run(*command)

    assert first.code == 0, first.err
    assert first.json["series"] == {
        "total": 18,
        "complete": 18,
        "partial": 0,
        "failed": 0,
        "skipped": 0,
    }
    stored = 0
    for ticker in ("AAPL", "VTHIN"):
        for timeframe in Timeframe:
            rows = stored_bars(database_url, ticker, timeframe)
            days = WINTER_OF.get(timeframe, WINTER_DAYS)
            assert_same(
                rows,
                true_bars(market, ticker, timeframe, *days),
                rolled_up=timeframe not in FETCHED,
            )
            stored += len(rows)
    assert first.json["bars"]["inserted"] == stored

    # Past the provider's page of 50,000 bars nothing is cut (R12).
    assert len(stored_bars(database_url, "AAPL", Timeframe.m1)) > 50_000
    minutes = [call for call in asked(simulator) if (call.ticker, call.unit) == MINUTES_OF_AAPL]
    assert len(minutes) == 2

    calls = len(simulator.calls)
    again = run(*command)

    assert again.code == 0
    assert (again.json["calls"], again.json["lookups"]) == (0, 0)
    assert again.json["series"]["complete"] == 18
    assert set(again.json["bars"].values()) == {0}
    assert len(simulator.calls) == calls
    assert query(database_url, "SELECT count(*) FROM ohlc_bars")[0][0] == stored


def test_crypto_equals_the_market_in_all_timeframes_and_its_weeks_begin_on_monday(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    run = cli(simulator)
    command = ("run", "--symbol", "X:BTCUSD", "--all-timeframes", *MARCH, *AS_OF, "--json")

    first = run(*command)

    assert first.code == 0, first.err
    for timeframe in Timeframe:
        assert_same(
            stored_bars(database_url, "X:BTCUSD", timeframe),
            true_bars(market, "X:BTCUSD", timeframe, *MARCH_OF.get(timeframe, MARCH_DAYS)),
            rolled_up=timeframe not in FETCHED,
        )
    weeks = query(
        database_url,
        "SELECT DISTINCT extract(isodow FROM ts AT TIME ZONE 'UTC')::int FROM ohlc_bars "
        "WHERE timeframe = 'w1'",
    )
    assert [tuple(row) for row in weeks] == [(1,)]

    calls = len(simulator.calls)
    again = run(*command)

    assert (again.code, again.json["calls"]) == (0, 0)
    assert set(again.json["bars"].values()) == {0}
    assert len(simulator.calls) == calls


def test_the_commands_of_the_first_hour_work_and_so_does_the_sql(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    run = cli(simulate(), BACKFILL_SINCE="2024-09-03")

    for command in (
        ("watch", "add", "--offline", "AAPL", "MSFT"),
        ("run", "--all", "--incremental", *AS_OF),
        ("run", "--symbol", "NVDA", "--timeframe", "d1", *AS_OF),
        ("run", "--symbols", "AAPL,NVDA,TSLA", *AS_OF),
        ("run", "--symbol", "TSLA", "--all-timeframes", *AS_OF),
    ):
        ended = run(*command)
        assert ended.code == 0, ended.err

    rows = query(
        database_url,
        "SELECT s.ticker, COUNT(*) AS bar_count, MAX(o.ts) AS newest_bar FROM ohlc_bars o "
        "JOIN symbols s ON s.id = o.symbol_id WHERE o.timeframe = 'd1' "
        "GROUP BY s.ticker ORDER BY s.ticker;",
    )
    expected = []
    for ticker in ("AAPL", "MSFT", "NVDA", "TSLA"):
        bars = true_bars(
            market, ticker, Timeframe.d1, date(2024, 9, 3), date(2024, 11, 12), now=NOW
        )
        expected.append((ticker, len(bars), bars[-1][0]))
    assert [
        (row["ticker"], row["bar_count"], row["newest_bar"].timestamp() * 1000) for row in rows
    ] == expected
    held = query(
        database_url,
        "SELECT DISTINCT o.timeframe::text FROM ohlc_bars o JOIN symbols s ON s.id = o.symbol_id "
        "WHERE s.ticker = 'TSLA'",
    )
    assert {row[0] for row in held} == {str(timeframe) for timeframe in Timeframe}


def test_a_series_begins_at_its_listing_after_one_look_up_of_that_and_one_of_its_names(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    run = cli(simulator)
    command = ("run", "--symbol", "NEWCO", "-t", "d1", "-t", "h1", *AS_OF, "--json")

    first = run(*command)

    assert first.code == 0, first.err
    assert first.json["lookups"] == 4
    assert [call.path for call in simulator.calls if call.kind == "lookup"] == [
        "/v3/reference/tickers/NEWCO",
        "/vX/reference/tickers/NEWCO/events",
        "/stocks/v1/splits",
        "/stocks/v1/dividends",
    ]
    for timeframe in (Timeframe.d1, Timeframe.h1):
        rows = stored_bars(database_url, "NEWCO", timeframe)
        true = true_bars(market, "NEWCO", timeframe, date(2024, 3, 14), date(2024, 11, 12))
        assert_same(rows, true)
    before = query(
        database_url,
        "SELECT count(*) FROM known_empty WHERE lower(slots) < '2024-03-14T00:00-04:00'",
    )
    assert before[0][0] == 0  # nothing is claimed of the time before it was listed

    calls = len(simulator.calls)
    again = run(*command)

    assert (again.code, again.json["calls"], again.json["lookups"]) == (0, 0, 0)
    assert len(simulator.calls) == calls


def test_a_delisted_symbol_ends_with_its_last_day_and_is_not_asked_for_daily(
    market: Market,
    simulate: Callable[..., Simulator],
    cli: Callable[..., Cli],
    database_url: str,
) -> None:
    simulator = simulate()
    run = cli(simulator)
    command = ("run", "--symbol", "DEADCO", "--from", "2024-08-01", "--json", "--as-of")

    first = run(*command, "2024-11-12T12:00Z")
    simulator.set_now(NOW.replace(day=13))
    second = run(*command, "2024-11-13T12:00Z")
    calls = len(simulator.calls)
    simulator.set_now(NOW.replace(day=14))
    third = run(*command, "2024-11-14T12:00Z")

    assert (first.code, second.code, third.code) == (0, 0, 0), first.err + second.err + third.err
    assert_same(
        stored_bars(database_url, "DEADCO", Timeframe.d1),
        true_bars(market, "DEADCO", Timeframe.d1, date(2024, 8, 1), date(2024, 9, 1)),
    )
    assert third.json["calls"] + third.json["lookups"] == 0
    assert len(simulator.calls) == calls
