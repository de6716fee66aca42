"""The daily increment: one grouped call for a session of all series, where that is cheaper."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import Cli, Ended, query, stored_bars
from tests.integration.truth import Asked, asked, assert_same, midnight_ms, true_bars

SINCE = date(2024, 11, 4)
LOADED = date(2024, 11, 12)
"""A Tuesday: Monday's session is the newest that is final at its noon."""
MANY = tuple(f"SIM{number:03}" for number in range(40))

Incremental = Callable[..., tuple[Ended, list[Asked]]]


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate()


@pytest.fixture
def backfill(simulator: Simulator, cli: Callable[..., Cli]) -> Cli:
    return cli(simulator)


@pytest.fixture
def run(simulator: Simulator, backfill: Cli) -> Incremental:
    """Run the watchlist as of a day's noon; with the calls for bars."""

    def one(day: date, *options: str, mode: str = "--incremental") -> tuple[Ended, list[Asked]]:
        simulator.set_now(noon(day))
        calls = len(simulator.calls)
        as_of = ("--as-of", noon(day).isoformat(), "--json")
        ended = backfill("run", "--all", *([mode] if mode else []), *as_of, *options)
        return ended, asked(simulator, calls)

    return one


@pytest.fixture
def load(backfill: Cli, run: Incremental) -> Callable[..., None]:
    """Watch symbols and load them up to a day's noon."""

    def one(*tickers: str, timeframes: tuple[str, ...] = ("d1",)) -> None:
        options = [word for timeframe in timeframes for word in ("-t", timeframe)]
        assert backfill("watch", "add", *tickers, *options, "--since", str(SINCE)).code == 0
        ended, calls = run(LOADED)
        assert ended.code == 0, ended.err
        assert "grouped" not in {call.unit for call in calls}

    return one


def grouped(*days: str) -> list[Asked]:
    return [Asked("*", "grouped", day, day) for day in days]


def assert_whole(url: str, market: Market, tickers: tuple[str, ...], until: date) -> None:
    for ticker in tickers:
        assert_same(
            stored_bars(url, ticker, Timeframe.d1),
            true_bars(market, ticker, Timeframe.d1, SINCE, until),
        )


def test_the_newest_day_of_forty_symbols_is_one_call_and_nothing_the_second_time(
    market: Market, run: Incremental, load: Callable[..., None], database_url: str
) -> None:
    load(*MANY)
    day = LOADED + timedelta(days=1)
    planned, _ = run(day, "--dry-run")

    ended, calls = run(day)

    assert ended.code == 0, ended.err
    assert calls == grouped("2024-11-12")
    assert (planned.json["calls"], planned.json["calls_grouped"], ended.json["calls"]) == (1, 1, 1)
    assert planned.json["calls_max"] == 1 + len(MANY)
    assert {one["calls"] for one in planned.json["series"]} == {0}
    assert ended.json["series"] | {"complete": 0} == {
        "total": 40, "complete": 0, "partial": 0, "failed": 0, "skipped": 0,
    }  # fmt: skip
    assert ended.json["bars"]["inserted"] == len(MANY)
    assert_whole(database_url, market, MANY, day)
    assert run(day)[1] == []
    held = query(database_url, "SELECT count(*) FROM backfill_progress WHERE claimed_by IS NOT NULL")
    assert held[0][0] == 0
