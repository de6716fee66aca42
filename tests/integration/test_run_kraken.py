"""A provider of the newest bars only: each timeframe as deep as it goes, and no deeper."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest

from backfill import api
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.when import Bound
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import NOW, query, stored_bars

pytestmark = pytest.mark.wide

TIMEFRAMES = (Timeframe.m1, Timeframe.h1, Timeframe.d1, Timeframe.w1)


async def test_each_timeframe_holds_the_newest_720_and_the_plan_says_so_before_it_is_paid_for(
    simulate: Callable[..., Simulator], market: Market, database_url: str
) -> None:
    simulator = simulate(provider="kraken")
    settings = api.Settings(
        database_url=Secret(database_url),
        provider_name="kraken",
        accounts={"kraken": AccountSettings(url=simulator.url, plan="unlimited")},
    )
    job = api.Job(
        symbols=("ETH/USD",), timeframes=TIMEFRAMES, first=Bound(date(2020, 1, 1)), as_of=NOW
    )
    # Nobody trades for an hour, and nobody for a whole day.
    quiet_ms = round(datetime(2024, 11, 12, 3, tzinfo=UTC).timestamp() * 1000)
    quiet_day_ms = round(datetime(2024, 11, 5, tzinfo=UTC).timestamp() * 1000)
    for span_ms in ((quiet_ms, quiet_ms + 3_600_000), (quiet_day_ms, quiet_day_ms + DAY_MS)):
        simulator.inject(Fault(action=Action.LACKING, span_ms=span_ms))

    planned = await api.plan(settings, job)
    assert {one.timeframe: one.newest for one in planned.series} == dict.fromkeys(
        map(str, TIMEFRAMES), 720
    )
    assert (planned.calls, planned.calls_max) == (3, 3)
    assert {one.timeframe: one.derived_from for one in planned.series} == {
        "m1": None, "h1": None, "d1": None, "w1": "d1",
    }  # fmt: skip
    recent = api.Job(symbols=("ETH/USD",), first=Bound(date(2024, 11, 1)), as_of=NOW)
    assert [one.newest for one in (await api.plan(settings, recent)).series] == [None]

    summary = await api.run(settings, job)
    assert (summary.exit_code, summary.failures, summary.calls) == (0, [], 3)
    assert summary.bars.rejected == 0

    final_ms = round(NOW.timestamp() * 1000)
    for timeframe, delay_ms, slots in (
        (Timeframe.m1, 120_000, 720),
        (Timeframe.h1, 120_000, 720),
        (Timeframe.d1, 3_600_000, 720),
    ):
        step_ms = DAY_MS if timeframe is Timeframe.d1 else timeframe.length_ms
        first_ms = (final_ms // step_ms - slots + 1) * step_ms
        true = market.bars("X:ETHUSD", timeframe, first_ms, final_ms, now_ms=final_ms - delay_ms)
        stamps = [
            at_ms
            for at_ms in true.ts_ms.tolist()
            if not quiet_ms <= at_ms < quiet_ms + 3_600_000
            and not quiet_day_ms <= at_ms < quiet_day_ms + DAY_MS
        ]
        rows = await asyncio.to_thread(stored_bars, database_url, "ETH/USD", timeframe)
        assert [row[0] for row in rows] == stamps
        assert {row[6] is not None for row in rows} == {True}
    # Rows without volume say that nobody traded: nothing is absent, and nothing may come yet.
    assert await asyncio.to_thread(
        query, database_url, "SELECT DISTINCT reason::text FROM known_empty WHERE timeframe <> 'w1'"
    ) == [("no_trades",)]
    [(oldest,)] = await asyncio.to_thread(
        query, database_url, "SELECT min(lower(coverage)) FROM backfill_progress"
    )
    assert oldest == datetime(2022, 11, 24, tzinfo=UTC)

    again = await api.run(settings, job)
    assert (again.exit_code, again.calls) == (0, 0)
    assert (await api.gaps(settings, NOW)).exit_code == 0

    # After more than 720 minutes some can't be had any more: they are no gap, and not claimed.
    tomorrow = NOW + timedelta(hours=25)
    simulator.set_now(tomorrow)
    later = await api.run(
        settings,
        api.Job(
            symbols=("ETH/USD",),
            timeframes=TIMEFRAMES,
            first=Bound(date(2020, 1, 1)),
            as_of=tomorrow,
        ),
    )
    assert (later.exit_code, later.calls) == (0, 3)
    assert (await api.gaps(settings, tomorrow)).exit_code == 0
    [(ranges,)] = await asyncio.to_thread(
        query,
        database_url,
        "SELECT count(*) FROM backfill_progress, unnest(coverage) WHERE timeframe = 'm1'",
    )
    assert ranges == 2


async def test_a_pair_that_is_younger_than_720_bars_is_whole_and_asked_for_no_more(
    simulate: Callable[..., Simulator], database_url: str
) -> None:
    young = datetime(2018, 7, 1, 12, tzinfo=UTC)  # half a year after the market's first day
    simulator = simulate(provider="kraken", now=young)
    settings = api.Settings(
        database_url=Secret(database_url),
        provider_name="kraken",
        accounts={"kraken": AccountSettings(url=simulator.url, plan="unlimited")},
    )
    job = api.Job(symbols=("ETH/USD",), timeframes=(Timeframe.d1,), as_of=young)
    first = await api.run(settings, job)
    assert (first.exit_code, first.calls, first.bars.inserted) == (0, 1, 181)
    again = await api.run(settings, job)
    assert (again.exit_code, again.calls) == (0, 0)
