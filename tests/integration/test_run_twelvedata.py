"""Twelve Data through its simulator: stocks, currencies and coins, each by its own rules."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import KEY, Cli, query, stored_bars
from tests.integration.truth import Row, assert_same, midnight_ms, true_bars

pytestmark = pytest.mark.wide

NOW = datetime(2024, 11, 18, 12, tzinfo=UTC)
SINCE = date(2024, 11, 1)
FRAMES = ("m30", "h1", "h4", "d1", "w1")
ALL = [part for name in FRAMES for part in ("-t", name)]
SOURCES = """
    SELECT s.ticker, p.timeframe::text, p.adjustment, p.derived_from::text
    FROM backfill_progress AS p JOIN symbols AS s ON s.id = p.symbol_id
    WHERE p.timeframe IN ('h1', 'd1', 'w1')
    ORDER BY s.ticker, p.timeframe
"""


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(provider="twelvedata", now=NOW)


@pytest.fixture
def backfill(cli: Callable[..., Cli], simulator: Simulator) -> Cli:
    return cli(
        simulator,
        BACKFILL_PROVIDER="twelvedata",
        BACKFILL_PROVIDER_URL=simulator.url,
        TWELVEDATA_API_KEY=KEY,
    )


def told(rows: list[Row], *, volume: bool) -> list[Row]:
    """What of the market's bars is told: no vwap, no count, of currencies no volume."""
    return [(*row[:5], row[5] if volume else 0.0, None, None) for row in rows]


def test_pairs_have_days_made_of_hours_and_a_split_is_in_the_days_of_shares_alone(
    backfill: Cli, simulator: Simulator, database_url: str, market: Market
) -> None:
    symbols = [part for name in ("EUR/USD", "BTC/USD", "RVRS") for part in ("--symbol", name)]
    as_of = ("--as-of", NOW.isoformat(), "--json")
    command = ("run", *symbols, *ALL, "--from", str(SINCE), *as_of)
    planned = backfill(*command, "--dry-run").json
    loaded = backfill(*command)
    assert (loaded.code, loaded.json["failures"], loaded.json["bars"]["rejected"]) == (0, [], 0)
    # Of each pair half hours serve all; of a share half hours and days.
    assert planned["calls"] == planned["calls_max"] == loaded.json["calls"] == 4
    assert {call.cost for call in simulator.calls} == {1}

    for ticker, name in (("EUR/USD", "C:EURUSD"), ("BTC/USD", "X:BTCUSD")):
        for frame in ("m30", "h4", "d1"):
            stored = stored_bars(database_url, ticker, Timeframe(frame))
            true = true_bars(market, name, Timeframe(frame), SINCE, date(2024, 11, 19), NOW)
            true = [row for row in true if row[0] <= stored[-1][0]]
            assert_same(stored, told(true, volume=name[0] == "X"), rolled_up=True)
            assert len(stored) > 10
    sources = [tuple(row) for row in query(database_url, SOURCES)]
    assert sources == [
        *(("BTC/USD", frame, "raw", "m30") for frame in ("h1", "d1", "w1")),
        *(("EUR/USD", frame, "raw", "m30") for frame in ("h1", "d1", "w1")),
        ("RVRS", "h1", "raw", "m30"),
        ("RVRS", "d1", "split", None),
        ("RVRS", "w1", "split", "d1"),
    ]

    calls = len(simulator.calls)
    assert backfill(*command).json["calls"] == 0
    assert len(simulator.calls) == calls
    assert backfill("status", *as_of).code == 0
    gaps = backfill("gaps", *as_of)
    assert (gaps.code, gaps.json) == (0, {"series": []})


def test_before_a_split_days_are_on_the_new_basis_and_minutes_on_the_old(
    backfill: Cli, database_url: str, market: Market
) -> None:
    # One share of eight from 2024-09-23 on.
    ran = backfill(
        "run", "--symbol", "RVRS", "-t", "m30", "-t", "d1", "--from", "2024-09-16",
        "--to", "2024-09-24", "--as-of", NOW.isoformat(),
    )  # fmt: skip
    assert ran.code == 0, ran.err
    bounds = date(2024, 9, 16), date(2024, 9, 25)
    days = stored_bars(database_url, "RVRS", Timeframe.d1)
    adjusted = true_bars(market, "RVRS", Timeframe.d1, *bounds, NOW, adjusted=True)
    assert days == told(adjusted, volume=True)
    minutes = stored_bars(database_url, "RVRS", Timeframe.m30)
    assert len(minutes) == 7 * 13
    assert 6 < days[0][1] / minutes[0][1] < 10
    assert 0.5 < days[-1][1] / minutes[-13][1] < 2


def test_what_is_said_to_be_nothing_is_asked_for_again_another_day_and_not_before(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    fortnight = midnight_ms(date(2024, 11, 4), "C:"), midnight_ms(date(2024, 11, 19), "C:")
    lack = Fault(action=Action.LACKING, ticker="C:EURUSD", span_ms=fortnight)
    simulator.inject(lack)
    command = ("run", "--symbol", "EUR/USD", "-t", "h1", "--from", "2024-11-04", "--json")
    empty = backfill(*command, "--as-of", NOW.isoformat())
    assert (empty.json["calls"], empty.json["bars"]["inserted"]) == (1, 0)
    assert backfill(*command, "--as-of", NOW.isoformat()).json["calls"] == 0
    simulator.clear_faults()
    simulator.set_now(NOW + timedelta(days=1))
    healed = backfill(*command, "--as-of", (NOW + timedelta(days=1)).isoformat())
    assert healed.code == 0, healed.err
    assert len(stored_bars(database_url, "EUR/USD", Timeframe.h1)) == 11 * 24 + 13


def test_a_call_about_several_symbols_costs_a_credit_for_each(simulator: Simulator) -> None:
    seen = simulator.wire.see("/time_series", {"symbol": "AAPL,EUR/USD,BTC/USD"})
    assert (seen.cost, seen.about) == (3, ("AAPL", "C:EURUSD", "X:BTCUSD"))
