"""Rows that somebody wrote by hand and that can't be meant cost their own series and no other."""

from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from backfill.simulator import Simulator
from tests.conftest import Cli, Ended, query

NOW = datetime(2024, 11, 12, 12, tzinfo=UTC)
AS_OF = ("--as-of", NOW.isoformat(), "--json")

ODD = """
    UPDATE watchlist SET since = '1600-01-01' FROM symbols WHERE id = symbol_id AND ticker = 'MSFT';
    UPDATE watchlist SET since = 'deep' FROM symbols WHERE id = symbol_id AND ticker = 'NVDA';
    UPDATE symbols SET calendar = 'XBOM' WHERE ticker = 'TSLA';
    UPDATE symbols SET delisted_on = 'infinity' WHERE ticker = 'SPY';
"""
TICKERS = ("AAPL", "MSFT", "NVDA", "SPY", "TSLA")


@pytest.fixture
def backfill(cli: Callable[..., Cli], simulate: Callable[..., Simulator]) -> Cli:
    return cli(simulate(plan="unlimited", now=NOW), BACKFILL_PLAN="unlimited")


def whys(ended: Ended) -> dict[str, Any]:
    return {one["symbol"]: (one["outcome"], one["message"]) for one in ended.json["failures"]}


@pytest.mark.attack(10)
def test_odd_rows_fail_their_own_series_and_every_command_goes_on(
    backfill: Cli, database_url: str, tmp_path: Path
) -> None:
    assert backfill("watch", "add", "--offline", *TICKERS, "--since", "2024-10-01").code == 0
    for statement in filter(None, map(str.strip, ODD.split(";"))):
        query(database_url, statement)

    ended = backfill("run", "--all", *AS_OF)

    assert ended.code == 1, ended.err
    assert ended.json["series"] == {
        "total": 5, "complete": 1, "partial": 0, "failed": 4, "skipped": 0,
    }  # fmt: skip
    failed = whys(ended)
    assert {outcome for outcome, _ in failed.values()} == {"database_error"}
    for ticker, said in {
        "MSFT": "'1600-01-01' is before 1900-01-01",
        "NVDA": "'deep' is not a date",
        "SPY": "at infinity",
        "TSLA": "'XBOM'",
    }.items():
        assert said in failed[ticker][1]
    planned = backfill("run", "--all", "--dry-run", *AS_OF)
    refusals = {one["symbol"]: one["refusal"] for one in planned.json["series"]}
    assert refusals == dict.fromkeys(failed, "database_error") | {"AAPL": None}
    for command in ("status", "gaps"):
        looked = backfill(command, *AS_OF)
        assert looked.code == 0, looked.err
        assert looked.err.count("series.left_out") == 4
    assert backfill("report", "--out", str(tmp_path / "page.html"), *AS_OF).code == 0
    page = unescape((tmp_path / "page.html").read_text("utf-8"))
    assert "4 symbols of the watchlist can't be kept" in page
    for ticker, (_, why) in failed.items():
        assert f">{ticker}</th><td>{why}</td>" in page


@pytest.mark.parametrize(
    "command",
    [
        ("watch", "add", "--offline", "AAPL", "--since", "1600-01-01"),
        ("watch", "add", "--offline", "AAPL", "--since", "1000y"),
        ("run", "--symbol", "AAPL", "--from", "1600-01-01"),
        ("run", "--symbol", "AAPL", "--as-of", "9999-12-30"),
        ("run", "--symbol", "AAPL", "--deadline", "inf"),
        ("gaps", "--from", "0001-01-01T00:00:00Z"),
        ("status", "--as-of", "1600-01-01"),
    ],
    ids=" ".join,
)
@pytest.mark.soak
def test_what_no_calendar_holds_is_refused_where_it_enters(
    backfill: Cli, command: tuple[str, ...]
) -> None:
    ended = backfill(*command)
    assert (ended.code, ended.out) == (2, "")
    assert len(ended.err.strip().splitlines()) == 1
