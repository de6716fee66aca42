"""A split falls between two runs: what was stored before it is on no old share basis after it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.run.outcomes import Summary
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Action, Fault, Market, Simulator
from tests.conftest import KEY, query, stored_bars
from tests.integration.truth import midnight_ms

BEFORE: Final = datetime(2024, 6, 8, 12, tzinfo=UTC)
"""A Saturday; SPLT is split ten for one on the Monday."""
AFTER: Final = datetime(2024, 6, 12, 12, tzinfo=UTC)
FIRST: Final = date(2024, 4, 1)

Ran = Callable[..., Awaitable[Summary]]


@pytest.fixture
def provider() -> str:
    """Whose bars are adjusted; a test may have another."""
    return "yahoo"


@pytest.fixture
def simulator(simulate: Callable[..., Simulator], provider: str) -> Simulator:
    """The provider."""
    return simulate(provider=provider, now=BEFORE)


@pytest.fixture
def ran(simulator: Simulator, provider: str, database_url: str) -> Ran:
    """Runs a symbol as of an instant, of the provider alone."""
    keys = tuple(
        Secret(KEY) for _ in range({"finnhub": 1, "twelvedata": 1, "alpaca": 2}.get(provider, 0))
    )
    account = AccountSettings(url=simulator.url, plan="unlimited", keys=keys, secrets=keys)
    settings = api.Settings(
        database_url=Secret(database_url),
        provider_name=provider,
        adjustment_override="split" if provider == "alpaca" else None,
        accounts={provider: account},
    )

    async def run(now: datetime, *timeframes: Timeframe, **options: Any) -> Summary:
        simulator.set_now(now)
        job = api.Job(
            **{
                "symbols": ("SPLT",),
                "timeframes": timeframes or (Timeframe.d1, Timeframe.w1),
                "first": Bound(FIRST),
                "as_of": now,
                **options,
            }
        )
        summary = await api.run(settings, job)
        assert (summary.exit_code, summary.failures) == (0, [])
        return summary

    return run


def true(market: Market, timeframe: Timeframe, now: datetime, first: date = FIRST) -> list[Any]:
    final_ms = round((now - timedelta(hours=1)).timestamp() * 1000)
    bars = market.bars(
        "SPLT",
        timeframe,
        midnight_ms(first, "SPLT"),
        final_ms,
        adjusted=True,
        regular=True,
        now_ms=final_ms,
    )
    columns = (bars.ts_ms, bars.open, bars.high, bars.low, bars.close)
    return list(zip(*(column.tolist() for column in columns), strict=True))


async def stored(database_url: str, timeframe: Timeframe) -> list[Any]:
    rows = await asyncio.to_thread(stored_bars, database_url, "SPLT", timeframe)
    return [row[:5] for row in rows]


@pytest.mark.parametrize(
    "provider",
    [
        pytest.param("yahoo", marks=pytest.mark.wide),
        "alpaca",
        pytest.param("finnhub", marks=pytest.mark.soak),
        pytest.param("twelvedata", marks=pytest.mark.soak),
    ],
)
async def test_the_run_after_a_split_loads_all_days_and_weeks_again_and_the_next_is_quiet(
    provider: str, ran: Ran, market: Market, database_url: str
) -> None:
    first = await ran(BEFORE)
    assert first.rebased == []
    old = await stored(database_url, Timeframe.d1)
    assert old == true(market, Timeframe.d1, BEFORE)

    increment = await ran(AFTER, mode=Mode.incremental)

    for timeframe in (Timeframe.d1, Timeframe.w1):
        assert await stored(database_url, timeframe) == true(market, timeframe, AFTER)
    told = {(str(one.series.timeframe), one.factor, one.expelled) for one in increment.rebased}
    assert told == {("d1", 10.0, 0), ("w1", 10.0, 0)}
    assert increment.notice is not None
    assert "SPLT d1 was stored 10 times as high" in increment.notice
    assert increment.as_dict()["rebased"][0] == {
        "symbol": "SPLT",
        "timeframe": "d1",
        "factor": 10.0,
        "expelled": 0,
    }
    assert increment.bars.updated >= len(old)
    dates = "SELECT DISTINCT loaded_at, answered_at FROM backfill_progress"
    [dated] = await asyncio.to_thread(query, database_url, dates)
    assert tuple(dated) == (AFTER, AFTER)
    for later in (AFTER, AFTER + timedelta(days=1)):
        quiet = await ran(later)
        assert (quiet.rebased, quiet.bars.updated) == ([], 0)
    assert await stored(database_url, Timeframe.d1) == true(
        market, Timeframe.d1, AFTER + timedelta(days=1)
    )


async def test_weeks_alone_are_loaded_again_too_and_so_is_what_a_deeper_run_finds(
    ran: Ran, market: Market, database_url: str
) -> None:
    await ran(BEFORE, Timeframe.w1)
    # Nothing newer is due; what is older comes on the new basis.
    deeper = date(2023, 10, 2)
    run = await ran(AFTER, Timeframe.w1, first=Bound(deeper))
    assert [one.factor for one in run.rebased] == [10.0]
    assert await stored(database_url, Timeframe.w1) == true(market, Timeframe.w1, AFTER, deeper)


async def test_minutes_that_can_not_be_read_again_leave_for_quarantine_and_are_counted(
    simulator: Simulator, ran: Ran, market: Market, database_url: str
) -> None:
    await ran(BEFORE - timedelta(days=40), Timeframe.m15)
    await ran(BEFORE, Timeframe.m15)
    held = await stored(database_url, Timeframe.m15)
    later = AFTER + timedelta(days=1)

    run = await ran(later, Timeframe.m15)

    reach = date(2024, 6, 13) - timedelta(days=58)
    now_ms = round((later - timedelta(minutes=2)).timestamp() * 1000)
    bars = market.bars(
        "SPLT",
        Timeframe.m15,
        midnight_ms(reach, "SPLT"),
        now_ms,
        adjusted=True,
        regular=True,
        now_ms=now_ms,
    )
    rows = await asyncio.to_thread(stored_bars, database_url, "SPLT", Timeframe.m15)
    assert [(row[0], row[4]) for row in rows] == list(
        zip(bars.ts_ms.tolist(), bars.close.tolist(), strict=True)
    )
    unreadable = sum(row[0] < midnight_ms(reach, "SPLT") for row in held)
    assert unreadable > 0
    assert [one.expelled for one in run.rebased] == [unreadable] == [run.bars.withdrawn]
    quarantined = "SELECT count(*) FROM quarantined_bars WHERE reason = 'source_changed'"
    assert (await asyncio.to_thread(query, database_url, quarantined))[0][0] == unreadable
    assert (await ran(later, Timeframe.m15)).calls == 0


async def test_a_split_after_days_without_a_trade_is_seen_by_the_bars_before_them(
    simulator: Simulator, ran: Ran, market: Market, database_url: str
) -> None:
    halted = midnight_ms(date(2024, 5, 24), "SPLT"), midnight_ms(date(2024, 6, 10), "SPLT")
    simulator.inject(Fault(action=Action.DROP_BARS, ticker="SPLT", span_ms=halted))
    await ran(BEFORE, Timeframe.d1)

    run = await ran(AFTER, Timeframe.d1, mode=Mode.incremental)

    assert [one.factor for one in run.rebased] == [10.0]
    assert await stored(database_url, Timeframe.d1) == [
        bar for bar in true(market, Timeframe.d1, AFTER) if not halted[0] <= bar[0] < halted[1]
    ]
    assert (await ran(AFTER, Timeframe.d1)).rebased == []


async def test_a_split_after_days_at_one_price_is_seen_by_the_bar_before_them(
    simulator: Simulator, ran: Ran, market: Market, database_url: str
) -> None:
    span_ms = midnight_ms(date(2024, 5, 28), "SPLT"), midnight_ms(date(2024, 6, 8), "SPLT")
    [*_, (*_, price)] = (bar for bar in true(market, Timeframe.d1, BEFORE) if bar[0] < span_ms[0])

    def halt_at(price: float) -> None:
        simulator.clear_faults()
        bar = dict.fromkeys("ohlc", price)
        simulator.inject(Fault(action=Action.EDIT_BARS, ticker="SPLT", span_ms=span_ms, bar=bar))

    halt_at(price)
    await ran(BEFORE, Timeframe.d1)
    halt_at(price / 10)

    run = await ran(AFTER, Timeframe.d1, mode=Mode.incremental)

    assert [one.factor for one in run.rebased] == [10.0]
    assert [bar for bar in await stored(database_url, Timeframe.d1) if bar[0] < span_ms[0]] == [
        bar for bar in true(market, Timeframe.d1, AFTER) if bar[0] < span_ms[0]
    ]


async def test_one_day_that_was_stored_in_cents_is_corrected_and_nothing_else_asked_for(
    ran: Ran, market: Market, database_url: str
) -> None:
    monday = BEFORE - timedelta(days=4)
    await ran(monday, Timeframe.d1)
    in_cents = """
        UPDATE ohlc_bars
        SET open = open * 100, high = high * 100, low = low * 100, close = close * 100
        WHERE ts = $1
        RETURNING ts
    """
    oldest_beside = datetime(2024, 5, 28, 4, tzinfo=UTC)
    assert await asyncio.to_thread(query, database_url, in_cents, oldest_beside)

    run = await ran(BEFORE, Timeframe.d1)

    assert (run.rebased, run.bars.updated) == ([], 1)
    assert await stored(database_url, Timeframe.d1) == true(market, Timeframe.d1, BEFORE)
