"""One company per series: a listing date cuts it only where the bars break there too."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import first_of, query, stored_bars
from tests.integration.truth import asked, assert_same, midnight_ms, true_bars

Run = Callable[..., api.Summary]
NOW = datetime(2011, 10, 3, 12, tzinfo=UTC)
FIRST, LISTED, END = date(2011, 3, 1), date(2011, 7, 1), date(2011, 10, 3)

OTHERS = [one for one in Timeframe if one not in {Timeframe.d1, Timeframe.w1, Timeframe.m1}]
QUARANTINED = """
    SELECT timeframe::text, reason, count(DISTINCT ts), min(ts)::date, max(ts)::date
    FROM quarantined_bars
    GROUP BY timeframe, reason
    ORDER BY timeframe
"""
LISTING = """
    SELECT listed_on, listing_verdict, reference_listed_on FROM symbols WHERE ticker = $1
"""


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(plan="unlimited")


@pytest.fixture
def run(run_here: Run) -> Run:
    return run_here


def quarantined(url: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in query(url, QUARANTINED)]


def own(market: Market, timeframe: Timeframe, *, adjusted: bool = False) -> list[Any]:
    """The bars of the company that was listed as MPC on 1 July; its first week is a Friday."""
    first = date(2011, 6, 1) if timeframe is Timeframe.mn1 else date(2011, 6, 27)
    return true_bars(market, "MPC", timeframe, first, END, NOW, adjusted=adjusted)


def assert_own(url: str, market: Market, timeframe: Timeframe, **mode: bool) -> None:
    """Compare what is stored of the days before the last with what they were."""
    until_ms = midnight_ms(END, "MPC")
    stored = [row for row in stored_bars(url, "MPC", timeframe) if row[0] < until_ms]
    rolled = timeframe in {Timeframe.h4, Timeframe.w1, Timeframe.mn1}
    assert_same(stored, own(market, timeframe, **mode), rolled_up=rolled)


def held_by_another(market: Market, timeframe: Timeframe) -> int:
    return len(true_bars(market, "MPC~", timeframe, FIRST, LISTED, NOW))


@pytest.mark.parametrize("depth", ["at once", "then deeper", "then all that is older"])
def test_of_two_companies_under_one_ticker_only_one_is_stored_and_the_other_told_of_once(
    market: Market, simulator: Simulator, run: Run, database_url: str, depth: str
) -> None:
    first = {"at once": None, "then deeper": "2011-07-18", "then all that is older": "2011-07-01"}
    if (before := first[depth]) is not None:
        assert run("2011-10-03", "MPC", before).exit_code == 0

    found = run("2011-10-03", "MPC", "2011-03-01")

    left = held_by_another(market, Timeframe.d1)
    assert (found.exit_code, found.bars.rejected) == (1, left)
    assert [(one.outcome, one.timeframe) for one in found.failures] == [("quarantined", "d1")]
    assert_own(database_url, market, Timeframe.d1)
    assert quarantined(database_url) == [
        ("d1", "before_listing", left, FIRST, date(2011, 6, 30)),
    ]
    assert tuple(query(database_url, LISTING, "MPC")[0]) == (LISTED, "cut", LISTED)
    calls = len(simulator.calls)
    for first_day in ("2011-03-01", "2011-01-03"):
        again = run("2011-10-03", "MPC", first_day)
        assert (again.exit_code, again.calls) == (0, 0)
    assert len(simulator.calls) == calls


def test_no_week_is_made_of_two_companies(
    market: Market, simulator: Simulator, run: Run, database_url: str
) -> None:
    found = run("2011-10-03", "MPC", "2011-03-01", Timeframe.w1)

    assert found.exit_code == 1
    assert_own(database_url, market, Timeframe.w1)
    # The week in which it was listed holds days of both.
    [(frame, reason, bars, _, last)] = quarantined(database_url)
    assert (frame, reason, last) == ("w1", "before_listing", date(2011, 6, 27))
    assert bars == found.bars.rejected == 18  # from the last day of February on
    assert run("2011-10-03", "MPC", "2011-03-01", Timeframe.w1).calls == 0
    assert [(call.unit, call.first) for call in asked(simulator)] == [
        ("1 week", "2011-02-28"),
        ("1 day", "2011-07-01"),
    ]


def test_what_was_stored_of_the_other_company_leaves_and_makes_exit_1_once(
    market: Market, run: Run, database_url: str
) -> None:
    # Nothing tells yet whose these are.
    assert run("2011-06-30", "MPC", "2011-05-02", Timeframe.d1, Timeframe.w1).exit_code == 0
    held = query(database_url, "SELECT count(*) FROM ohlc_bars")[0][0]

    found = run("2011-10-03", "MPC", "2011-05-02", Timeframe.d1, Timeframe.w1)

    assert (found.exit_code, found.bars.withdrawn) == (1, held)
    for timeframe in (Timeframe.d1, Timeframe.w1):
        assert_own(database_url, market, timeframe)
    days = true_bars(market, "MPC~", Timeframe.d1, date(2011, 5, 2), LISTED)
    assert quarantined(database_url)[0][2] == len(days)
    assert run("2011-10-03", "MPC", "2011-05-02", Timeframe.d1, Timeframe.w1).exit_code == 0


@pytest.mark.soak
@pytest.mark.parametrize("mode", list(api.Mode)[:2])
@pytest.mark.parametrize("adjustment", ["raw", "split"])
@pytest.mark.parametrize("timeframe", OTHERS)
def test_every_timeframe_is_one_companys(
    market: Market,
    run: Run,
    database_url: str,
    timeframe: Timeframe,
    adjustment: str,
    mode: api.Mode,
) -> None:
    found = run(
        "2011-10-03", "MPC", "2011-03-01", timeframe, mode=mode, BACKFILL_ADJUSTMENT=adjustment
    )

    assert found.exit_code == 1
    assert_own(database_url, market, timeframe, adjusted=adjustment == "split")
    assert found.bars.rejected == sum(row[2] for row in quarantined(database_url)) > 0
    assert {row[1] for row in quarantined(database_url)} == {"before_listing"}
    again = run("2011-10-03", "MPC", "2011-03-01", timeframe, BACKFILL_ADJUSTMENT=adjustment)
    assert (again.exit_code, again.calls) == (0, 0)


@pytest.mark.parametrize("adjustment", first_of("raw", "split"))
@pytest.mark.parametrize("before", [None, "2022-05-02", "2022-01-03"])
def test_a_listing_date_that_the_bars_doubt_cuts_nothing_whatever_depth_was_asked(
    market: Market, run: Run, database_url: str, before: str | None, adjustment: str
) -> None:
    basis = {"BACKFILL_ADJUSTMENT": adjustment}
    if before is not None:
        assert run("2022-06-01", "SOXS", before, **basis).exit_code == 0
        since = date.fromisoformat(before)
        true = true_bars(
            market, "SOXS", Timeframe.d1, since, date(2022, 6, 1), adjusted=adjustment == "split"
        )
        assert_same(stored_bars(database_url, "SOXS", Timeframe.d1), true)

    found = run("2022-06-01", "SOXS", "2010-01-04", **basis)

    assert (found.exit_code, found.bars.rejected) == (0, 0)
    true = true_bars(
        market, "SOXS", Timeframe.d1, date(2010, 1, 4), date(2022, 6, 1),
        adjusted=adjustment == "split",
    )  # fmt: skip
    assert_same(stored_bars(database_url, "SOXS", Timeframe.d1), true)
    assert tuple(query(database_url, LISTING, "SOXS")[0]) == (
        date(2010, 3, 11), "doubted", date(2022, 3, 28),
    )  # fmt: skip
    assert run("2022-06-01", "SOXS", "2010-01-04", **basis).calls == 0


def test_a_doubted_listing_goes_back_with_the_oldest_bar_that_was_asked_for(
    market: Market, simulator: Simulator, run: Run, database_url: str
) -> None:
    # The jump of the split that nobody lists is a question; the listing that is told is elsewhere.
    simulator.inject(Fault(action=Action.STATUS, status=403, path="splits"))
    body = '{"status":"OK","results":{"ticker":"SOXS","list_date":"2022-02-14"}}'
    simulator.inject(
        Fault(action=Action.STATUS, status=200, body=body, path="/v3/reference/tickers/SOXS")
    )
    for first, oldest in (("2022-01-03", date(2022, 1, 3)), ("2021-06-01", date(2021, 6, 1))):
        assert run("2022-06-01", "SOXS", first).exit_code == 0
        true = true_bars(market, "SOXS", Timeframe.d1, oldest, date(2022, 6, 1))
        assert_same(stored_bars(database_url, "SOXS", Timeframe.d1), true)
        assert tuple(query(database_url, LISTING, "SOXS")[0]) == (
            oldest, "doubted", date(2022, 2, 14),
        )  # fmt: skip


def test_a_jump_with_a_listed_split_costs_no_look_up_and_one_without_costs_one(
    simulator: Simulator, run: Run
) -> None:
    run("2024-06-12", "SPLT", "2024-05-01")  # ten for one
    run("2024-06-13", "JUMPY", "2024-05-01")
    assert not [call for call in simulator.calls if "/reference/tickers/" in call.path]

    run("2024-09-26", "RVRS", "2024-08-01")  # one for eight, listed a week late

    paths = [call.path for call in simulator.calls if "/reference/tickers/" in call.path]
    assert [path.partition("tickers/")[2] for path in paths] == ["RVRS", "RVRS/events"]
