"""A page proves what it covers and no more, however the paging goes wrong (R4)."""

from collections.abc import Callable
from typing import Any

import pytest

from backfill.core.timeframe import Timeframe
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import stored_bars
from tests.faults import tables
from tests.faults.command import Command

LONG = ("--symbol", "AAPL", "-t", "m30", "--from", "2023-01-03")
DAYS = ("--symbol", "AAPL", "--from", "2024-01-02")


def range_asked(path: str) -> tuple[int, int]:
    first, last = path.split("/")[8:10]
    return int(first), int(last)


def test_a_page_that_fails_for_ever_keeps_those_before_it_and_only_the_rest_is_asked_again(
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    run = command(simulator)
    simulator.inject(Fault(action=Action.STATUS, status=500, skip=3))

    ended = run(*LONG)

    assert ended.code == 1, ended.err
    assert ended.json["series"]["partial"] == 1
    assert [one["outcome"] for one in ended.json["failures"]] == ["provider_error"]
    assert len(simulator.calls) == 3 + 4
    asked_first, asked_last = range_asked(simulator.calls[0].path)
    ((start, end),) = tables.coverage(database_url, "AAPL", "m30")
    true = market.bars("AAPL", Timeframe.m30, asked_first, asked_last + 1)
    rows = stored_bars(database_url, "AAPL", Timeframe.m30)
    # Three pages of 50,000 minutes, in bars of thirty; the last page's oldest bar is not proven.
    assert len(rows) > 3 * 50_000 / 30
    assert [row[0] for row in rows] == true.ts_ms[-len(rows) :].tolist()
    assert end.timestamp() * 1000 == asked_last + 1
    assert true.ts_ms[-len(rows) - 1] < start.timestamp() * 1000 <= rows[0][0]

    simulator.clear_faults()
    calls = len(simulator.calls)
    again = run(*LONG)

    assert again.code == 0, again.err
    assert range_asked(simulator.calls[calls].path) == (asked_first, start.timestamp() * 1000 - 1)
    assert again.json["bars"]["inserted"] == len(true) - len(rows)
    assert again.json["bars"]["unchanged"] == again.json["bars"]["updated"] == 0
    assert [row[0] for row in stored_bars(database_url, "AAPL", Timeframe.m30)] == (
        true.ts_ms.tolist()
    )


@pytest.mark.parametrize(
    ("action", "most"),
    [(Action.REPEATED_NEXT, 2), (Action.FOREIGN_NEXT, 1), (Action.ENDLESS_PAGES, 5)],
)
def test_paging_that_leads_nowhere_is_an_error_and_closes_nothing_beyond_the_page(
    action: Action,
    most: int,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    run = command(simulator)
    simulator.inject(Fault(action=action))

    ended = run(*DAYS)

    assert ended.code == 1, ended.err
    assert [one["outcome"] for one in ended.json["failures"]] == ["bad_answer"]
    assert 1 <= len(simulator.calls) <= most
    rows = stored_bars(database_url, "AAPL", Timeframe.d1)
    ((start, _),) = tables.coverage(database_url, "AAPL", "d1")
    assert start.timestamp() * 1000 <= rows[0][0]
    # All of the page but its oldest bar: that one is proven by the page after it.
    assert len(rows) == tables.covered_bars(database_url, market) == 217

    simulator.clear_faults()
    again = run(*DAYS)

    assert again.code == 0, again.err
    assert again.json["bars"]["inserted"] == 1
    assert tables.covered_bars(database_url, market) == 218


def table_of(run: Command, url: str) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    ended = run("--symbols", "AAPL,THIN", "-t", "m30", "-t", "d1", "--from", "2024-03-01")
    assert ended.code == 0, ended.err
    return tables.bars(url), tables.claims(url)


@pytest.mark.soak
def test_pages_with_doubled_or_shuffled_bars_give_the_same_table(
    provider: Callable[..., Simulator], command: Callable[..., Command], database_url: str
) -> None:
    simulator = provider()
    run = command(simulator)
    whole = table_of(run, database_url)
    for action in (Action.DUPLICATES, Action.SHUFFLED):
        tables.empty_tables(database_url)
        simulator.clear_faults()
        simulator.inject(Fault(action=action))
        assert table_of(run, database_url) == whole


WRONG = {
    "AAPL": Fault(action=Action.WRONG_TICKER, ticker="AAPL"),
    "MSFT": Fault(action=Action.WRONG_ADJUSTED, ticker="MSFT"),
    "NVDA": Fault(action=Action.WRONG_GRANULARITY, ticker="NVDA"),
    "TSLA": Fault(action=Action.SECONDS, ticker="TSLA"),
    "AMZN": Fault(action=Action.MICROSECONDS, ticker="AMZN"),
    "GOOGL": Fault(action=Action.NAN, ticker="GOOGL"),
}


def test_an_answer_that_is_not_what_was_asked_for_is_refused_whole_and_asked_for_anew(
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    run = command(simulator)
    for fault in WRONG.values():
        simulator.inject(fault)
    symbols = ("--symbols", ",".join([*WRONG, "META"]), "--from", "2024-01-02")

    ended = run(*symbols)

    assert ended.code == 1, ended.err
    assert {one["symbol"]: one["outcome"] for one in ended.json["failures"]} == dict.fromkeys(
        WRONG, "bad_answer"
    )
    assert ended.json["bars"] == {
        "inserted": 218,
        "updated": 0,
        "unchanged": 0,
        "rejected": 0,
        "withdrawn": 0,
        "ignored": 0,
    }
    assert all(not tables.coverage(database_url, ticker, "d1") for ticker in WRONG)
    assert tables.covered_bars(database_url, market) == 218

    simulator.clear_faults()
    again = run(*symbols)

    assert again.code == 0, again.err
    assert again.json["calls"] == len(WRONG)
    assert tables.covered_bars(database_url, market) == 7 * 218


def test_two_months_that_come_for_days_are_refused_by_the_provider_s_own_count(
    provider: Callable[..., Simulator], command: Callable[..., Command], database_url: str
) -> None:
    simulator = provider()
    run = command(simulator)
    simulator.inject(Fault(action=Action.WRONG_GRANULARITY))
    days = ("--symbol", "AAPL", "--from", "2024-09-03", "--to", "2024-10-01")

    ended = run(*days)

    assert ended.code == 1, ended.err
    [failure] = ended.json["failures"]
    assert failure["outcome"] == "bad_answer"
    assert failure["message"].startswith("2 bars came for d1")
    assert not tables.coverage(database_url, "AAPL", "d1")
    assert not tables.quarantined(database_url)


BAD_BARS: dict[str, tuple[Fault, str, int]] = {
    "high-below-low": (Fault(action=Action.EDIT_BARS, bar={"h": 0.5}), "high_low", 1),
    "no-price": (Fault(action=Action.EDIT_BARS, bar={"o": None}), "not_finite", 1),
    "a-word-for-a-price": (Fault(action=Action.EDIT_BARS, bar={"c": "n/a"}), "not_finite", 1),
    "negative-price": (Fault(action=Action.EDIT_BARS, bar={"l": -1.0}), "price", 1),
    "negative-volume": (Fault(action=Action.EDIT_BARS, bar={"v": -1.0}), "volume", 1),
    "huge-count": (Fault(action=Action.EDIT_BARS, bar={"n": 2**63}), "volume", 1),
    "saturday": (Fault(action=Action.SATURDAY_BAR), "off_grid", 0),
    "two-that-differ": (Fault(action=Action.CONFLICT, bar={"c": 1.5, "l": 1.0}), "conflict", 1),
}


def test_a_bad_bar_is_set_aside_its_neighbours_stay_and_it_is_not_bought_again(
    provider: Callable[..., Simulator], command: Callable[..., Command], database_url: str
) -> None:
    simulator = provider()
    run = command(simulator)
    tickers = {f"SIM{number:03}": case for number, case in enumerate(BAD_BARS.values())}
    for ticker, (fault, _, _) in tickers.items():
        simulator.inject(Fault(action=fault.action, bar=fault.bar, ticker=ticker))
    symbols = ("--symbols", ",".join(tickers), "--from", "2024-01-02")

    ended = run(*symbols)

    assert ended.code == 1, ended.err
    assert {one["symbol"]: one["outcome"] for one in ended.json["failures"]} == dict.fromkeys(
        tickers, "quarantined"
    )
    assert {row[0]: row[2] for row in tables.bars(database_url)} == {
        ticker: 218 - lost for ticker, (_, _, lost) in tickers.items()
    }
    aside = tables.quarantined(database_url)
    assert {(ticker, reason) for ticker, reason in aside} == {
        (ticker, reason) for ticker, (_, reason, _) in tickers.items()
    }
    assert ended.json["bars"]["rejected"] == len(aside)

    calls = len(simulator.calls)
    again = run(*symbols)

    assert (again.code, again.json["calls"]) == (0, 0)
    assert len(simulator.calls) == calls
    assert tables.quarantined(database_url) == aside
