"""Bars lost before the open and after the close: found where other bars prove it, and asked for."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Simulator
from tests.conftest import Cli, Ended, query, stored_bars
from tests.integration.test_gaps_repair import lose
from tests.integration.truth import asked

NOW = "2024-11-12T12:00:00Z"
AS_OF = ("--as-of", NOW)
FRAMES = (Timeframe.m1, Timeframe.m5, Timeframe.h1)


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(now=datetime(2024, 11, 12, 12, tzinfo=UTC), plan="unlimited")


@pytest.fixture
def backfill(cli: Callable[..., Cli], simulator: Simulator) -> Cli:
    return cli(simulator, BACKFILL_PLAN="unlimited")


def load(backfill: Cli, ticker: str = "AAPL") -> None:
    frames = [part for one in FRAMES for part in ("-t", str(one))]
    ended = backfill("run", "--symbol", ticker, *frames, "--from", "2024-11-06", *AS_OF)
    assert ended.code == 0, ended.err


def all_bars(url: str) -> list[list[tuple[object, ...]]]:
    return [stored_bars(url, "AAPL", one) for one in FRAMES]


def starts(url: str, timeframe: str, first: str, until: str) -> list[str]:
    """The starts of the stored bars of AAPL from one instant to before another."""
    rows = query(
        url,
        "SELECT ts FROM ohlc_bars AS o JOIN symbols AS s ON s.id = o.symbol_id "
        "WHERE s.ticker = 'AAPL' AND timeframe = $1::text::timeframe "
        "AND ts >= $2::text::timestamptz AND ts < $3::text::timestamptz ORDER BY ts",
        timeframe,
        first,
        until,
    )
    return [row[0].isoformat() for row in rows]


def found(ended: Ended) -> list[tuple[str, str, str, int]]:
    return [
        (one["timeframe"], gap["from"][:16], gap["to"][:16], gap["slots"])
        for one in ended.json["series"]
        for gap in one["gaps"]
    ]


@pytest.mark.attack(9)
def test_a_minute_lost_before_the_open_is_found_by_the_bars_made_of_it_and_comes_back(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    load(backfill)
    load(backfill, "THIN")
    before = all_bars(database_url)
    assert backfill("gaps", "--extended", *AS_OF, "--json").json == {"series": []}
    # A minute and, in another hour, a bar of five minutes, with its hour; 08:00 is 13:00Z.
    [lost, *_] = starts(database_url, "m1", "2024-11-07T13:20Z", "2024-11-07T13:25Z")
    lose(database_url, "AAPL", "m1", lost)
    lose(database_url, "AAPL", "m5", "2024-11-08T12:30Z")
    lose(database_url, "AAPL", "h1", "2024-11-08T12:00Z")
    assert backfill("gaps", *AS_OF).code == 0

    told = backfill("gaps", "--extended", *AS_OF, "--json")

    assert told.code == 4
    (_, first, last, _), *others = found(told)
    assert "2024-11-07T13:20" <= first <= lost[:16] < last <= "2024-11-07T13:25"
    assert [one for one in others if one[0] != "m1"] == [
        ("m5", "2024-11-08T12:30", "2024-11-08T12:35", 1),
        ("h1", "2024-11-08T12:00", "2024-11-08T13:00", 1),
    ]
    only = backfill("gaps", "--extended", "-t", "h1", *AS_OF, "--json")
    assert found(only) == [("h1", "2024-11-08T12:00", "2024-11-08T13:00", 1)]
    calls = len(simulator.calls)
    repaired = backfill("gaps", "--extended", "--repair", *AS_OF, "--json")
    assert (repaired.code, found(repaired)) == (0, [])
    assert all_bars(database_url) == before
    assert {call.ticker for call in asked(simulator, calls)} == {"AAPL"}
    assert backfill("gaps", "--extended", *AS_OF).code == 0


@pytest.mark.soak
@pytest.mark.attack(9)
def test_where_a_whole_five_minutes_are_gone_the_hour_still_tells(
    backfill: Cli, database_url: str
) -> None:
    load(backfill)
    before = all_bars(database_url)
    gone = "2024-11-07T13:20Z", "2024-11-07T13:25Z"
    lose(database_url, "AAPL", "m1", *starts(database_url, "m1", *gone))
    lose(database_url, "AAPL", "m5", gone[0])

    told = backfill("gaps", "--extended", *AS_OF, "--json")

    assert told.code == 4
    assert {one[0] for one in found(told)} == {"m1"}
    assert all("2024-11-07T13:00" <= one[1] < "2024-11-07T14:00" for one in found(told))
    assert backfill("gaps", "--extended", "--repair", *AS_OF).code == 0
    assert all_bars(database_url) == before


@pytest.mark.attack(9)
def test_a_repair_within_the_session_loses_nothing_of_the_hour_that_it_opens_in(
    backfill: Cli, database_url: str
) -> None:
    load(backfill)
    before = all_bars(database_url)
    # The hour from 09:00 in New York holds half an hour before the open.
    [early, *_] = starts(database_url, "m1", "2024-11-07T14:00Z", "2024-11-07T14:30Z")
    [late, *_] = starts(database_url, "m1", "2024-11-07T14:40Z", "2024-11-07T14:45Z")
    lose(database_url, "AAPL", "m1", early, late)

    assert backfill("gaps", "--repair", *AS_OF).code == 0
    assert all_bars(database_url) == before
