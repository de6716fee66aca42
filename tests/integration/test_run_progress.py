"""What a run tells of how far it is: while it goes on, when it is over, and before it begins."""

import asyncio
from collections.abc import Callable

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import parse_bound
from backfill.settings import AccountSettings, Settings
from backfill.settings.environment import Secret
from backfill.simulator import Simulator
from backfill.store.size import DEFAULT_BYTES
from tests.conftest import KEY, NOW


async def test_it_ends_with_nothing_left_and_counts_down_to_that(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    """Unknown tickers, derived timeframes and several pages: the counts end where the run does."""
    settings = Settings(
        database_url=Secret(database_url),
        provider_url=simulate(plan="unlimited").url,
        accounts={"massive": AccountSettings(keys=(Secret(KEY),))},
        quota_override="unlimited",
        plan="unlimited",
    )
    job = api.Job(
        symbols=("AAPL", "MSFT", "NOSUCH", "X:BTCUSD"),
        timeframes=(Timeframe.m1, Timeframe.h1, Timeframe.d1),
        first=parse_bound("2024-09-15", NOW.date()),
        as_of=NOW,
    )
    seen: list[api.Progress] = []
    watched: list[api.Running] = []

    async def look() -> None:
        while True:
            await asyncio.sleep(0.05)
            if watched:
                seen.append(watched[0].progress())

    before = await api.plan(settings, job)
    looking = asyncio.create_task(look())
    summary = await api.run(settings, job, on_plan=watched.append)
    looking.cancel()
    after = await api.plan(settings, job)
    end = watched[0].progress()

    assert (end.seconds_left, end.slowest) == (0.0, None)
    assert end.calls == end.calls_in_all == summary.calls + summary.lookups
    assert (end.symbols_done, end.symbols, end.failed) == (4, 4, 3)
    assert end.bars == summary.bars.inserted + summary.bars.unchanged > 100_000
    going = [one for one in seen if 0 < one.symbols_done < one.symbols]
    assert going
    assert all(one.seconds_left >= 1 for one in going)
    assert [one.bars for one in seen] == sorted(one.bars for one in seen)

    assert before.expected is not None
    assert (before.expected.runs, before.expected.measured) == (0, False)
    assert before.expected.bytes == before.bars * DEFAULT_BYTES
    assert after.expected is not None
    assert (after.expected.runs, after.expected.measured) == (1, True)
    assert 100 < after.expected.bytes_per_bar < 200
