"""Small pages of many series that wait for a turn to write: one transaction, the same tables."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any, Final

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.errors import DatabaseError, RowsDropped
from backfill.run import gathered
from backfill.run.gathered import Gathered
from backfill.run.outcomes import Summary
from backfill.run.writing import write_in_turn
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Simulator
from tests.conftest import NOW, query
from tests.integration.test_run_behind import EMPTIED, tables_of

SINCE: Final = date(2024, 11, 4)
TICKERS: Final = tuple(f"SIM{number:03}" for number in range(5))
"""As many as turns are taken at once from the start."""
ANOTHER_TAKES: Final = """
    UPDATE backfill_progress AS p
    SET claimed_by = gen_random_uuid(), claimed_until = now() + interval '1 hour'
    FROM symbols AS s
    WHERE s.id = p.symbol_id AND s.ticker = '{ticker}'
    RETURNING p.symbol_id
"""


class Held:
    """Writes, the first of which wait until the pages of all have come."""

    def __init__(self, write: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self.sizes: list[int] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.fails: Callable[[int], Exception | None] = lambda _: None
        self._came = 0
        self._all = asyncio.Event()

    async def page(self, *given: Any, **options: Any) -> Any:
        self._came += 1
        if self._came == len(TICKERS):
            await asyncio.to_thread(self.meanwhile)
            self._all.set()
        return await self._write(*given, **options)

    async def write_in_turn(self, *given: Any, **options: Any) -> Any:
        size = len(options["places"])
        self.sizes.append(size)
        async with asyncio.timeout(60):
            await self._all.wait()
        if (error := self.fails(size)) is not None:
            raise error
        return await write_in_turn(*given, **options)


@pytest.fixture
async def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    given = Held(Gathered.write)

    async def write(*arguments: Any, **options: Any) -> Any:
        return await given.page(*arguments, **options)

    monkeypatch.setattr(Gathered, "write", write)
    monkeypatch.setattr(gathered, "write_in_turn", given.write_in_turn)
    return given


@pytest.fixture
def load(simulate: Callable[..., Simulator], database_url: str) -> Callable[[], Awaitable[Summary]]:
    simulator = simulate()
    account = AccountSettings(
        url=simulator.url, plan="unlimited", quota="unlimited", keys=(Secret("sim-key"),)
    )
    settings = api.Settings(
        database_url=Secret(database_url), provider_name="massive", accounts={"massive": account}
    )
    job = api.Job(
        symbols=TICKERS, timeframes=(Timeframe.m15, Timeframe.h1), first=Bound(SINCE), as_of=NOW
    )
    return lambda: api.run(settings, job)


async def sorted_tables_of(url: str) -> list[list[tuple[Any, ...]]]:
    return [sorted(rows, key=repr) for rows in await tables_of(url)]


async def test_pages_that_wait_are_one_transaction_and_leave_what_they_leave_one_by_one(
    load: Callable[[], Awaitable[Summary]],
    held: Held,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = await load()
    assert together.exit_code == 0
    assert sum(held.sizes) == len(TICKERS)
    assert max(held.sizes) > 1
    tables = await sorted_tables_of(database_url)
    bars, progress, _ = map(len, tables)
    assert (bars, progress) == (together.bars.inserted, 2 * len(TICKERS))
    await asyncio.to_thread(query, database_url, EMPTIED)
    held.sizes.clear()
    monkeypatch.setattr(gathered, "_MOST_SERIES", 1)
    alone = await load()
    assert held.sizes == [1] * len(TICKERS)
    assert await sorted_tables_of(database_url) == tables
    assert (alone.bars, alone.series) == (together.bars, together.series)


async def test_a_lost_lease_costs_the_one_series_and_the_others_are_written(
    load: Callable[[], Awaitable[Summary]], held: Held, database_url: str
) -> None:
    taken = ANOTHER_TAKES.format(ticker=TICKERS[-1])
    held.meanwhile = lambda: query(database_url, taken)
    ended = await load()
    assert (ended.series.skipped, ended.series.complete) == (2, 2 * len(TICKERS) - 2)
    stored = await asyncio.to_thread(
        query, database_url, "SELECT DISTINCT ticker FROM ohlc_bars JOIN symbols ON id = symbol_id"
    )
    assert {ticker for (ticker,) in stored} == {*TICKERS[:-1]}


async def test_what_goes_wrong_with_several_together_is_told_of_none_that_is_written_alone(
    load: Callable[[], Awaitable[Summary]], held: Held
) -> None:
    held.fails = lambda size: RowsDropped("a row is gone") if size > 1 else None
    ended = await load()
    assert ended.exit_code == 0
    assert max(held.sizes) > 1
    assert held.sizes.count(1) == len(TICKERS)


async def test_a_fault_of_the_database_is_not_met_once_more_for_each_of_them(
    load: Callable[[], Awaitable[Summary]], held: Held
) -> None:
    held.fails = lambda size: DatabaseError("it is full") if size > 1 else None
    ended = await load()
    assert ended.exit_code == 3
    assert max(held.sizes) > 1
    assert sum(held.sizes) <= len(TICKERS)
