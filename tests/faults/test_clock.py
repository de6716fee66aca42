"""A clock that is wrong claims nothing that is not final, and costs nothing (R8)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backfill.simulator import Market, Simulator
from tests.conftest import NOW
from tests.faults import tables
from tests.faults.command import Command

pytestmark = pytest.mark.soak

SERIES = ("--symbols", "AAPL,X:BTCUSD", "-t", "h1", "-t", "d1", "--from", "2024-10-01")


@pytest.mark.parametrize("days", [1, 400], ids=["by-a-day", "by-a-year"])
@pytest.mark.parametrize("mode", [(), ("--incremental",)], ids=["default", "incremental"])
def test_a_clock_that_is_set_back_and_forth_again_costs_no_bar_and_no_call(
    days: int,
    mode: tuple[str, ...],
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider()
    run = command(simulator)
    series = (*SERIES, *mode)
    assert run(*series).code == 0
    bars, claims, calls = (
        tables.bars(database_url),
        tables.claims(database_url),
        len(simulator.calls),
    )

    back = replace(run, now=NOW - timedelta(days=days))(*series)

    assert (back.code, len(simulator.calls)) == (0, calls), back.err
    assert tables.bars(database_url) == bars
    assert tables.claims(database_url) == claims
    assert tables.covered_bars(database_url, market) > 1_000
    size, later = tables.size(database_url), NOW + timedelta(days=1)
    simulator.set_now(later)
    forth = replace(run, now=later)(*series)
    assert forth.code == 0, forth.err
    # A day of Apple's and its sixteen hours, a day and as many hours of the other's.
    assert tables.size(database_url) == size + 1 + 16 + 1 + 24


@pytest.mark.parametrize("ahead", [timedelta(minutes=3), timedelta(days=1)], ids=str)
@pytest.mark.parametrize("plan", ["free", "unlimited"])
def test_a_clock_that_is_ahead_of_the_providers_stores_nothing_and_says_so(
    plan: str,
    ahead: timedelta,
    market: Market,
    provider: Callable[..., Simulator],
    command: Callable[..., Command],
    database_url: str,
) -> None:
    simulator = provider(now=None, plan=plan)
    now = datetime.now(UTC)
    run = replace(command(simulator, BACKFILL_PLAN=plan), now=now)
    begin = (now - timedelta(days=9)).date().isoformat()
    series = ("--symbols", "AAPL,X:BTCUSD", "-t", "m1", "-t", "d1", "--from", begin)

    wrong = replace(run, now=now + ahead)(*series)

    assert wrong.code == 3, wrong.err
    assert "ahead of the provider's" in wrong.err
    assert len(simulator.calls) <= 6  # no more than were under way
    assert tables.bars(database_url) == []
    assert [ranges for *_, ranges in tables.claims(database_url) if ranges] == []
    right = run(*series)
    assert right.code == 0, right.err
    assert tables.covered_bars(database_url, market, now) > 7_000
