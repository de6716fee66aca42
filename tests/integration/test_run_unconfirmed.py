"""An answer without any bar that proves nothing by itself, as Coinbase has given them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from backfill import api
from backfill.core.timeframe import HOUR_MS, Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.run.outcomes import Summary
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import NOW, query, stored_bars
from tests.integration.truth import midnight_ms

FIRST: Final = date(2024, 10, 14)
SILENT: Final = (datetime(2024, 10, 18, 11, tzinfo=UTC), datetime(2024, 10, 30, 23, tzinfo=UTC))
"""The second newest window of 300 hours; it begins and ends within slots of h4."""


@dataclass(frozen=True)
class Place:
    """Coinbase's simulator, and a database with the settings for both."""

    simulator: Simulator
    market: Market
    url: str
    settings: api.Settings

    async def run(
        self, now: datetime, mode: Mode = Mode.default, *, since: date = FIRST
    ) -> Summary:
        """Fetch h1 and h4 of BTC/USD as of an instant."""
        self.simulator.set_now(now)
        job = api.Job(
            symbols=("BTC/USD",),
            timeframes=(Timeframe.h1, Timeframe.h4),
            first=None if mode is Mode.incremental else Bound(since),
            as_of=now,
            mode=mode,
        )
        summary = await api.run(self.settings, job)
        assert (summary.exit_code, summary.failures) == (0, [])
        return summary

    def stays_silent(self, times: int | None) -> None:
        """Let Coinbase answer the window without any candle, so many times."""
        path = r"granularity=3600.*end=2024-10-30T22%3A00%3A00Z"
        self.simulator.inject(
            Fault(action=Action.STATUS, status=200, body="[]", path=path, times=times)
        )

    async def lacks(self, timeframe: Timeframe, now: datetime, since: date = FIRST) -> list[Any]:
        """Return which of the bars that are final aren't stored; what is stored is right."""
        final_ms = round(now.timestamp() * 1000) - 120_000
        first_ms = midnight_ms(since, "X:BTCUSD")
        true = self.market.bars("X:BTCUSD", timeframe, first_ms, final_ms, now_ms=final_ms)
        rows = dict(zip(true.ts_ms.tolist(), true.close.tolist(), strict=True))
        rows_held = await asyncio.to_thread(stored_bars, self.url, "BTC/USD", timeframe)
        held = {row[0]: row[4] for row in rows_held}
        assert held.items() <= rows.items()
        return sorted(rows.keys() - held.keys())


@pytest.fixture
def place(simulate: Callable[..., Simulator], market: Market, database_url: str) -> Place:
    """A place to run in."""
    simulator = simulate(provider="coinbase")
    account = AccountSettings(url=simulator.url, plan="unlimited")
    settings = api.Settings(
        database_url=Secret(database_url), provider_name="coinbase", accounts={"coinbase": account}
    )
    return Place(simulator, market, database_url, settings)


def hours(*bounds: datetime) -> list[int]:
    start, end = (midnight_ms(one.date(), "X:") + one.hour * HOUR_MS for one in bounds)
    return list(range(start, end, HOUR_MS))


async def test_an_empty_answer_is_asked_for_once_more_at_once(place: Place) -> None:
    place.stays_silent(times=1)
    summary = await place.run(NOW)
    assert (summary.calls, summary.retries) == (4, 1)
    assert await place.lacks(Timeframe.h1, NOW) == await place.lacks(Timeframe.h4, NOW) == []


async def test_what_is_empty_twice_is_not_claimed_and_asked_again_on_another_day(
    place: Place,
) -> None:
    place.stays_silent(times=2)
    summary = await place.run(NOW)
    assert (summary.calls, summary.retries) == (4, 1)
    assert await place.lacks(Timeframe.h1, NOW) == hours(*SILENT)
    # Whole slots alone: what the bars beside the silence are parts of isn't rolled up.
    assert (
        await place.lacks(Timeframe.h4, NOW)
        == hours(datetime(2024, 10, 18, 8, tzinfo=UTC), datetime(2024, 10, 31, 0, tzinfo=UTC))[::4]
    )
    [covered] = await asyncio.to_thread(
        query,
        place.url,
        "SELECT bool_and(NOT coverage && '[2024-10-18 11:00+0, 2024-10-30 23:00+0)'::tstzrange) "
        "FROM backfill_progress",
    )
    assert covered[0]
    found = await api.gaps(place.settings, NOW)
    assert found.exit_code == 4
    assert {str(gap.reason) for one in found.gaps for gap in one.gaps} == {"absent"}

    assert (await place.run(NOW)).calls == 0
    assert (await place.run(NOW + timedelta(minutes=1))).calls == 0
    tomorrow = NOW + timedelta(hours=25)
    healed = await place.run(tomorrow, Mode.incremental)
    assert healed.retries == 0
    assert (
        await place.lacks(Timeframe.h1, tomorrow) == await place.lacks(Timeframe.h4, tomorrow) == []
    )
    assert (await api.gaps(place.settings, tomorrow)).exit_code == 0


async def test_what_is_empty_on_another_day_too_is_believed(place: Place) -> None:
    long = (datetime(2024, 9, 24, 5, tzinfo=UTC), SILENT[1])
    first_ms, *_, last_ms = hours(*long)
    lacking = Fault(action=Action.LACKING, span_ms=(first_ms, last_ms + HOUR_MS))
    place.simulator.inject(lacking)
    since = date(2024, 9, 20)
    first = await place.run(NOW, since=since)
    assert (first.calls, first.retries) == (5 + 2, 2)
    [covered] = await asyncio.to_thread(
        query, place.url, "SELECT range_agg(one) FROM backfill_progress, unnest(coverage) AS one"
    )
    assert len(covered[0]) == 2

    tomorrow = NOW + timedelta(hours=25)
    second = await place.run(tomorrow, since=since)
    assert second.retries > 0
    assert await place.lacks(Timeframe.h1, tomorrow, since) == hours(*long)
    assert (await place.run(tomorrow, since=since)).calls == 0
    assert (await api.gaps(place.settings, tomorrow)).exit_code == 0
    later = await place.run(tomorrow + timedelta(hours=25), Mode.incremental)
    assert later.calls == 1

    # A reload takes it all out of the coverage, and can't tell by itself what it closes.
    reload = await place.run(tomorrow + timedelta(hours=26), Mode.reload, since=since)
    assert (reload.retries, reload.bars.withdrawn) == (second.retries + 1, 0)
    assert (await place.run(tomorrow + timedelta(hours=26), since=since)).calls > 0
    assert (await place.run(tomorrow + timedelta(hours=26), since=since)).calls == 0
