"""Several timeframes for the calls of one: the finest is fetched, the others are rolled up."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Market, Simulator
from tests.conftest import NOW, Cli, query, stored_bars
from tests.integration.truth import asked, assert_same, true_bars

Made = Callable[..., Cli]
Simulate = Callable[..., Simulator]

AS_OF = ("--as-of", NOW.isoformat())
SINCE = ("--from", "2024-10-07")
DAYS = (date(2024, 10, 7), NOW.date())
INTRADAY = "m1,m5,m15,m30,h1,h4"


@pytest.fixture
def simulator(simulate: Simulate) -> Simulator:
    return simulate()


@pytest.fixture
def backfill(cli: Made, simulator: Simulator) -> Cli:
    return cli(simulator)


def bases(url: str) -> dict[str, str | None]:
    """What the ledger says each series is derived from."""
    rows = query(
        url, "SELECT timeframe::text, derived_from::text FROM backfill_progress ORDER BY timeframe"
    )
    return {row[0]: row[1] for row in rows}


def test_six_timeframes_cost_the_calls_of_m1_and_the_plan_says_what_that_saves(
    backfill: Cli, simulator: Simulator, market: Market, database_url: str
) -> None:
    run = ("run", "--symbol", "AAPL", "-t", INTRADAY, *SINCE, *AS_OF, "--json")
    alone = backfill("run", "--symbol", "AAPL", "-t", "m1", *SINCE, *AS_OF, "--dry-run", "--json")
    planned = backfill(*run, "--dry-run")
    assert planned.json["calls"] == alone.json["calls"]
    # m5 to h1 each take as many pages; h4 is rolled up from h1 in any case.
    assert planned.json["calls_saved"] == 4 * alone.json["calls"]
    paying = {one["timeframe"]: one["calls"] for one in planned.json["series"]}
    assert [timeframe for timeframe, calls in paying.items() if calls] == ["m1"]

    ended = backfill(*run)
    assert ended.code == 0, ended.err
    assert {call.unit for call in asked(simulator)} == {"1 minute"}
    assert ended.json["calls"] <= planned.json["calls_max"]
    finest = dict.fromkeys(("m5", "m15", "m30", "h1", "h4"), "m1")
    assert bases(database_url) == {"m1": None, **finest}
    for name in INTRADAY.split(","):
        assert_same(
            stored_bars(database_url, "AAPL", Timeframe(name)),
            true_bars(market, "AAPL", Timeframe(name), *DAYS),
            rolled_up=name != "m1",
        )


def test_who_turns_it_off_has_each_timeframe_as_the_provider_has_it(
    backfill: Cli, simulator: Simulator, market: Market, database_url: str
) -> None:
    frames = ("m15", "h1", "d1", "w1")
    run = ("run", "--symbol", "AAPL", "-t", ",".join(frames), *SINCE, *AS_OF, "--json")
    ended = backfill(*run, BACKFILL_DERIVE="off")
    assert ended.code == 0, ended.err
    assert {call.unit for call in asked(simulator)} == {
        "15 minute", "1 hour", "1 day", "1 week",
    }  # fmt: skip
    assert bases(database_url) == dict.fromkeys(frames)
    for name in ("m15", "h1", "d1"):
        assert_same(
            stored_bars(database_url, "AAPL", Timeframe(name)),
            true_bars(market, "AAPL", Timeframe(name), *DAYS),
        )
    # What has a source of its own keeps it when derivation is on again.
    later = backfill(*run)
    assert (later.code, later.json["calls"]) == (0, 0)
    assert bases(database_url) == dict.fromkeys(frames)


def test_a_coarser_timeframe_added_later_comes_from_stored_bars_without_a_call(
    backfill: Cli, simulator: Simulator, market: Market, database_url: str
) -> None:
    first = backfill("run", "--symbols", "AAPL,VTHIN", "-t", "m1,d1", *SINCE, *AS_OF)
    assert first.code == 0, first.err
    calls = len(simulator.calls)
    added = ("run", "--symbols", "AAPL,VTHIN", "-t", f"{INTRADAY},d1,w1", *SINCE, *AS_OF, "--json")
    planned = backfill(*added, "--dry-run")
    assert planned.json["calls"] == 0
    ended = backfill(*added)
    assert ended.code == 0, ended.err
    assert (ended.json["calls"], len(simulator.calls)) == (0, calls)
    for ticker in ("AAPL", "VTHIN"):
        for name in ("m5", "m15", "m30", "h1", "h4"):
            assert_same(
                stored_bars(database_url, ticker, Timeframe(name)),
                true_bars(market, ticker, Timeframe(name), *DAYS),
                rolled_up=True,
            )
    # What nobody traded is known to be empty, as if it had been fetched.
    assert backfill("gaps", *AS_OF, *SINCE).code == 0


def test_an_increment_completes_the_buckets_that_the_last_one_left_open(
    cli: Made, simulate: Simulate, market: Market, database_url: str
) -> None:
    noon = datetime(2024, 11, 12, 17, 31, tzinfo=UTC)
    simulator = simulate(now=noon, plan="unlimited")
    backfill = cli(simulator, BACKFILL_PLAN="unlimited")
    run = ("run", "--symbol", "AAPL", "-t", "m1,h1,h4", "--from", "2024-11-11", "--json")
    assert backfill(*run, "--as-of", noon.isoformat()).code == 0
    held = stored_bars(database_url, "AAPL", Timeframe.h4)
    evening = datetime(2024, 11, 13, 2, tzinfo=UTC)
    simulator.set_now(evening)
    ended = backfill(*run, "--incremental", "--as-of", evening.isoformat())
    assert (ended.code, ended.json["calls"]) == (0, 1)
    rows = stored_bars(database_url, "AAPL", Timeframe.h4)
    assert len(rows) > len(held)
    for name in ("m1", "h1", "h4"):
        assert_same(
            stored_bars(database_url, "AAPL", Timeframe(name)),
            true_bars(market, "AAPL", Timeframe(name), date(2024, 11, 11), date(2024, 11, 13)),
            rolled_up=name != "m1",
        )


def test_a_lost_bar_of_a_derived_series_comes_back_without_a_call_if_its_base_is_whole(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    run = ("run", "--symbol", "AAPL", "-t", "m5,h1", *SINCE, *AS_OF)
    assert backfill(*run).code == 0
    before = {name: stored_bars(database_url, "AAPL", Timeframe(name)) for name in ("m5", "h1")}
    calls = len(simulator.calls)
    query(database_url, "DELETE FROM ohlc_bars WHERE timeframe = 'h1' AND ts = '2024-10-15 15:00Z'")
    repaired = backfill("gaps", "--repair", *SINCE, *AS_OF, "--json")
    assert (repaired.code, repaired.json["run"]["bars"]["inserted"]) == (0, 1)
    assert len(simulator.calls) == calls
    assert before["h1"] == stored_bars(database_url, "AAPL", Timeframe.h1)

    # Where a part of the base is gone too, both are fetched.
    query(database_url, "DELETE FROM ohlc_bars WHERE timeframe = 'h1' AND ts = '2024-10-16 15:00Z'")
    query(database_url, "DELETE FROM ohlc_bars WHERE timeframe = 'm5' AND ts = '2024-10-16 15:10Z'")
    assert backfill("gaps", "--repair", "-t", "h1", *SINCE, *AS_OF).code == 0
    assert before["h1"] == stored_bars(database_url, "AAPL", Timeframe.h1)
    assert len(asked(simulator, calls)) == 1
    assert backfill("gaps", "--repair", *SINCE, *AS_OF).code == 0
    assert before["m5"] == stored_bars(database_url, "AAPL", Timeframe.m5)


def test_a_correction_of_a_derived_bar_is_fetched_for_its_base_as_well(
    backfill: Cli, database_url: str
) -> None:
    run = ("run", "--symbol", "AAPL", "-t", "m30,h1", *SINCE, *AS_OF)
    assert backfill(*run).code == 0
    before = {name: stored_bars(database_url, "AAPL", Timeframe(name)) for name in ("m30", "h1")}
    where = "WHERE ts BETWEEN '2024-10-15 15:00Z' AND '2024-10-15 15:59Z'"
    query(database_url, f"UPDATE ohlc_bars SET volume = volume + 7 {where}")
    mended = backfill("gaps", "--verify", "--repair", "-t", "h1", *SINCE, *AS_OF, "--json")
    assert mended.code == 0, mended.err
    assert mended.json["run"]["bars"]["updated"] == 3
    assert before == {
        name: stored_bars(database_url, "AAPL", Timeframe(name)) for name in ("m30", "h1")
    }


def test_a_reload_gives_a_series_its_new_base_and_a_plain_run_leaves_the_old_one(
    backfill: Cli, simulator: Simulator, market: Market, database_url: str
) -> None:
    assert backfill("run", "--symbol", "AAPL", "-t", "h1", *SINCE, *AS_OF).code == 0
    both = ("run", "--symbol", "AAPL", "-t", "m15,h1", *SINCE, *AS_OF)
    assert backfill(*both).code == 0
    assert bases(database_url) == {"m15": None, "h1": None}
    calls = len(simulator.calls)
    reloaded = backfill(*both, "--reload", "--json")
    assert reloaded.code == 0, reloaded.err
    assert bases(database_url) == {"m15": None, "h1": "m15"}
    assert {call.unit for call in asked(simulator, calls)} == {"15 minute"}
    assert_same(
        stored_bars(database_url, "AAPL", Timeframe.h1),
        true_bars(market, "AAPL", Timeframe.h1, *DAYS),
        rolled_up=True,
    )


def test_what_stored_bars_leave_open_is_fetched_in_its_place_among_the_rest(
    backfill: Cli, market: Market, database_url: str
) -> None:
    middle = ("--from", "2024-09-03", "--to", "2024-10-18")
    assert backfill("run", "--symbol", "AAPL", "-t", "m5", *middle, *AS_OF).code == 0
    # One that is not fetched again, since it is covered: what it is part of is fetched.
    query(database_url, "DELETE FROM ohlc_bars WHERE ts = '2024-10-15 15:10Z'")
    ended = backfill("run", "--symbol", "AAPL", "-t", "m5,h1", "--from", "2024-08-05", *AS_OF)
    assert ended.code == 0, ended.err
    for name in ("m5", "h1"):
        assert_same(
            stored_bars(database_url, "AAPL", Timeframe(name)),
            true_bars(market, "AAPL", Timeframe(name), date(2024, 8, 5), NOW.date()),
            rolled_up=name == "h1",
        )


def test_what_is_derived_follows_its_base_when_that_is_corrected_or_reloaded(
    backfill: Cli, simulator: Simulator, database_url: str
) -> None:
    run = ("run", "--symbol", "AAPL", "-t", "m30,h1", *SINCE, *AS_OF)
    assert backfill(*run).code == 0
    before = {name: stored_bars(database_url, "AAPL", Timeframe(name)) for name in ("m30", "h1")}

    def wrong() -> None:
        where = "WHERE ts BETWEEN '2024-10-15 15:00Z' AND '2024-10-15 15:29Z'"
        query(database_url, f"UPDATE ohlc_bars SET volume = volume + 7 {where}")

    wrong()
    mended = backfill("gaps", "--verify", "--repair", "-t", "m30", *SINCE, *AS_OF, "--json")
    assert (mended.code, mended.json["run"]["bars"]["updated"]) == (0, 2)
    assert before == {
        name: stored_bars(database_url, "AAPL", Timeframe(name)) for name in ("m30", "h1")
    }

    wrong()
    day = ("--from", "2024-10-15", "--to", "2024-10-15")
    again = ("run", "--symbol", "AAPL", "-t", "m30", *day, *AS_OF, "--reload", "--json")
    reloaded = backfill(*again)
    # The hours, which nobody has asked for, have followed by the end of that run.
    assert (reloaded.code, reloaded.json["bars"]["updated"]) == (0, 2)
    assert before == {
        name: stored_bars(database_url, "AAPL", Timeframe(name)) for name in ("m30", "h1")
    }
    calls = len(simulator.calls)
    ended = backfill(*run, "--incremental", "--json")
    assert (ended.code, ended.json["calls"], ended.json["bars"]["updated"]) == (0, 0, 0)
    assert len(simulator.calls) == calls
