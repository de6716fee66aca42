"""Splits in the database: listed once a session, tested by the prices, applied by the view."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import Cli, Ended, query, stored_bars
from tests.integration.truth import asked, assert_same, midnight_ms, true_bars

pytestmark = pytest.mark.soak

ADJUSTED = """
    SELECT (extract(epoch FROM a.ts) * 1000)::bigint, a.open, a.high, a.low, a.close, a.volume
    FROM ohlc_bars_adjusted AS a
    JOIN symbols AS s ON s.id = a.symbol_id
    WHERE s.ticker = $1 AND a.timeframe = 'd1'
    ORDER BY a.ts
"""
SERIES_ROWS = """
    SELECT b::text, b.ctid::text, b.xmin::text
    FROM ohlc_bars AS b
    WHERE b.ts < $1
    ORDER BY b.symbol_id, b.timeframe, b.ts
"""

Run = Callable[..., Ended]


def at(day: str) -> datetime:
    """Noon of a day, in UTC."""
    return datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC)


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(plan="unlimited")


@pytest.fixture
def run(simulator: Simulator, cli: Callable[..., Cli]) -> Run:
    """Run a command for symbols as of a day's noon, from January 2024 on."""
    command = cli(simulator, BACKFILL_PLAN="unlimited", BACKFILL_SINCE="2024-01-01")

    def one(day: str, symbols: str, *options: str, adjustment: str = "raw") -> Ended:
        simulator.set_now(at(day))
        as_of = ("--as-of", at(day).isoformat(), "--json")
        return command(
            "run", "--symbols", symbols, *options, *as_of, BACKFILL_ADJUSTMENT=adjustment
        )

    return one


def lookups(simulator: Simulator, since: int = 0) -> list[str]:
    """The last word of the path of each look-up after the first ``since`` calls."""
    calls = simulator.calls[since:]
    return [call.path.rpartition("/")[2] for call in calls if call.kind == "lookup"]


def statuses(url: str, ticker: str) -> list[tuple[str, str]]:
    rows = query(
        url,
        "SELECT execution_date::text, status FROM splits WHERE ticker = $1 ORDER BY 1",
        ticker,
    )
    return [tuple(row) for row in rows]


def steps(rows: list[Any]) -> list[float]:
    """By how much each close differs from the one before, as a ratio of at least 1."""
    closes = [row[4] for row in rows]
    return [max(a / b, b / a) for a, b in pairwise(closes)]


def market_adjusted(market: Market, ticker: str, until: str) -> list[tuple[float, ...]]:
    """The market's own adjusted days, which are rounded to four decimals."""
    start, end = (midnight_ms(day, ticker) for day in (date(2024, 1, 1), date.fromisoformat(until)))
    bars = market.bars(
        ticker,
        Timeframe.d1,
        start,
        end,
        adjusted=True,
        now_ms=round(at(until).timestamp() * 1000),
    )
    columns = (bars.ts_ms, bars.open, bars.high, bars.low, bars.close, bars.volume)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_ten_for_one_and_a_later_three_for_two_leave_raw_rows_alone_and_the_view_without_a_cliff(
    market: Market, run: Run, database_url: str
) -> None:
    first = run("2024-06-07", "SPLT")
    assert first.code == 0, first.err
    assert statuses(database_url, "SPLT") == [("2024-06-10", "announced")]
    rows = query(database_url, SERIES_ROWS, at("2024-06-06"))
    raw = stored_bars(database_url, "SPLT", Timeframe.d1)
    # A split that is announced for a day to come changes nothing yet.
    assert [tuple(row) for row in query(database_url, ADJUSTED, "SPLT")] == [r[:6] for r in raw]

    for day in ("2024-06-12", "2025-03-20"):
        ended = run(day, "SPLT")
        assert ended.code == 0, ended.err
        assert query(database_url, SERIES_ROWS, at("2024-06-06")) == rows
        adjusted = query(database_url, ADJUSTED, "SPLT")
        true = market_adjusted(market, "SPLT", day)
        assert [row[0] for row in adjusted] == [row[0] for row in true]
        for mine, theirs in zip(adjusted, true, strict=True):
            assert tuple(mine[1:5]) == pytest.approx(theirs[1:5], abs=1e-4)
            assert mine[5] == pytest.approx(theirs[5], abs=0.01)
        assert max(steps(adjusted)) < 1.1
    assert statuses(database_url, "SPLT") == [("2024-06-10", "applied"), ("2025-03-17", "applied")]
    cliffs = steps(stored_bars(database_url, "SPLT", Timeframe.d1))
    assert len([step for step in cliffs if step > 1.3]) == 2


