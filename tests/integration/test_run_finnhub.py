"""Finnhub's days are adjusted and its hours are not; what it says nothing of is asked again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.run.outcomes import Summary
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import KEY, NOW, query, stored_bars
from tests.integration.truth import midnight_ms

FIRST: Final = date(2024, 5, 1)
"""Before the split of June 2024."""
OCTOBER_ENDS: Final = datetime(2024, 11, 1, tzinfo=UTC)
"""When the last hour of October 31st has ended in New York."""
Ran = Callable[[datetime], Awaitable[Summary]]


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    """The provider."""
    return simulate(provider="finnhub")


@pytest.fixture
def ran(simulator: Simulator, database_url: str) -> Ran:
    """Runs days, weeks and hours as of an instant."""
    key = (Secret(KEY),)
    account = AccountSettings(url=simulator.url, plan="unlimited", keys=key, secrets=key)
    settings = api.Settings(
        database_url=Secret(database_url), provider_name="finnhub", accounts={"finnhub": account}
    )

    async def run(now: datetime) -> Summary:
        simulator.set_now(now)
        job = api.Job(
            symbols=("SPLT",),
            timeframes=(Timeframe.h1, Timeframe.d1, Timeframe.w1),
            first=Bound(FIRST),
            as_of=now,
        )
        planned = await api.plan(settings, job)
        summary = await api.run(settings, job)
        assert (summary.exit_code, summary.failures, summary.retries) == (0, [], 0)
        assert planned.calls == summary.calls
        return summary

    return run


async def test_what_was_answered_with_nothing_is_asked_for_on_another_day_and_on_no_other(
    simulator: Simulator, ran: Ran, market: Market, database_url: str
) -> None:
    async def stored(timeframe: Timeframe) -> list[Any]:
        rows = await asyncio.to_thread(stored_bars, database_url, "SPLT", timeframe)
        return [row[:5] for row in rows]

    def true(timeframe: Timeframe, now: datetime) -> list[Any]:
        final_ms = round((now - timedelta(hours=1)).timestamp() * 1000)
        bars = market.bars(
            "SPLT",
            timeframe,
            midnight_ms(FIRST, "SPLT"),
            final_ms,
            adjusted=timeframe is Timeframe.d1,
            now_ms=final_ms,
        )
        columns = (bars.ts_ms, bars.open, bars.high, bars.low, bars.close)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    last = round(OCTOBER_ENDS.timestamp()) - 1
    simulator.inject(
        Fault(
            action=Action.STATUS,
            status=200,
            body='{"s":"no_data"}',
            path=rf"resolution=60.*to={last}$",
            times=2,
        )
    )
    first = await ran(NOW)
    assert first.calls == 1 + 7
    october = (midnight_ms(date(2024, 10, 1), "SPLT"), last * 1000)
    hours = true(Timeframe.h1, NOW)
    assert await stored(Timeframe.h1) == [
        one for one in hours if not october[0] <= one[0] <= october[1]
    ]
    assert await stored(Timeframe.d1) == true(Timeframe.d1, NOW)
    adjustments = "SELECT timeframe, adjustment, derived_from FROM backfill_progress ORDER BY 1"
    assert [tuple(row) for row in await asyncio.to_thread(query, database_url, adjustments)] == [
        ("h1", "raw", None),
        ("d1", "split", None),
        ("w1", "split", "d1"),
    ]

    assert (await ran(NOW + timedelta(minutes=1))).calls == 0

    # A second answer without any is believed, as it is told: then nothing is open.
    later = NOW + timedelta(hours=25)
    asked = len(simulator.calls)
    await ran(later)
    again = [call.query["to"] for call in simulator.calls[asked:] if call.kind == "bars"]
    assert again.count(str(last)) == 1
    assert (await ran(later + timedelta(minutes=1))).calls == 0
    believed = "SELECT count(*) FROM known_empty WHERE confirmed_on IS NOT NULL"
    assert (await asyncio.to_thread(query, database_url, believed))[0][0] > 0


async def test_a_month_that_comes_on_another_day_is_stored(
    simulator: Simulator, ran: Ran, market: Market, database_url: str
) -> None:
    last = round(OCTOBER_ENDS.timestamp()) - 1
    simulator.inject(
        Fault(
            action=Action.STATUS,
            status=200,
            body='{"s":"no_data"}',
            path=rf"resolution=60.*to={last}$",
            times=1,
        )
    )
    await ran(NOW)
    later = NOW + timedelta(hours=25)
    await ran(later)
    rows = await asyncio.to_thread(stored_bars, database_url, "SPLT", Timeframe.h1)
    final_ms = round((later - timedelta(minutes=15)).timestamp() * 1000)
    true = market.bars("SPLT", Timeframe.h1, midnight_ms(FIRST, "SPLT"), final_ms, now_ms=final_ms)
    assert [row[0] for row in rows] == true.ts_ms.tolist()
    assert [row[4] for row in rows] == true.close.tolist()
