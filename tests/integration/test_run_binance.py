"""A run against Binance's simulator: what a place that is refused costs, and a pair's beginning."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Final

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.errors import UsageError
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import NOW, query, stored_bars
from tests.integration.truth import midnight_ms

SOLANA: Final = "SOL/USDT"
LISTED: Final = date(2024, 8, 11)
HALTED: Final = date(2024, 9, 14)


@pytest.fixture
def binance(simulate: Callable[..., Simulator]) -> Simulator:
    """The provider, under the quota that its fastest plan allows in a second."""
    return simulate(provider="binance", quota="100/1s")


@pytest.fixture
def settings(binance: Simulator, database_url: str) -> api.Settings:
    """Settings of who has only Binance."""
    account = AccountSettings(url=binance.url, quota="100/1s")
    return api.Settings(
        database_url=Secret(database_url), provider_name="binance", accounts={"binance": account}
    )


def job(*timeframes: Timeframe, since: date, symbols: tuple[str, ...] = (SOLANA,)) -> api.Job:
    return api.Job(symbols=symbols, timeframes=timeframes, first=Bound(since), as_of=NOW)


async def test_years_before_a_pair_began_cost_no_calls_and_are_settled(
    settings: api.Settings, binance: Simulator, market: Market, database_url: str
) -> None:
    load = job(Timeframe.h1, since=date(2018, 1, 1))
    planned = await api.plan(settings, load)
    first = await api.run(settings, load)

    hours = (midnight_ms(NOW.date(), "X:") - midnight_ms(LISTED, "X:")) // 3_600_000 + 12
    assert planned.calls > 50
    # The page that holds its beginning is the last.
    assert (first.exit_code, first.calls, first.lookups) == (0, -(-hours // 1000), 1)
    [row, *_] = await asyncio.to_thread(stored_bars, database_url, SOLANA, Timeframe.h1)
    assert row[0] == midnight_ms(LISTED, "X:")
    again = await api.run(settings, load)
    assert (again.exit_code, again.calls, again.lookups) == (0, 0, 0)


async def test_a_minute_in_which_nobody_traded_is_known_empty_and_a_halt_is_not(
    settings: api.Settings, market: Market, database_url: str
) -> None:
    load = replace(job(Timeframe.m1, since=date(2024, 9, 13)), last=Bound(date(2024, 9, 15)))
    assert (await api.run(settings, load)).exit_code == 0

    stored = await asyncio.to_thread(stored_bars, database_url, SOLANA, Timeframe.m1)
    first, end = (midnight_ms(day, "X:") for day in (date(2024, 9, 13), date(2024, 9, 16)))
    true = market.bars("X:SOLUSDT", Timeframe.m1, first, end)
    assert [row[0] for row in stored] == true.ts_ms.tolist()
    assert 0 < len(stored) < 2 * 1440  # one minute in ten without a trade, and a day without any
    held = await asyncio.to_thread(
        query, database_url, "SELECT DISTINCT reason::text FROM known_empty ORDER BY 1"
    )
    assert [row[0] for row in held] == ["absent", "no_trades"]
    found = await api.gaps(settings, NOW)
    [gaps] = found.gaps
    gap, _after_that = gaps.gaps
    assert (gap.span.start_ms, gap.slots) == (midnight_ms(HALTED, "X:"), 1440)


async def test_a_refused_place_costs_one_call_whatever_was_asked_for(
    settings: api.Settings, binance: Simulator
) -> None:
    binance.inject(Fault(action=Action.STATUS, status=451))
    pairs = ("BTC/USDT", "ETH/USDT", SOLANA)
    ended = await api.run(
        settings, job(Timeframe.h1, Timeframe.d1, since=date(2024, 9, 1), symbols=pairs)
    )
    assert (ended.exit_code, ended.calls, ended.lookups, ended.retries) == (1, 1, 0, 0)
    assert len(ended.failures) == ended.series.failed == 6
    for failure in ended.failures:
        assert (failure.outcome, failure.provider) == ("geo_blocked", "binance")
        assert "location" in failure.message

    binance.clear_faults()
    healed = await api.run(
        settings, job(Timeframe.h1, Timeframe.d1, since=date(2024, 9, 1), symbols=pairs)
    )
    assert (healed.exit_code, healed.series.complete) == (0, 6)


async def test_a_ban_holds_everybody_off_the_next_run_too(
    settings: api.Settings, binance: Simulator
) -> None:
    ban = Fault(action=Action.STATUS, status=418, headers={"Retry-After": "7200"})
    binance.inject(ban)
    pairs = ("BTC/USDT", "ETH/USDT", SOLANA)
    load = job(Timeframe.d1, since=date(2024, 9, 1), symbols=pairs)
    banned = await api.run(settings, load)
    assert (banned.exit_code, banned.calls) == (1, 1)
    assert {one.outcome for one in banned.failures} == {"rate_limited"}

    binance.clear_faults()
    later = await api.run(settings, load)
    assert (later.exit_code, later.calls, later.failures) == (5, 0, [])
    assert later.error is not None
    assert "the provider asked to be left alone" in later.error


def test_a_quota_that_holds_no_call_is_refused_before_any(settings: api.Settings) -> None:
    accounts = {"binance": replace(settings.accounts["binance"], quota="1/1s")}
    with pytest.raises(UsageError, match=r"BINANCE_QUOTA.* costs 2"):
        replace(settings, accounts=accounts).account("binance")


async def test_a_plan_knows_what_a_call_weighs(settings: api.Settings) -> None:
    accounts = {"binance": replace(settings.accounts["binance"], quota="20/3s")}
    slow = replace(settings, accounts=accounts)
    planned = await api.plan(slow, job(Timeframe.m1, since=date(2024, 11, 1)))
    assert planned.calls == 17
    assert planned.seconds == 3.0  # ten calls at once, the others when the window has passed