def test_a_reverse_split_announced_a_week_late_is_applied_when_it_arrives(
    run: Run, database_url: str
) -> None:
    run("2024-09-26", "RVRS")
    assert statuses(database_url, "RVRS") == []
    assert max(steps(query(database_url, ADJUSTED, "RVRS"))) > 6  # nobody knows of it yet

    ended = run("2024-10-01", "RVRS")

    assert ended.code == 0, ended.err
    assert statuses(database_url, "RVRS") == [("2024-09-23", "applied")]
    assert max(steps(query(database_url, ADJUSTED, "RVRS"))) < 1.1


def test_a_split_listed_for_two_days_counts_on_the_one_that_the_prices_show(
    run: Run, database_url: str
) -> None:
    first = run("2024-10-11", "TWICE,AAPL")

    assert first.code == 1, first.err
    assert first.json["status"] == "partial"
    assert first.json["series"]["complete"] == 2
    [failure] = first.json["failures"]
    assert (failure["symbol"], failure["outcome"]) == ("TWICE", "quarantined")
    assert "10 for 1 of 2024-10-09" in failure["message"]
    assert statuses(database_url, "TWICE") == [
        ("2024-10-09", "contradicted"),
        ("2024-10-16", "announced"),
    ]

    second = run("2024-10-18", "TWICE,AAPL")

    assert (second.code, second.json["failures"]) == (0, [])
    assert statuses(database_url, "TWICE") == [
        ("2024-10-09", "contradicted"),
        ("2024-10-16", "applied"),
    ]
    assert max(steps(query(database_url, ADJUSTED, "TWICE"))) < 1.1


def test_a_forty_per_cent_day_is_no_split(market: Market, run: Run, database_url: str) -> None:
    ended = run("2025-05-20", "JUMPY", "--from", "2025-04-01")

    assert ended.code == 0, ended.err
    true = true_bars(market, "JUMPY", Timeframe.d1, date(2025, 4, 1), date(2025, 5, 20))
    assert_same(stored_bars(database_url, "JUMPY", Timeframe.d1), true)
    adjusted = query(database_url, ADJUSTED, "JUMPY")
    assert [tuple(row) for row in adjusted] == [row[:6] for row in true]
    assert max(steps(adjusted)) > 1.5


def test_actions_are_listed_once_a_final_session_and_never_for_their_own_sake(
    simulator: Simulator, run: Run
) -> None:
    first = run("2024-06-05", "AAPL")
    assert lookups(simulator) == ["splits", "dividends"]
    assert (first.json["calls"], first.json["lookups"]) == (1, 2)

    calls = len(simulator.calls)
    assert run("2024-06-05", "AAPL").json["lookups"] == 0
    assert len(simulator.calls) == calls
    other = run("2024-06-05", "MSFT")
    assert (other.json["calls"], other.json["lookups"]) == (1, 0)  # this session's is done

    calls = len(simulator.calls)
    later = run("2024-06-07", "AAPL")
    assert (later.json["calls"], later.json["lookups"]) == (1, 2)
    assert lookups(simulator, calls) == ["splits", "dividends"]

    calls = len(simulator.calls)
    weekend = run("2024-06-08", "X:BTCUSD")
    assert (weekend.code, lookups(simulator, calls)) == (0, [])  # no share is in it


def test_a_listing_without_room_under_max_calls_is_left_to_the_next_run(
    simulator: Simulator, run: Run
) -> None:
    first = run("2024-06-05", "AAPL", "--max-calls", "2")
    assert (first.code, first.json["calls"]) == (0, 1)
    assert lookups(simulator) == ["splits"]

    second = run("2024-06-05", "MSFT")
    assert (second.code, lookups(simulator)) == (0, ["splits", "dividends"])


def test_a_listing_that_is_refused_costs_no_series_and_waits_for_another_session(
    simulator: Simulator, run: Run, database_url: str
) -> None:
    simulator.inject(Fault(action=Action.STATUS, status=403, path="/splits"))
    first = run("2024-06-12", "SPLT")
    assert (first.code, first.json["status"], first.json["failures"]) == (0, "ok", [])
    [warning] = [event for event in first.events if event["event"] == "actions.not_listed"]
    assert (warning["level"], warning["kind"]) == ("warning", "splits")
    assert warning["outcome"] == "not_entitled"

    simulator.clear_faults()
    calls = len(simulator.calls)
    assert run("2024-06-12", "MSFT").code == 0
    assert lookups(simulator, calls) == []

    run("2024-06-13", "SPLT")
    assert statuses(database_url, "SPLT") == [("2024-06-10", "applied")]


