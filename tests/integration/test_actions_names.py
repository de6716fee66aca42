"""Splits under every name of a company, listed late, and set by hand: rows of the adjusted view."""

from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import pytest

from backfill import api
from backfill.admin import actions, names
from backfill.admin.actions import Correction
from backfill.audit.status import SeriesStatus, series_status
from backfill.core.series import Alias
from backfill.core.splits import Ratio
from backfill.core.timeframe import Timeframe
from backfill.errors import UsageError
from backfill.settings import Settings
from backfill.simulator import Market, Simulator
from tests.conftest import Cli, blocking, query, stored_bars
from tests.integration.truth import assert_same, true_bars

Run = Callable[..., api.Summary]

CLOSES = """
    SELECT a.close
    FROM ohlc_bars_adjusted AS a
    JOIN symbols AS s ON s.id = a.symbol_id
    WHERE s.ticker = $1 AND a.timeframe = 'd1'
    ORDER BY a.ts
"""
SPLITS = """
    SELECT ticker, execution_date::text, split_to || ':' || split_from, status, manual
    FROM splits
    WHERE ticker = ANY ($1)
    ORDER BY execution_date, ticker
"""


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(plan="unlimited")


@pytest.fixture
def run(run_here: Run) -> Run:
    return run_here


@pytest.fixture
def settings(settings_here: Callable[..., Settings]) -> Callable[..., Settings]:
    return settings_here


def steepest(url: str, ticker: str) -> float:
    """The greatest step between two adjusted closes, as a ratio of at least 1."""
    closes = [row[0] for row in query(url, CLOSES, ticker)]
    assert len(closes) > 10
    return float(max(max(a / b, b / a) for a, b in pairwise(closes)))


def held(url: str, *tickers: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in query(url, SPLITS, list(tickers))]


def refused(work: Coroutine[Any, Any, object]) -> str:
    with pytest.raises(UsageError) as error:
        blocking(work)
    assert error.value.exit_code == 2
    return str(error.value)


def test_a_split_that_is_listed_under_a_later_name_leaves_no_cliff_and_no_raw_row_changes(
    market: Market, run: Run, database_url: str
) -> None:
    ended = run("2021-03-02", "STRR", "2019-04-01")

    assert (ended.exit_code, ended.failures) == (0, [])
    assert held(database_url, "STRR") == [("STRR", "2019-06-05", "1:10", "applied", False)]
    assert steepest(database_url, "STRR") < 1.2
    true = true_bars(market, "STRR", Timeframe.d1, date(2019, 4, 1), date(2021, 3, 2))
    assert_same(stored_bars(database_url, "STRR", Timeframe.d1), true)


def test_a_split_that_is_listed_78_days_late_applies_with_the_next_session(
    run: Run, database_url: str
) -> None:
    assert run("2024-09-12", "LATESP", "2024-05-01").exit_code == 0
    assert steepest(database_url, "LATESP") > 3  # nobody has told of it yet

    ended = run("2024-09-18", "LATESP", "2024-05-01")

    assert (ended.exit_code, ended.lookups) == (0, 2)
    assert held(database_url, "LATESP") == [("LATESP", "2024-07-01", "4:1", "applied", False)]
    assert steepest(database_url, "LATESP") < 1.2


def test_a_jump_like_a_split_that_nobody_lists_is_told_and_never_applied(
    run: Run, settings: Callable[..., Settings], database_url: str
) -> None:
    def told() -> list[tuple[date, str]]:
        async def look() -> list[SeriesStatus]:
            async with api.open_database(settings()) as database:
                return await series_status(database, settings(), datetime(2024, 9, 27, tzinfo=UTC))

        [series] = blocking(look())
        return [(day, str(ratio)) for day, ratio in series.unlisted_splits]

    run("2024-09-26", "RVRS", "2024-08-01")

    assert told() == [(date(2024, 9, 23), "1:8")]
    raw = [row[4] for row in stored_bars(database_url, "RVRS", Timeframe.d1)]
    assert [row[0] for row in query(database_url, CLOSES, "RVRS")] == raw

    run("2024-10-01", "RVRS", "2024-08-01")  # which lists it

    assert told() == []


