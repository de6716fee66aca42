"""Currencies: their week from roll to roll, made of hours where a provider's days are others."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import Cli, query, stored_bars
from tests.integration.test_validation import noisy
from tests.integration.truth import NEW_YORK, asked, assert_same, midnight_ms, true_bars

MONDAY = datetime(2025, 1, 6, 12, tzinfo=UTC)
FRAMES = ("h1", "h4", "d1", "w1", "mn1")
ALL = [part for name in FRAMES for part in ("-t", name)]
SINCE = date(2024, 10, 28)


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(plan="free", now=MONDAY)


@pytest.fixture
def backfill(cli: Callable[..., Cli], simulator: Simulator) -> Cli:
    return cli(simulator)


def in_new_york(ts_ms: int) -> datetime:
    return datetime.fromtimestamp(ts_ms / 1000, NEW_YORK)


def test_a_trade_date_goes_from_roll_to_roll_and_all_is_made_of_hours(
    backfill: Cli, simulator: Simulator, database_url: str, market: Market
) -> None:
    # Daylight time ends on 3 November; Christmas and New Year's Day have no session.
    command = ("run", "--symbol", "EUR/USD", *ALL, "--from", str(SINCE), "--json")
    planned = backfill(*command, "--dry-run", "--as-of", MONDAY.isoformat()).json
    loaded = backfill(*command, "--as-of", MONDAY.isoformat())
    assert (loaded.code, loaded.json["failures"], loaded.json["bars"]["rejected"]) == (0, [], 0)
    assert planned["calls"] <= loaded.json["calls"] <= planned["calls_max"]
    assert {(one.ticker, one.unit) for one in asked(simulator)} == {("C:EURUSD", "1 hour")}

    until = {"w1": date(2025, 1, 6), "mn1": date(2025, 1, 1)}
    first = {"mn1": date(2024, 11, 1)}
    for name in FRAMES:
        bounds = first.get(name, SINCE), until.get(name, date(2025, 1, 4))
        stored = stored_bars(database_url, "EUR/USD", Timeframe(name))
        stored = [row for row in stored if row[0] >= midnight_ms(bounds[0], "C:")]
        true = true_bars(market, "C:EURUSD", Timeframe(name), *bounds)
        assert_same(stored, true, rolled_up=name != "h1")

    days = [in_new_york(row[0]) for row in stored_bars(database_url, "EUR/USD", Timeframe.d1)]
    assert {(day.hour, day.minute) for day in days} == {(17, 0)}
    assert {day.strftime("%a") for day in days} == {"Sun", "Mon", "Tue", "Wed", "Thu"}
    weeks = stored_bars(database_url, "EUR/USD", Timeframe.w1)
    assert {in_new_york(row[0]).strftime("%a %H") for row in weeks} == {"Sun 17"}
    begun = [in_new_york(row[0]).hour for row in stored_bars(database_url, "EUR/USD", Timeframe.h4)]
    assert set(begun) == {17, 21, 1, 5, 9, 13}

    calls = len(simulator.calls)
    again = backfill(*command, "--as-of", MONDAY.isoformat())
    weekend = backfill(*command, "--as-of", "2025-01-04T12:00:00Z")
    assert [(one.code, one.json["calls"]) for one in (again, weekend)] == [(0, 0)] * 2
    assert len(simulator.calls) == calls
    for as_of in ("2025-01-04T12:00:00Z", "2025-01-05T21:00:00Z", MONDAY.isoformat()):
        assert backfill("status", "--as-of", as_of).code == 0
        gaps = backfill("gaps", "--as-of", as_of, "--json")
        assert (gaps.code, gaps.json) == (0, {"series": []})
    assert noisy(database_url, MONDAY.isoformat()) <= {"Health"}


def test_every_spelling_is_one_symbol_of_the_fx_calendar_and_its_views_hold_all_of_it(
    backfill: Cli, database_url: str
) -> None:
    assert backfill("symbols", "add", "C:EURUSD", "EURUSD", "eur/usd").code == 0
    as_of = ("--as-of", MONDAY.isoformat())
    ran = backfill(
        "run", "--symbol", "EURUSD=X", "-t", "h1", "-t", "d1", "--from", "2024-12-16", *as_of
    )
    assert ran.code == 0, ran.err
    rows = query(database_url, "SELECT ticker, asset_type, calendar FROM symbols")
    assert [tuple(row) for row in rows] == [("C:EURUSD", "fx", "FX")]
    for timeframe in ("h1", "d1"):
        views = [
            [tuple(row) for row in query(
                database_url,
                f"SELECT ts, open, close, volume FROM {view} "
                "WHERE timeframe = $1::text::timeframe ORDER BY ts",
                timeframe,
            )]
            for view in ("ohlc_bars", "ohlc_bars_regular", "ohlc_bars_adjusted")
        ]  # fmt: skip
        assert views[0] == views[1] == views[2] != []
    begins = query(database_url, "SELECT backfill_midnight(d, 'FX') FROM unnest($1::date[]) AS d",
                   [date(2024, 3, 11), date(2024, 11, 4)])  # fmt: skip
    assert [row[0].isoformat() for row in begins] == [
        "2024-03-10T21:00:00+00:00",
        "2024-11-03T22:00:00+00:00",
    ]


def test_a_day_closed_by_hand_has_no_slots_and_an_hour_that_is_gone_is_a_gap_and_comes_back(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    query(
        database_url,
        "UPDATE market_sessions SET manual = true, opens_at = NULL, closes_at = NULL "
        "WHERE calendar = 'FX' AND session = '2024-12-24'",
    )
    simulator.inject(
        Fault(
            action=Action.LACKING,
            ticker="C:EURUSD",
            span_ms=(midnight_ms(date(2024, 12, 24), "C:"), midnight_ms(date(2024, 12, 26), "C:")),
        )
    )
    as_of = ("--as-of", MONDAY.isoformat())
    frames = ("-t", "h1", "-t", "d1", "--from", "2024-12-16")
    assert backfill("run", "--symbol", "EUR/USD", *frames, *as_of).code == 0
    days = [in_new_york(row[0]).day for row in stored_bars(database_url, "EUR/USD", Timeframe.d1)]
    assert days == [15, 16, 17, 18, 19, 22, 25, 26, 29, 30, 1, 2]
    assert query(database_url, "SELECT * FROM known_empty") == []

    gone = "DELETE FROM ohlc_bars WHERE timeframe = 'h1' AND ts = '2024-12-29T22:00Z'"
    query(database_url, gone)
    found = backfill("gaps", *as_of, "--json")
    [series] = found.json["series"]
    assert (found.code, series["timeframe"]) == (4, "h1")
    assert [gap["slots"] for gap in series["gaps"]] == [1]
    assert backfill("gaps", "--repair", *as_of).code == 0
    assert backfill("gaps", *as_of).code == 0


def test_on_the_free_plan_a_trade_date_is_due_once_the_utc_day_has_ended_too(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    command = ("run", "--symbol", "EUR/USD", "-t", "d1", "--from", "2024-12-30")
    for now, until in (("2025-01-03T23:30Z", 2), ("2025-01-04T02:00Z", 3)):
        instant = datetime.fromisoformat(now)
        simulator.set_now(instant)
        assert backfill(*command, "--as-of", instant.isoformat()).code == 0
        last = stored_bars(database_url, "EUR/USD", Timeframe.d1)[-1]
        assert last[0] == midnight_ms(date(2025, 1, until), "C:")


def test_a_provider_without_currencies_is_not_asked(backfill: Cli, simulator: Simulator) -> None:
    ended = backfill("run", "--symbol", "EUR/USD", "--provider", "kraken", "-t", "d1", "--json")
    [failure] = ended.json["failures"]
    assert (ended.code, failure["outcome"], simulator.calls) == (1, "not_entitled", [])
