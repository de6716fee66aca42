"""Renamed tickers: the whole history of one company, and nothing of another's."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import Cli, Ended, query, stored_bars
from tests.integration.truth import asked, assert_same, midnight_ms, true_bars

CHANGE = date(2024, 5, 18)
"""A Saturday: the company is OLDNM before it, NEWNM from it on."""

Run = Callable[..., Ended]


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(plan="unlimited")


@pytest.fixture
def run(simulator: Simulator, cli: Callable[..., Cli]) -> Run:
    """Run the command as of a day's noon."""
    command = cli(simulator, BACKFILL_PLAN="unlimited")

    def one(day: str, *options: str) -> Ended:
        now = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=UTC)
        simulator.set_now(now)
        return command("run", *options, "--as-of", now.isoformat(), "--json")

    return one


def lookups(simulator: Simulator, since: int = 0) -> list[str]:
    """The look-ups of single tickers after the first ``since`` calls."""
    return [
        call.path.removeprefix("/v3/reference/").removeprefix("/vX/reference/")
        for call in simulator.calls[since:]
        if "/reference/tickers/" in call.path
    ]


def quarantined(url: str) -> list[Any]:
    return query(url, "SELECT reason, count(*) FROM quarantined_bars GROUP BY reason")


def test_a_renamed_history_is_whole_and_nothing_of_the_other_company_is_stored(
    market: Market, simulator: Simulator, run: Run, database_url: str
) -> None:
    first = run("2024-08-14", "--symbol", "NEWNM", "-t", "d1", "--from", "2023-08-01")

    assert first.code == 0, first.err
    assert (first.json["calls"], first.json["series"]["complete"]) == (3, 1)
    assert lookups(simulator) == ["tickers/NEWNM", "tickers/NEWNM/events"]
    true = true_bars(market, "NEWNM", Timeframe.d1, date(2023, 8, 1), date(2024, 8, 14))
    assert_same(stored_bars(database_url, "NEWNM", Timeframe.d1), true)
    assert quarantined(database_url) == []
    names = query(database_url, "SELECT ticker, valid_from, valid_until FROM symbol_aliases")
    assert [tuple(row) for row in names] == [("OLDNM", date(2015, 6, 1), CHANGE)]

    calls = len(simulator.calls)
    assert run("2024-08-14", "--symbol", "NEWNM", "-t", "d1").json["calls"] > 0  # deeper
    later = run("2024-08-15", "--symbol", "NEWNM", "-t", "d1", "--incremental")
    assert (later.code, later.json["calls"]) == (0, 1)
    assert [call.ticker for call in asked(simulator, calls)][-1] == "NEWNM"
    assert lookups(simulator, calls) == []
    assert_same(
        stored_bars(database_url, "NEWNM", Timeframe.d1),
        true_bars(market, "NEWNM", Timeframe.d1, date(2015, 6, 1), date(2024, 8, 15)),
    )


def test_a_week_and_a_month_in_which_the_name_changed_are_rolled_up_from_days_of_both(
    market: Market, run: Run, database_url: str
) -> None:
    options = ("--symbol", "NEWNM", "-t", "w1,mn1", "--from", "2023-08-01")

    first = run("2024-08-14", *options)
    again = run("2024-08-14", *options)

    assert first.code == 0, first.err
    assert (again.json["calls"], again.json["lookups"]) == (0, 0)
    for timeframe, start in ((Timeframe.w1, date(2023, 7, 31)), (Timeframe.mn1, date(2023, 8, 1))):
        now = datetime(2024, 8, 14, 12, tzinfo=UTC)
        assert_same(
            stored_bars(database_url, "NEWNM", timeframe),
            true_bars(market, "NEWNM", timeframe, start, date(2024, 8, 14), now),
            rolled_up=True,
        )


def test_what_was_stored_of_the_other_company_leaves_when_the_names_become_known(
    market: Market, run: Run, database_url: str
) -> None:
    frames = ("--symbol", "NEWNM", "-t", "h1,d1,w1")
    wrong = run("2024-08-14", *frames, "--from", "2023-10-02", "--to", "2023-10-31")
    assert wrong.code == 0, wrong.err
    held = query(database_url, "SELECT count(*) FROM ohlc_bars")[0][0]
    assert stored_bars(database_url, "NEWNM", Timeframe.d1) == true_bars(
        market, "NEWNM~", Timeframe.d1, date(2023, 10, 2), date(2023, 11, 1)
    )

    span = ("--from", "2023-10-02", "--to", "2024-08-13")
    found = run("2024-08-14", *frames, *span)

    assert found.code == 0, found.err
    assert found.json["bars"]["withdrawn"] == held
    assert [tuple(row) for row in quarantined(database_url)] == [("source_changed", held)]
    now = datetime(2024, 8, 14, 12, tzinfo=UTC)
    for timeframe in (Timeframe.h1, Timeframe.d1, Timeframe.w1):
        assert_same(
            stored_bars(database_url, "NEWNM", timeframe),
            true_bars(market, "NEWNM", timeframe, date(2023, 10, 2), date(2024, 8, 14), now),
            rolled_up=timeframe is Timeframe.w1,
        )
    assert run("2024-08-14", *frames, *span).json["calls"] == 0