@pytest.mark.parametrize("status", [403, 404])
def test_where_the_newer_list_is_refused_or_absent_the_older_one_is_read(
    simulator: Simulator, run: Run, database_url: str, status: int
) -> None:
    simulator.inject(Fault(action=Action.STATUS, status=status, path="/stocks/v1/"))
    first = run("2024-06-12", "SPLT", "--from", "2024-06-03")
    assert (first.code, first.json["failures"]) == (0, [])
    assert lookups(simulator) == ["splits", "splits", "dividends", "dividends"]
    assert statuses(database_url, "SPLT") == [("2024-06-10", "applied")]


def listing(*splits: tuple[str, str]) -> Fault:
    """A whole listing of ten-for-one splits, in place of the true one."""
    rows = [
        {"ticker": ticker, "execution_date": day, "split_from": 1, "split_to": 10}
        for ticker, day in splits
    ]
    body = json.dumps({"status": "OK", "results": rows})
    return Fault(action=Action.STATUS, status=200, body=body, path="/splits")


def test_a_split_that_a_whole_listing_no_longer_names_is_applied_no_longer(
    simulator: Simulator, run: Run, database_url: str
) -> None:
    # The prices can't tell a split from a listing alone: none of its days is stored around it.
    simulator.inject(listing(("AAPL", "2024-06-10"), ("OTHER", "2024-06-10")))
    assert run("2024-06-12", "AAPL", "--from", "2024-06-10").code == 0
    assert statuses(database_url, "AAPL") == [("2024-06-10", "applied")]

    simulator.clear_faults()
    simulator.inject(listing())
    assert run("2024-06-13", "AAPL", "--from", "2024-06-10").code == 0
    assert statuses(database_url, "AAPL") == [("2024-06-10", "applied")]  # nobody believes that

    simulator.clear_faults()
    simulator.inject(listing(("OTHER", "2024-06-10"), ("AAPL", "2024-06-11")))
    moved = run("2024-06-14", "AAPL", "--from", "2024-06-10")

    # Its day was corrected; by the new day's prices it did not happen at all.
    assert (moved.code, moved.json["failures"][0]["outcome"]) == (1, "quarantined")
    assert statuses(database_url, "AAPL") == [("2024-06-11", "contradicted")]
    assert statuses(database_url, "OTHER") == [("2024-06-10", "announced")]  # not kept
    [dropped] = [event for event in moved.events if event["event"] == "split.dropped"]
    assert (dropped["symbol"], dropped["execution_date"]) == ("AAPL", "2024-06-10")


def test_the_other_listing_of_a_split_that_is_dropped_is_decided_anew(
    simulator: Simulator, run: Run, database_url: str
) -> None:
    # From 11 June on no price can test the first; the second is the one of that pair that stands.
    simulator.inject(listing(("AAPL", "2024-06-10"), ("AAPL", "2024-06-07")))
    assert run("2024-06-12", "AAPL", "--from", "2024-06-10").code == 0
    assert statuses(database_url, "AAPL") == [
        ("2024-06-07", "duplicate"),
        ("2024-06-10", "applied"),
    ]
    simulator.clear_faults()
    simulator.inject(listing(("AAPL", "2024-06-07")))
    assert run("2024-06-13", "AAPL", "--from", "2024-06-10").code == 0
    assert statuses(database_url, "AAPL") == [("2024-06-07", "applied")]


def test_in_split_mode_a_split_that_is_dropped_has_one_run_reload_as_well(
    simulator: Simulator, run: Run, database_url: str
) -> None:
    simulator.inject(listing(("AAPL", "2024-06-10"), ("OTHER", "2024-06-10")))
    assert run("2024-06-12", "AAPL", adjustment="split").code == 0
    days = len(stored_bars(database_url, "AAPL", Timeframe.d1))
    assert run("2024-06-12", "AAPL", adjustment="split").json["calls"] == 0

    simulator.clear_faults()
    simulator.inject(listing(("OTHER", "2024-06-10")))
    assert run("2024-06-13", "AAPL", adjustment="split").code == 0
    reload = run("2024-06-13", "AAPL", adjustment="split")

    assert (reload.json["calls"], reload.json["bars"]["unchanged"]) == (1, days - 2)
    assert run("2024-06-13", "AAPL", adjustment="split").json["calls"] == 0