def test_what_is_set_by_hand_no_listing_overwrites_and_what_is_dropped_stays_away(
    run: Run, settings: Callable[..., Settings], database_url: str
) -> None:
    run("2024-09-19", "LATESP", "2024-05-01")
    moved = Correction("LATESP", date(2024, 7, 1), Ratio(2, 1), date(2024, 7, 2))

    listed = blocking(actions.correct(settings(), moved))

    assert [(one.execution_date, str(one.ratio), one.status) for one in listed] == [
        (date(2024, 7, 1), "4:1", "dropped"),
        (date(2024, 7, 2), "2:1", "applied"),
    ]
    run("2024-09-20", "LATESP", "2024-05-01")  # which lists all again
    assert held(database_url, "LATESP") == [
        ("LATESP", "2024-07-01", "4:1", "dropped", True),
        ("LATESP", "2024-07-02", "2:1", "applied", True),
    ]
    raw = [row[4] for row in stored_bars(database_url, "LATESP", Timeframe.d1)]
    adjusted = [row[0] for row in query(database_url, CLOSES, "LATESP")]
    assert adjusted[0] == raw[0] / 2

    blocking(actions.drop(settings(), "LATESP", date(2024, 7, 2)))

    assert [row[0] for row in query(database_url, CLOSES, "LATESP")] == raw
    right = Correction("LATESP", date(2024, 7, 1), Ratio(4, 1), None)
    blocking(actions.correct(settings(), right))
    assert steepest(database_url, "LATESP") < 1.2


def test_a_former_name_that_the_events_lack_is_added_by_hand_and_dropped_again(
    market: Market, run: Run, settings: Callable[..., Settings], database_url: str
) -> None:
    run("2021-03-02", "STRR", "2021-01-04", Timeframe.d1, Timeframe.w1)
    wrong = blocking(names.add(settings(), "STRR", "OLDNM", date(2019, 1, 2), date(2021, 2, 1)))
    assert wrong.symbol.aliases == (Alias("OLDNM", date(2019, 1, 2), date(2021, 2, 1)),)
    # Nineteen days, and the four weeks that began before February.
    assert wrong.expelled == 19 + 4
    assert stored_bars(database_url, "STRR", Timeframe.d1)[0][0] > 1_612_100_000_000

    dropped = blocking(names.drop(settings(), "STRR", "OLDNM"))
    assert (dropped.symbol.aliases, dropped.expelled) == ((), 0)
    blocking(names.add(settings(), "STRR", "DRAD", None, date(2021, 1, 4)))
    ended = run("2021-03-02", "STRR", "2020-12-01", Timeframe.d1, Timeframe.w1)

    assert (ended.exit_code, ended.series.complete) == (0, 2)
    for timeframe in (Timeframe.d1, Timeframe.w1):
        now = datetime(2021, 3, 2, 12, tzinfo=UTC)
        true = true_bars(market, "STRR", timeframe, date(2020, 11, 30), date(2021, 3, 2), now)
        true = [row for row in true if row[0] >= 1_606_712_400_000]
        stored = stored_bars(database_url, "STRR", timeframe)
        assert_same(stored, true[len(true) - len(stored) :], rolled_up=timeframe is Timeframe.w1)
        assert len(true) - len(stored) <= 1


def test_what_can_not_be_set_is_refused_and_tells_what_to_do(
    settings: Callable[..., Settings], database_url: str
) -> None:
    query(database_url, "INSERT INTO symbols (ticker, asset_type) VALUES ('AAPL', 'stock')")
    day = date(2024, 7, 1)

    assert "symbols list" in refused(actions.drop(settings(), "NONE", day))
    assert "nothing to drop" in refused(actions.drop(settings(), "AAPL", day))
    unlisted = Correction("AAPL", day, None, date(2024, 7, 2))
    assert "tell its ratio" in refused(actions.correct(settings(), unlisted))
    assert "is not a former name" in refused(names.drop(settings(), "AAPL", "FB"))
    assert "name of today" in refused(names.add(settings(), "AAPL", "AAPL", None, day))
    assert "is not before" in refused(names.add(settings(), "AAPL", "FB", day, day))


def test_the_verbs_print_json_and_refuse_wrong_input_in_one_line(
    cli: Callable[..., Cli], simulator: Simulator, database_url: str
) -> None:
    query(database_url, "INSERT INTO symbols (ticker, asset_type) VALUES ('AAPL', 'stock')")
    backfill = cli(simulator)

    done = backfill("actions", "set", "AAPL", "2020-08-31", "4:1", "--json")
    named = backfill("symbols", "alias", "add", "AAPL", "APPL", "--until", "1999-01-04", "--json")
    wrong = backfill("actions", "set", "AAPL", "2020-08-31", "4/1")

    assert done.code == 0, done.err
    [split] = done.json["splits"]
    assert (split["split_from"], split["split_to"]) == (1, 4)
    assert (split["symbol"], split["status"], split["manual"]) == ("AAPL", "applied", True)
    assert [one["ticker"] for one in named.json["symbol"]["aliases"]] == ["APPL"]
    assert (wrong.code, wrong.out, wrong.err.count("\n")) == (2, "", 1)
    assert "4:1" in wrong.err
