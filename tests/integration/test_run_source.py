"""Bars of two sources never share a series; a reload of all that is stored replaces it (R1)."""

from collections.abc import Callable
from datetime import date
from itertools import pairwise
from typing import Any

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Market, Simulator
from tests.conftest import NOW, Cli, Ended, query, stored_bars
from tests.integration.truth import assert_same, true_bars

TODAY = date(2024, 11, 12)
SOURCES = "SELECT adjustment FROM backfill_progress JOIN symbols ON id = symbol_id ORDER BY ticker"
SET_ASIDE = """
    SELECT s.ticker, q.timeframe::text, q.reason, count(*)
    FROM quarantined_bars AS q JOIN symbols AS s ON s.id = q.symbol_id
    GROUP BY 1, 2, 3 ORDER BY 1, 2
"""

Run = Callable[..., Ended]


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate()


@pytest.fixture
def run(simulator: Simulator, cli: Callable[..., Cli]) -> Run:
    command = cli(simulator)

    def one(*options: str, adjustment: str = "raw", since: str = "2y") -> Ended:
        as_of = ("--as-of", NOW.isoformat(), "--json")
        return command(
            "run", *options, *as_of, BACKFILL_ADJUSTMENT=adjustment, BACKFILL_SINCE=since
        )

    return one


def true(market: Market, timeframe: Timeframe, first: date, **options: Any) -> list[Any]:
    return true_bars(market, "SPLT", timeframe, first, TODAY, NOW, **options)


def set_aside(url: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in query(url, SET_ASIDE)]


def test_the_refusal_names_both_sources_and_the_command_that_replaces_all(
    market: Market, simulator: Simulator, run: Run, database_url: str
) -> None:
    days = ("--symbol", "SPLT")
    first = run(*days, "--from", "2024-05-01")
    assert first.code == 0, first.err
    raw = stored_bars(database_url, "SPLT", Timeframe.d1)
    calls = len(simulator.calls)

    for options in ((), ("--reload", "--from", "2024-05-02"), ("--reload", "--to", "2024-11-08")):
        refused = run(*days, *options, adjustment="split")
        [failure] = refused.json["failures"]
        assert (refused.code, failure["outcome"]) == (1, "source_mismatch")
        assert "massive/sip/raw; massive/sip/split" in failure["message"]
    assert len(simulator.calls) == calls
    assert stored_bars(database_url, "SPLT", Timeframe.d1) == raw

    command = failure["message"].partition("backfill run ")[2].split()
    replaced = run(*command, adjustment="split")

    assert replaced.code == 0, replaced.err
    assert (replaced.json["status"], replaced.json["failures"]) == ("ok", [])
    adjusted = true(market, Timeframe.d1, date(2024, 5, 1), adjusted=True)
    assert_same(stored_bars(database_url, "SPLT", Timeframe.d1), adjusted)
    assert replaced.json["bars"] == {
        "inserted": len(adjusted),
        "updated": 0,
        "unchanged": 0,
        "rejected": 0,
        "withdrawn": len(raw),
        "ignored": 0,
    }
    assert set_aside(database_url) == [("SPLT", "d1", "source_changed", len(raw))]
    # Prices that the provider has adjusted are not adjusted again.
    view = query(
        database_url,
        "SELECT open, high, low, close, volume FROM ohlc_bars_adjusted ORDER BY ts",
    )
    assert [tuple(row) for row in view] == [row[1:6] for row in adjusted]
    [change] = query(
        database_url,
        """
        SELECT (extract(epoch FROM lower(range)) * 1000)::bigint AS first,
            (extract(epoch FROM upper(range)) * 1000)::bigint AS last, inserted, withdrawn
        FROM backfill_changes WHERE run_id = $1::text::uuid
        """,
        replaced.json["run_id"],
    )
    assert tuple(change) == (raw[0][0], raw[-1][0], len(adjusted), len(raw))
    [row] = query(
        database_url,
        """
        SELECT (extract(epoch FROM oldest_bar) * 1000)::bigint AS oldest,
            (extract(epoch FROM newest_bar) * 1000)::bigint AS newest, adjustment,
            isempty(invalidated) AS done
        FROM backfill_progress
        """,
    )
    assert tuple(row) == (raw[0][0], raw[-1][0], "split", True)

    assert run(*days, "--from", "2024-05-01", adjustment="split").json["calls"] == 0
    back = run(*days, "--from", "2024-05-01")
    assert [one["outcome"] for one in back.json["failures"]] == ["source_mismatch"]


