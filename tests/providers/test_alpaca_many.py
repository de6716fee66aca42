"""Alpaca's newest bars of many stocks are one call."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.work import Mode
from backfill.providers.alpaca import Alpaca
from backfill.run.outcomes import Summary
from backfill.run.prepare import prepare
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Call, Market, Simulator
from backfill.simulator.wire import alpaca as wire
from backfill.store.pool import Database
from backfill.workers.enqueue import fetches_of
from tests.conftest import KEY, NOW, query, stored_bars
from tests.integration.truth import assert_same, true_bars

SINCE = date(2024, 11, 1)
STOCKS = ("AAPL", "BRK-B", "NEWNM", "SIM001", "SIM002")


def settings_of(simulator: Simulator, database_url: str) -> api.Settings:
    key = Secret(KEY)
    account = AccountSettings(
        url=simulator.url, other_url=simulator.url, plan="unlimited", keys=(key, key)
    )
    return api.Settings(
        database_url=Secret(database_url), provider_name="alpaca", accounts={"alpaca": account}
    )


def symbols_of(call: Call) -> str:
    return call.query["symbols"]


async def test_the_newest_day_of_five_stocks_is_one_call_that_names_them(
    simulate: Callable[..., Simulator], market: Market, database_url: str
) -> None:
    simulator = simulate(provider="alpaca")
    settings = settings_of(simulator, database_url)

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


MANY: Final = tuple(f"SIM{number:03}" for number in range(1, 13))
OPEN, LATER = NOW + timedelta(hours=4), NOW + timedelta(hours=7)
TABLES: Final = """
    SELECT ticker, p.timeframe::text, coverage::text, e.reason::text, e.slots::text,
        (
            SELECT array_agg((b.ts, b.open, b.volume)::text ORDER BY b.ts)
            FROM ohlc_bars AS b
            WHERE b.symbol_id = s.id AND b.timeframe = p.timeframe
        )
    FROM symbols AS s
    JOIN backfill_progress AS p ON p.symbol_id = s.id
    LEFT JOIN known_empty AS e ON e.symbol_id = s.id AND e.timeframe = p.timeframe
    ORDER BY ticker, p.timeframe, e.month, e.reason, e.slots
"""
FORGET: Final = "TRUNCATE ohlc_bars, backfill_progress, known_empty, symbols CASCADE"


@dataclass(frozen=True)
class Loads:
    """Runs of the minutes of twelve stocks: a first load, and what three hours bring."""

    simulator: Simulator
    url: str
    queued: list[str] = field(default_factory=list)
    """What the last increment would have been as jobs of a queue."""

    async def run(self) -> tuple[api.Plan, Summary, list[tuple[Any, ...]]]:
        """Load anew and go on; return the increment's plan, its summary, and all that is kept."""
        settings = settings_of(self.simulator, self.url)
        await asyncio.to_thread(query, self.url, FORGET)
        self.simulator.set_now(OPEN)
        assert (await api.run(settings, self._job())).exit_code == 0
        self.simulator.set_now(LATER)
        async with Database.connect(self.url) as database:
            prepared = await prepare(
                database, settings, self._job(), self.simulator.now, register=False
            )
        self.queued[:] = [one.kind for one in fetches_of(settings, prepared, self._job())]
        planned = await api.plan(settings, self._job())
        increment = await api.run(settings, self._job())
        assert (increment.exit_code, increment.failures) == (0, [])
        again = await api.run(settings, self._job())
        assert (again.exit_code, again.calls) == (0, 0)
        return planned, increment, await asyncio.to_thread(query, self.url, TABLES)

    def _job(self) -> api.Job:
        return api.Job(
            symbols=MANY,
            timeframes=(Timeframe.m5, Timeframe.h1),
            first=Bound(date(2024, 11, 8)),
            mode=Mode.incremental,
            as_of=self.simulator.now,
        )


async def test_what_three_hours_brought_of_twelve_stocks_is_one_call_and_the_same_as_by_twelve(
    simulate: Callable[..., Simulator], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Loads(simulate(provider="alpaca"), database_url)
    planned, together, tables = await loads.run()
    assert (planned.calls, planned.calls_grouped, together.calls) == (1, 1, 1)
    assert planned.calls_max == 1 + len(MANY)
    assert loads.queued == ["batch"]
    assert sorted(loads.simulator.calls[-1].query["symbols"].split(",")) == sorted(MANY)

    monkeypatch.setattr(Alpaca, "most_symbols", 1)
    planned, apart, by_themselves = await loads.run()
    assert (planned.calls, planned.calls_grouped, apart.calls) == (len(MANY), 0, len(MANY))
    assert loads.queued == ["series"] * len(MANY)
    assert together.bars == apart.bars
    assert tables == by_themselves


async def test_of_an_answer_that_is_cut_only_the_stocks_before_the_cut_are_taken(
    simulate: Callable[..., Simulator], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Loads(simulate(provider="alpaca"), database_url)
    *_, whole = await loads.run()

    monkeypatch.setattr(wire, "_STOCKS_A_PAGE", 150)
    _, cut, tables = await loads.run()

    *_, together = [at for at, call in enumerate(loads.simulator.calls) if "," in symbols_of(call)]
    alone = [symbols_of(call) for call in loads.simulator.calls[together + 1 :]]
    assert 2 < len(alone) < len(MANY)
    assert sorted(alone) == sorted(MANY)[-len(alone) :]
    assert cut.calls == 1 + len(alone)
    assert tables == whole
