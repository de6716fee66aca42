"""A month of runs every six hours by a provider with faults at random, in simulated time (R29)."""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.settings import AccountSettings, Settings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import KEY, _fresh, blocking, stored_bars
from tests.integration.truth import asked, assert_same, true_bars

FIRST: Final = datetime(2024, 11, 1, tzinfo=UTC)
LAST: Final = datetime(2024, 12, 1, tzinfo=UTC)
"""Daylight time ends, a holiday and a half day lie within."""
SIX_HOURS: Final = timedelta(hours=6)
KEPT: Final = {
    "JPM": (Timeframe.m1, Timeframe.m5, Timeframe.h1, Timeframe.d1),
    "THIN": (Timeframe.m1,),
    "X:BTCUSD": (Timeframe.m1, Timeframe.h4, Timeframe.d1),
}
FAULTS: Final = 20


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def faults(seed: int) -> list[Fault]:
    """Return faults at random, each mended within half a day of the first run that meets it."""
    rng = random.Random(seed)
    found = []
    for number in range(FAULTS):
        at = FIRST + timedelta(minutes=rng.randrange(60 * 24, 60 * 24 * 28))
        ticker = rng.choice(tuple(KEPT))
        if number % 2:
            found.append(
                Fault(
                    action=Action.BEHIND,
                    ticker=ticker,
                    behind_s=rng.randrange(60, 3300),
                    since=at,
                    until=at + timedelta(hours=rng.randrange(1, 12)),
                )
            )
        else:
            # Cut off for the rest of the day, or a hole in its midst; mended before it ends.
            ends = at + timedelta(minutes=rng.choice((17, 86, 300)))
            found.append(
                Fault(
                    action=Action.LACKING,
                    ticker=ticker,
                    span_ms=(ms(at), ms(ends)),
                    until=at + timedelta(hours=rng.choice((3, 5, 7))),
                )
            )
    return found


def month(simulator: Simulator, url: str) -> int:
    """Keep the series for a month and return how many calls for bars that took."""
    settings = Settings(
        database_url=Secret(url),
        provider_url=simulator.url,
        accounts={"massive": AccountSettings(keys=(Secret(KEY),))},
        quota_override="unlimited",
        plan="advanced",
    )
    at = FIRST + SIX_HOURS
    while at <= LAST + 2 * timedelta(days=1):
        simulator.set_now(at)
        for ticker, timeframes in KEPT.items():
            job = api.Job(
                (ticker,), timeframes, mode=Mode.incremental, first=Bound(FIRST), as_of=at
            )
            summary = blocking(api.run(settings, job))
            assert summary.exit_code == 0, summary.error
        at += SIX_HOURS
    return len(asked(simulator))


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_a_month_with_twenty_faults_ends_with_the_table_of_an_undisturbed_one(
    market: Market, simulate: Callable[..., Simulator], server: str, template: str, seed: int
) -> None:
    calm, disturbed = simulate(), simulate()
    for fault in faults(seed):
        disturbed.inject(fault)
    first, second = (_fresh(server, template) for _ in range(2))
    urls = next(first), next(second)
    calls = [month(one, url) for one, url in zip((calm, disturbed), urls, strict=True)]
    for ticker, timeframes in KEPT.items():
        for timeframe in timeframes:
            rows = [stored_bars(url, ticker, timeframe) for url in urls]
            assert rows[0] == rows[1]
            native = timeframe in {Timeframe.m1, Timeframe.d1}
            true = true_bars(market, ticker, timeframe, date(2024, 11, 4), date(2024, 12, 1))
            begin = true[0][0]
            stored = [row for row in rows[1] if begin <= row[0] <= true[-1][0]]
            assert_same(stored, true, rolled_up=not native)
    assert calls[1] <= 1.1 * calls[0]
    for made in (first, second):
        next(made, None)