@pytest.mark.soak
def test_a_replacement_cut_before_its_first_page_is_anyone_s_to_finish_or_to_undo(
    market: Market, run: Run, database_url: str
) -> None:
    both = ("--symbols", "SPLT,AAPL", "--from", "2024-05-01")
    assert run(*both).code == 0
    apple = stored_bars(database_url, "AAPL", Timeframe.d1)
    raw = true(market, Timeframe.d1, date(2024, 5, 1))
    adjusted = true(market, Timeframe.d1, date(2024, 5, 1), adjusted=True)

    cut = run(*both, "--reload", "--max-calls", "1", adjustment="split")

    assert (cut.code, cut.json["bars"]["withdrawn"]) == (5, len(raw))
    assert stored_bars(database_url, "AAPL", Timeframe.d1) == apple
    assert_same(stored_bars(database_url, "SPLT", Timeframe.d1), adjusted)
    assert [row["adjustment"] for row in query(database_url, SOURCES)] == ["raw", "split"]

    undone = run("--symbol", "AAPL", "--from", "2024-05-01")
    assert (undone.code, undone.json["bars"]["unchanged"]) == (0, len(apple))
    assert run("--symbol", "AAPL", "--from", "2024-05-01").json["calls"] == 0

    cut = run(
        *("--symbols", "SPLT,AAPL", "--from", "2024-05-01", "--reload", "--max-calls", "1"),
        adjustment="split",
    )
    assert (cut.code, cut.json["bars"]["withdrawn"]) == (5, 0)
    assert stored_bars(database_url, "AAPL", Timeframe.d1) == apple
    finished = run("--symbol", "AAPL", "--from", "2024-05-01", adjustment="split")
    assert (finished.code, finished.json["bars"]["withdrawn"]) == (0, len(apple)), finished.err
    assert [row["adjustment"] for row in query(database_url, SOURCES)] == ["split", "split"]


def test_a_replacement_cut_between_pages_holds_the_new_source_alone_and_is_finished(
    market: Market, run: Run, database_url: str
) -> None:
    hours = ("--symbol", "SPLT", "-t", "h1,h4", "--from", "2024-01-02")
    first = run(*hours)
    assert first.json["calls"] >= 3, first.err
    raw = {one: len(stored_bars(database_url, "SPLT", Timeframe(one))) for one in ("h1", "h4")}

    cut = run(*hours, "--reload", "--max-calls", "1", adjustment="split")

    assert (cut.code, cut.json["failures"]) == (5, [])
    assert cut.json["bars"]["withdrawn"] == sum(raw.values())
    assert set_aside(database_url) == [
        ("SPLT", timeframe, "source_changed", bars) for timeframe, bars in raw.items()
    ]
    adjusted = true(market, Timeframe.h1, date(2024, 1, 2), adjusted=True)
    part = stored_bars(database_url, "SPLT", Timeframe.h1)
    assert 0 < len(part) < len(adjusted)
    assert_same(part, adjusted[-len(part) :])

    refused = run(*hours)
    assert {one["outcome"] for one in refused.json["failures"]} == {"source_mismatch"}
    assert stored_bars(database_url, "SPLT", Timeframe.h1) == part

    rest = run(*hours, adjustment="split")

    assert rest.code == 0, rest.err
    assert rest.json["calls"] == first.json["calls"] - 1
    assert rest.json["bars"]["inserted"] > 0 == rest.json["bars"]["withdrawn"]
    assert_same(stored_bars(database_url, "SPLT", Timeframe.h1), adjusted)
    four = stored_bars(database_url, "SPLT", Timeframe.h4)
    true_four = true(market, Timeframe.h4, date(2024, 1, 2), adjusted=True)
    assert [row[0] for row in four] == [row[0] for row in true_four]
    assert max(b[1] / a[4] for a, b in pairwise(four)) < 1.2
    assert run(*hours, adjustment="split").json["calls"] == 0


@pytest.mark.soak
def test_a_series_of_another_source_costs_its_neighbours_of_the_same_request_nothing(
    market: Market, run: Run, database_url: str
) -> None:
    assert run("--symbol", "SPLT", "-t", "h4", "--from", "2024-10-01").code == 0
    four = stored_bars(database_url, "SPLT", Timeframe.h4)

    for options in ((), ("--reload",)):
        mixed = run(
            *("--symbol", "SPLT", "-t", "h1,h4", "--from", "2024-10-15", *options),
            adjustment="split",
        )
        assert [(one["timeframe"], one["outcome"]) for one in mixed.json["failures"]] == [
            ("h4", "source_mismatch")
        ]
        adjusted = true(market, Timeframe.h1, date(2024, 10, 15), adjusted=True)
        assert_same(stored_bars(database_url, "SPLT", Timeframe.h1), adjusted)
        assert stored_bars(database_url, "SPLT", Timeframe.h4) == four
    again = run("--symbol", "SPLT", "-t", "h4", "--from", "2024-10-01")
    assert (again.code, again.json["calls"]) == (0, 0)  # its coverage is as it was


@pytest.mark.soak
def test_a_plain_run_finishes_a_reload_that_reaches_deeper_than_it_would_itself(
    run: Run, database_url: str
) -> None:
    days = ("--symbol", "SPLT", "--from", "2023-05-01")
    assert run(*days).code == 0
    stored = len(stored_bars(database_url, "SPLT", Timeframe.d1))
    both = ("--symbols", "AAPL,SPLT", "--from", "2023-05-01")
    assert run(*both, "--reload", "--max-calls", "1", adjustment="split").code == 5

    plain = run("--symbol", "SPLT", "--incremental", adjustment="split", since="2024-11-01")

    assert plain.code == 0, plain.err
    assert plain.json["bars"]["withdrawn"] == plain.json["bars"]["inserted"] == stored
