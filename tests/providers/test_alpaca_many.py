"""Alpaca's newest day of many stocks is one call."""

import asyncio
from collections.abc import Callable
from datetime import date, timedelta

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Market, Simulator
from tests.conftest import KEY, NOW, stored_bars
from tests.integration.truth import assert_same, true_bars

SINCE = date(2024, 11, 1)
STOCKS = ("AAPL", "BRK-B", "NEWNM", "SIM001", "SIM002")


async def test_the_newest_day_of_five_stocks_is_one_call_that_names_them(
    simulate: Callable[..., Simulator], market: Market, database_url: str
) -> None:
    simulator = simulate(provider="alpaca")
    key = Secret(KEY)
    account = AccountSettings(
        url=simulator.url, other_url=simulator.url, plan="unlimited", keys=(key, key)
    )
    settings = api.Settings(
        database_url=Secret(database_url), provider_name="alpaca", accounts={"alpaca": account}
    )

    def job(mode: Mode) -> api.Job:
        return api.Job(
            symbols=STOCKS,
            timeframes=(Timeframe.d1,),
            first=Bound(SINCE),
            mode=mode,
            as_of=simulator.now,
        )

    loaded = await api.run(settings, job(Mode.incremental))
    assert (loaded.exit_code, loaded.calls) == (0, len(STOCKS))

    day = NOW + timedelta(days=1)
    simulator.set_now(day)
    planned = await api.plan(settings, job(Mode.incremental))
    increment = await api.run(settings, job(Mode.incremental))
    assert (increment.exit_code, increment.bars.inserted) == (0, len(STOCKS))
    assert (planned.calls, planned.calls_grouped, increment.calls) == (1, 1, 1)
    named = simulator.calls[-1].query["symbols"].split(",")
    assert sorted(named) == sorted(one.replace("-", ".") for one in STOCKS)
    for ticker in STOCKS:
        assert_same(
            await asyncio.to_thread(stored_bars, database_url, ticker, Timeframe.d1),
            true_bars(market, ticker.replace("-", "."), Timeframe.d1, SINCE, day),
        )
