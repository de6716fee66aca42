"""Gaps through the front door: found by the calendar, repaired by asking for just them (R6, R7)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import Cli, query, stored_bars

NOW = "2024-12-04T12:00:00Z"
RANGE = ("--from", "2024-06-24", "--to", "2024-12-03")

Made = Callable[..., Cli]
Simulate = Callable[..., Simulator]


def delete(url: str, ticker: str, timeframe: str, where: str) -> int:
    """Delete bars of a series and return how many there were."""
    rows = query(
        url,
        f"""
        DELETE FROM ohlc_bars AS o USING symbols AS s
        WHERE s.id = o.symbol_id AND s.ticker = $1 AND o.timeframe = $2::text::timeframe AND {where}
        RETURNING 1
        """,
        ticker,
        timeframe,
    )
    return len(rows)


@pytest.fixture
def simulator(simulate: Simulate) -> Simulator:
    return simulate(plan="free", now=datetime(2024, 12, 4, 12, tzinfo=UTC))


@pytest.fixture
def backfill(cli: Made, simulator: Simulator) -> Cli:
    return cli(simulator)


def loaded(backfill: Cli, ticker: str, *timeframes: str) -> None:
    frames = [part for timeframe in timeframes for part in ("-t", timeframe)]
    ended = backfill("run", "--symbol", ticker, *frames, *RANGE, "--as-of", NOW)
    assert ended.code == 0, ended.err


def test_one_bar_of_an_ordinary_tuesday_is_one_gap_and_comes_back_as_it_was(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    loaded(backfill, "AAPL", "m15", "d1", "w1", "mn1")
    before = stored_bars(database_url, "AAPL", Timeframe.m15)
    none = backfill("gaps", "--as-of", NOW, "--json")
    assert (none.code, none.json) == (0, {"series": []})

    assert delete(database_url, "AAPL", "m15", "ts = '2024-11-19T15:00Z'") == 1
    found = backfill("gaps", "--as-of", NOW, "--json")
    assert found.code == 4
    gap = {"from": "2024-11-19T15:00:00+00:00", "to": "2024-11-19T15:15:00+00:00", "slots": 1}
    assert found.json == {"series": [{"symbol": "AAPL", "timeframe": "m15", "gaps": [gap]}]}

    calls = len(simulator.calls)
    repaired = backfill("gaps", "--repair", "--as-of", NOW, "--json")
    assert repaired.code == 0, repaired.err
    assert repaired.json["series"] == []
    assert repaired.json["run"]["bars"]["inserted"] == 1
    assert len(simulator.calls) == calls + 1
    assert stored_bars(database_url, "AAPL", Timeframe.m15) == before
    assert (
        backfill("run", "--symbol", "AAPL", "-t", "m15", "--as-of", NOW, "--incremental").code == 0
    )
    assert len(simulator.calls) == calls + 1


@pytest.mark.soak
def test_series_that_share_their_sessions_have_each_their_own_gaps(
    backfill: Cli, database_url: str
) -> None:
    for ticker in ("AAPL", "MSFT"):
        loaded(backfill, ticker, "m30", "d1")
    assert delete(database_url, "AAPL", "m30", "ts = '2024-11-19T15:00Z'") == 1
    assert delete(database_url, "MSFT", "m30", "ts = '2024-11-20T16:30Z'") == 1
    assert delete(database_url, "MSFT", "d1", "ts = '2024-11-21T05:00Z'") == 1

    found = backfill("gaps", "--as-of", NOW, "--json").json["series"]
    assert [
        (one["symbol"], one["timeframe"], gap["from"][:16], gap["slots"])
        for one in found
        for gap in one["gaps"]
    ] == [
        ("AAPL", "m30", "2024-11-19T15:00", 1),
        ("MSFT", "m30", "2024-11-20T16:30", 1),
        ("MSFT", "d1", "2024-11-21T05:00", 1),
    ]


@pytest.mark.parametrize(
    "timeframe",
    ["d1", *(pytest.param(one, marks=pytest.mark.soak) for one in ("h1", "h4", "w1"))],
)
def test_head_middle_and_tail_are_found_and_repaired(
    backfill: Cli, database_url: str, timeframe: str
) -> None:
    loaded(backfill, "MSFT", timeframe)
    before = stored_bars(database_url, "MSFT", Timeframe(timeframe))
    for where in (
        "ts < '2024-07-02'",
        "ts BETWEEN '2024-09-02' AND '2024-09-12'",
        "ts > '2024-11-22'",
    ):
        assert delete(database_url, "MSFT", timeframe, where) > 0
    found = backfill("gaps", "--as-of", NOW, "--json")
    assert found.code == 4
    assert len(found.json["series"][0]["gaps"]) == 3
    assert backfill("gaps", "--repair", "--as-of", NOW).code == 0
    assert stored_bars(database_url, "MSFT", Timeframe(timeframe)) == before


def test_a_bar_that_nobody_traded_is_no_gap_and_costs_no_call(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    loaded(backfill, "VTHIN", "m15")
    assert backfill("gaps", "--as-of", NOW).code == 0
    calls = len(simulator.calls)
    assert backfill("gaps", "--repair", "--as-of", NOW).code == 0
    assert len(simulator.calls) == calls
    # An empty slot forgotten within a session that traded is asked for once, and known again.
    query(database_url, "DELETE FROM known_empty WHERE month = '2024-10-01'")
    assert backfill("gaps", "--as-of", NOW).code == 4
    assert backfill("gaps", "--repair", "--as-of", NOW).code == 0
    reasons = query(database_url, "SELECT DISTINCT reason FROM known_empty")
    assert [row[0] for row in reasons] == ["no_trades"]


def test_a_session_the_provider_lacks_is_asked_again_another_day_then_left_alone(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    # HALTED has no bar of 2024-05-14 and 15.
    run = ("run", "--symbol", "HALTED", "-t", "d1")
    ended = backfill(*run, "--from", "2024-05-01", "--to", "2024-05-31", "--as-of", NOW)
    assert ended.code == 0
    bars = [call for call in simulator.calls if call.kind == "bars"]
    held = backfill("gaps", "--as-of", NOW, "--json", BACKFILL_SINCE="2024-05-01")
    assert held.code == 4
    gaps = held.json["series"][0]["gaps"]
    absent = [gap for gap in gaps if gap.get("reason") == "absent"]
    assert [gap["slots"] for gap in absent] == [2]
    again = datetime.fromisoformat(absent[0]["again"]) - datetime.fromisoformat(NOW)
    assert timedelta() < again <= timedelta(days=1)
    # The same day nothing more is asked for it, and it is told when it is.
    kept = backfill("gaps", "--repair", "--as-of", NOW)
    assert (kept.code, "absent: asked for again from" in kept.out) == (4, True)
    asked = [call for call in simulator.calls if call.kind == "bars"]
    assert not any("2024-05-14" in call.path for call in asked[len(bars) :])

    tomorrow = (datetime.fromisoformat(NOW) + timedelta(days=1)).isoformat()
    simulator.set_now(datetime.fromisoformat(tomorrow))
    before = len(simulator.calls)
    assert backfill("gaps", "--repair", "--as-of", tomorrow).code == 0
    assert any("/2024-05-14/" in call.path for call in simulator.calls[before:])
    before = len(simulator.calls)
    for days in (2, 3):
        later = (datetime.fromisoformat(NOW) + timedelta(days=days)).isoformat()
        simulator.set_now(datetime.fromisoformat(later))
        backfill("gaps", "--repair", "--as-of", later)
    assert not any("2024-05-14" in call.path for call in simulator.calls[before:])


def test_a_repair_cut_short_is_finished_by_the_next_run(
    backfill: Cli, simulator: Simulator, database_url: str, market: Market
) -> None:
    loaded(backfill, "JPM", "d1")
    before = stored_bars(database_url, "JPM", Timeframe.d1)
    delete(database_url, "JPM", "d1", "ts BETWEEN '2024-09-02' AND '2024-09-12'")
    simulator.inject(Fault(action=Action.STATUS, status=403, ticker="JPM"))
    assert backfill("gaps", "--repair", "--as-of", NOW).code == 1
    simulator.clear_faults()
    query(database_url, "UPDATE backfill_progress SET denied_until = now() - interval '9 years'")
    assert backfill("run", "--symbol", "JPM", "--incremental", "--as-of", NOW).code == 0
    assert stored_bars(database_url, "JPM", Timeframe.d1) == before