def test_in_split_mode_a_new_split_has_one_run_reload_and_the_next_is_quiet(
    market: Market, simulator: Simulator, run: Run, database_url: str
) -> None:
    options = ("-t", "d1,h1")
    assert run("2024-06-07", "SPLT,AAPL", *options, adjustment="split").code == 0
    seen = run("2024-06-12", "SPLT,AAPL", *options, adjustment="split")
    assert seen.code == 0, seen.err
    # Three hours of 7 June were read before that day was final, so they are read once more.
    assert (seen.json["bars"]["updated"], seen.json["bars"]["withdrawn"]) == (3, 0)

    calls = len(simulator.calls)
    reload = run("2024-06-12", "SPLT,AAPL", *options, adjustment="split")

    assert reload.code == 0, reload.err
    assert {call.ticker for call in asked(simulator, calls)} == {"SPLT"}
    days = market_adjusted(market, "SPLT", "2024-06-12")
    assert [row[:6] for row in stored_bars(database_url, "SPLT", Timeframe.d1)] == days
    before = [row for row in days if row[0] < midnight_ms(date(2024, 6, 10), "SPLT")]
    assert reload.json["bars"]["updated"] > len(before)  # the days, and the hours too
    assert reload.json["bars"]["inserted"] == 0
    assert max(steps(stored_bars(database_url, "SPLT", Timeframe.h1))) < 1.1

    calls = len(simulator.calls)
    quiet = run("2024-06-12", "SPLT,AAPL", *options, adjustment="split")
    assert (quiet.code, quiet.json["calls"], len(simulator.calls)) == (0, 0, calls)
    # What the provider has adjusted is not adjusted again.
    assert [tuple(row) for row in query(database_url, ADJUSTED, "SPLT")] == days


def test_in_split_mode_a_series_that_begins_after_its_splits_is_not_loaded_twice(run: Run) -> None:
    assert run("2024-06-12", "SPLT", adjustment="split").json["bars"]["inserted"] > 0
    assert run("2024-06-12", "SPLT", adjustment="split").json["calls"] == 0


def test_in_split_mode_bars_that_the_plan_can_not_read_again_leave_for_quarantine(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    simulator = simulate()
    command = cli(simulator, BACKFILL_ADJUSTMENT="split")

    def run(day: str) -> Ended:
        simulator.set_now(at(day))
        return command("run", "--symbol", "SPLT", "--as-of", at(day).isoformat(), "--json")

    run("2024-06-07")
    before = stored_bars(database_url, "SPLT", Timeframe.d1)
    seen = run("2024-06-18")

    # On the free plan two years can be read, less a day's margin.
    lost = [row for row in before if row[0] < midnight_ms(date(2022, 6, 20), "SPLT")]
    assert seen.code == 0, seen.err
    assert seen.json["bars"]["withdrawn"] == len(lost) > 0
    gone = query(
        database_url,
        "SELECT (extract(epoch FROM ts) * 1000)::bigint AS ts, reason FROM quarantined_bars",
    )
    assert [tuple(row) for row in gone] == [(row[0], "source_changed") for row in lost]

    reload = run("2024-06-18")
    assert reload.json["bars"]["updated"] == len(before) - len(lost)
    stored = stored_bars(database_url, "SPLT", Timeframe.d1)
    assert max(steps(stored)) < 1.1
    [row] = query(
        database_url,
        "SELECT (extract(epoch FROM oldest_bar) * 1000)::bigint AS oldest FROM backfill_progress",
    )
    assert row["oldest"] == stored[0][0]
    assert run("2024-06-18").json["calls"] == 0


def test_dividends_are_listed_and_make_up_what_the_price_lost(
    simulator: Simulator, run: Run, database_url: str
) -> None:
    assert run("2024-03-01", "JPM").code == 0
    rows = query(
        database_url,
        """
        SELECT a.ts::date AS day, a.close, a.total_return_close AS total
        FROM ohlc_bars_adjusted AS a ORDER BY a.ts
        """,
    )
    close = {row["day"]: row["close"] for row in rows}
    for row in rows:
        # JPM pays 1.15 a share on 9 February; what is later is as it was.
        kept = 1 - 1.15 / close[date(2024, 2, 8)] if row["day"] < date(2024, 2, 9) else 1
        assert row["total"] == pytest.approx(row["close"] * kept, rel=1e-12)
    count = "SELECT count(*) FROM dividends"
    listed = query(database_url, count)[0][0]
    assert listed == 15  # three companies, from February 2023 to February 2024
    run("2024-03-05", "JPM")
    assert query(database_url, count)[0][0] == listed