@pytest.mark.soak
def test_minutes_that_take_several_pages_are_of_one_company(
    market: Market, simulator: Simulator, run: Run, database_url: str
) -> None:
    options = ("--symbol", "NEWNM", "-t", "m1", "--from", "2023-10-02", "--to", "2024-08-13")

    ended = run("2024-08-14", *options)

    assert ended.code == 0, ended.err
    assert len(asked(simulator)) == 4
    assert_same(
        stored_bars(database_url, "NEWNM", Timeframe.m1),
        true_bars(market, "NEWNM", Timeframe.m1, date(2023, 10, 2), date(2024, 8, 14)),
    )
    assert run("2024-08-14", *options).json["calls"] == 0


def test_the_plan_counts_a_call_for_each_name(simulator: Simulator, run: Run) -> None:
    run("2024-08-14", "--symbol", "NEWNM", "-t", "d1", "--from", "2023-08-01", "--to", "2024-08-01")
    options = ("--symbol", "NEWNM", "-t", "d1", "--from", "2023-08-01", "--reload")

    planned = run("2024-08-14", *options, "--dry-run")
    calls = len(simulator.calls)
    done = run("2024-08-14", *options)

    assert (planned.json["calls"], planned.json["calls_max"]) == (2, 2)
    assert done.json["calls"] == 2
    assert [(call.ticker, call.first, call.last) for call in asked(simulator, calls)] == [
        ("NEWNM", "2024-05-20", "2024-08-13"),
        ("OLDNM", "2023-08-01", "2024-05-17"),
    ]


@pytest.mark.parametrize("status", [403, 404])
def test_a_provider_that_tells_no_names_changes_nothing(
    market: Market, simulator: Simulator, run: Run, database_url: str, status: int
) -> None:
    simulator.inject(Fault(action=Action.STATUS, status=status, path="/vX/"))

    ended = run("2024-08-14", "--symbol", "NEWCO", "-t", "d1", "--from", "2023-08-01")

    assert ended.code == 0, ended.err
    assert lookups(simulator) == ["tickers/NEWCO", "tickers/NEWCO/events"]
    true = true_bars(market, "NEWCO", Timeframe.d1, date(2024, 3, 14), date(2024, 8, 14))
    assert_same(stored_bars(database_url, "NEWCO", Timeframe.d1), true)


def test_a_change_that_the_provider_dates_late_is_where_trade_under_the_new_name_began(
    market: Market, simulator: Simulator, run: Run, database_url: str
) -> None:
    names = (("NEWNM", "2024-05-22"), ("OLDNM", "2015-06-01"))
    events = [
        {"ticker_change": {"ticker": ticker}, "type": "ticker_change", "date": since}
        for ticker, since in names
    ]
    body = json.dumps({"status": "OK", "results": {"events": events}})
    simulator.inject(Fault(action=Action.STATUS, status=200, body=body, path="/vX/"))

    ended = run("2024-08-14", "--symbol", "NEWNM", "-t", "d1", "--from", "2023-08-01")

    assert ended.code == 0, ended.err
    true = true_bars(market, "NEWNM", Timeframe.d1, date(2023, 8, 1), date(2024, 8, 14))
    assert_same(stored_bars(database_url, "NEWNM", Timeframe.d1), true)


def test_of_a_ticker_that_had_another_owner_only_its_own_life_is_stored(
    market: Market, run: Run, database_url: str
) -> None:
    options = ("--symbol", "REUSE", "-t", "h1,d1", "--from", "2024-01-02", "--to", "2025-03-03")
    ended = run("2025-03-04", *options)

    # Of the other company's bars in the answers each is told of, once.
    assert (ended.code, ended.json["bars"]["withdrawn"]) == (1, 0), ended.err
    rejected = ended.json["bars"]["rejected"]
    assert [tuple(row) for row in quarantined(database_url)] == [("before_listing", rejected)]
    for timeframe in (Timeframe.h1, Timeframe.d1):
        rows = stored_bars(database_url, "REUSE", timeframe)
        assert rows[0][0] >= midnight_ms(date(2025, 1, 15), "REUSE")
        assert_same(rows, true_bars(market, "REUSE", timeframe, date(2024, 1, 2), date(2025, 3, 4)))
    again = run("2025-03-04", *options)
    assert (again.code, again.json["calls"]) == (0, 0)
