"""Feeds of one service: other bars, each a symbol of its own, by one account and one quota."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Final

import pytest

from backfill import api
from backfill.core.calendar import Night
from backfill.core.freshness import State
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.errors import UsageError
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from backfill.store.pool import Database
from backfill.store.universe import WatchChange, watch
from tests.conftest import KEY, NOW, query, stored_bars
from tests.integration.truth import NEW_YORK

pytestmark = pytest.mark.one_database

STOCKS: Final = tuple(f"SIM{number:03}" for number in range(1, 13))
FEEDS: Final = ("alpaca", "alpaca-iex")
SINCE: Final = date(2024, 11, 4)
SESSION: Final = datetime(2024, 11, 11, 18, 10, tzinfo=UTC)
"""Ten past one in the afternoon in New York."""


def settings_of(simulator: Simulator, url: str, **said: Any) -> api.Settings:
    """The settings of somebody who has an account with Alpaca."""
    key = Secret(KEY)
    account = AccountSettings(
        url=simulator.url, other_url=simulator.url, keys=(key, key), **{"plan": "unlimited"} | said
    )
    return api.Settings(
        database_url=Secret(url), provider_name="alpaca", accounts={"alpaca": account}
    )


async def watch_feeds(url: str, *tickers: str, timeframe: Timeframe = Timeframe.d1) -> None:
    change = WatchChange((timeframe,), since=SINCE.isoformat())
    listings = [f"{one}@{feed}" for one in tickers for feed in FEEDS]
    async with Database.connect(url) as database:
        await database.run(partial(watch, tickers=listings, change=change))


async def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await asyncio.to_thread(query, url, sql)]


async def test_feeds_of_one_account_share_its_quota_and_its_plan_counts_them_together(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate(provider="alpaca", quota="4/1s")
    settings = settings_of(simulator, database_url, quota="4/1s")
    await watch_feeds(database_url, *STOCKS)

    planned = await api.plan(settings, api.Job(as_of=NOW))
    summary = await api.run(settings, api.Job(as_of=NOW))

    calls = simulator.calls
    assert (summary.exit_code, summary.failures, summary.rate_limited) == (0, [], 0)
    assert {name: one.calls > 0 for name, one in summary.providers.items()} == dict.fromkeys(
        FEEDS, True
    )
    assert planned.calls == summary.calls - summary.retries == len(STOCKS) * len(FEEDS)
    # Twenty-four calls, four a second: not twelve beside twelve.
    assert planned.seconds == 5.0
    assert [one for one in calls if one.over_quota] == []
    arrived = [one.at_s for one in calls if one.counted]
    assert all(sum(end - 1 < at <= end for at in arrived) <= 4 for end in arrived)
    assert await rows(database_url, "SELECT DISTINCT provider FROM provider_quota") == [("alpaca",)]
    assert len(await rows(database_url, "SELECT key_id FROM provider_quota")) == 1


async def test_who_is_asked_to_slow_down_by_one_feed_leaves_the_others_of_the_account_alone(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate(provider="alpaca")
    settings = settings_of(simulator, database_url, quota="4/1s")
    told = {"Retry-After": "2"}
    simulator.inject(Fault(action=Action.STATUS, status=429, times=1, headers=told))
    job = api.Job(timeframes=(Timeframe.d1,), first=Bound(SINCE), as_of=NOW)

    stopped = await api.run(settings, replace(job, symbols=("AAPL",), max_calls=1))
    other = await api.run(settings, replace(job, symbols=("AAPL@alpaca-iex",)))

    assert (stopped.exit_code, stopped.rate_limited, other.exit_code) == (5, 1, 0)
    refused, following = simulator.calls
    assert refused.head_s is not None
    assert following.at_s >= refused.head_s + 2


async def test_bars_of_each_feed_are_a_symbol_s_of_its_own_in_the_hours_of_the_feed(
    simulate: Callable[..., Simulator], market: Market, database_url: str
) -> None:
    simulator = simulate(provider="alpaca")
    settings = settings_of(simulator, database_url)
    await watch_feeds(database_url, "AAPL", timeframe=Timeframe.m5)

    summary = await api.run(settings, api.Job(as_of=NOW))

    assert (summary.exit_code, summary.bars.rejected) == (0, 0)
    both = {
        feed: await asyncio.to_thread(stored_bars, database_url, f"AAPL@{feed}", Timeframe.m5)
        for feed in FEEDS
    }
    hours = {
        feed: {datetime.fromtimestamp(bar[0] / 1000, NEW_YORK).hour for bar in bars}
        for feed, bars in both.items()
    }
    assert (hours["alpaca"], hours["alpaca-iex"]) == ({*range(4, 20)}, {*range(8, 17)})
    at_iex = {bar[0]: bar for bar in both["alpaca-iex"]}
    everywhere = [bar for bar in both["alpaca"] if bar[0] in at_iex]
    assert len(everywhere) == len(at_iex)
    assert all(bar[5] == 32 * at_iex[bar[0]][5] for bar in everywhere)
    assert await rows(
        database_url,
        "SELECT ticker, provider, feed FROM backfill_progress JOIN symbols ON id = symbol_id "
        "ORDER BY 1",
    ) == [("AAPL@alpaca", "alpaca", "sip"), ("AAPL@alpaca-iex", "alpaca-iex", "iex-extended")]

    one_more = api.Job(symbols=("AAPL@alpaca",), timeframes=(Timeframe.m5,), as_of=NOW)
    other = replace(settings, provider_asked="alpaca-iex")
    with pytest.raises(UsageError, match="AAPL@alpaca is alpaca's alone"):
        await api.run(other, one_more)
    again = await api.run(settings, api.Job(as_of=NOW))
    assert (again.exit_code, again.calls) == (0, 0)
    found = await api.gaps(settings, NOW)
    assert (found.exit_code, found.gaps) == (0, [])


async def test_the_free_plan_has_one_exchange_at_once_and_all_of_them_a_quarter_of_an_hour_later(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    simulator = simulate(provider="alpaca", plan="free", now=SESSION)
    settings = settings_of(simulator, database_url, plan="free", quota="unlimited")
    await watch_feeds(database_url, "AAPL", timeframe=Timeframe.m1)

    summary = await api.run(settings, api.Job(as_of=SESSION))

    assert (summary.exit_code, summary.failures) == (0, [])
    newest = await rows(
        database_url,
        "SELECT ticker, (extract(epoch FROM newest_bar) / 60)::int "
        "FROM backfill_progress JOIN symbols ON id = symbol_id ORDER BY 1",
    )
    minute = round(SESSION.timestamp()) // 60
    assert {ticker: minute - at for ticker, at in newest} == {
        "AAPL@alpaca": 18,
        "AAPL@alpaca-iex": 3,
    }


async def test_a_lost_hour_of_the_feed_of_the_night_is_a_gap_that_is_repaired(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    market = Market(nights_from=date(2024, 10, 28))
    simulator = simulate(provider="alpaca", market=market)
    settings = replace(settings_of(simulator, database_url), night=Night.drop)
    tonight = api.Job(
        symbols=("AAPL@alpaca-boats",), timeframes=(Timeframe.h1,), first=Bound(SINCE), as_of=NOW
    )
    loaded = await api.run(settings, tonight)
    assert (loaded.exit_code, loaded.bars.rejected, loaded.bars.ignored) == (0, 0, 0)
    hours = await asyncio.to_thread(stored_bars, database_url, "AAPL@alpaca-boats", Timeframe.h1)
    shown = [datetime.fromtimestamp(bar[0] / 1000, NEW_YORK) for bar in hours]
    assert (f"{shown[0]:%a %H}", f"{shown[-1]:%a %H}") == ("Sun 21", "Tue 03")
    assert [one.state for one in await api.status(settings, NOW)] == [State.fresh]

    lost = "DELETE FROM ohlc_bars WHERE timeframe = 'h1' AND ts = '2024-11-07 07:00Z' RETURNING 1"
    assert len(await rows(database_url, lost)) == 1
    found = await api.gaps(settings, NOW)
    assert (found.exit_code, [len(one.gaps) for one in found.gaps]) == (4, [1])
    repaired = await api.repair(settings, NOW)
    assert (repaired.exit_code, repaired.left) == (0, [])
    assert hours == await asyncio.to_thread(
        stored_bars, database_url, "AAPL@alpaca-boats", Timeframe.h1
    )
    days = replace(tonight, timeframes=(Timeframe.d1,))
    refused = await api.run(settings, days)
    assert [one.outcome for one in refused.failures] == ["not_entitled"]
    assert refused.calls == refused.lookups == 0
