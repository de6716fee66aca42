"""Small pages that come while one is written: the tables are those of pages written one by one."""

import asyncio
from collections.abc import Callable
from datetime import date
from typing import Any, Final

import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.run import writing
from backfill.run.behind import Behind
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Simulator
from backfill.store.bars import write_chunks
from tests.conftest import NOW, query

PAIR: Final = "SOL/USDT"
"""It has minutes in which nobody traded, and a day on which it was halted."""
FIRST, LAST = date(2024, 9, 12), date(2024, 9, 15)
TABLES: Final = (
    "SELECT b::text FROM ohlc_bars AS b ORDER BY timeframe, ts",
    """
    SELECT timeframe::text, coverage::text, provisional::text, oldest_bar, newest_bar, bars
    FROM backfill_progress
    ORDER BY 1
    """,
    "SELECT timeframe::text, month, reason::text, slots::text FROM known_empty ORDER BY 1, 2, 3, 4",
)
EMPTIED: Final = """
    WITH bars AS (DELETE FROM ohlc_bars), empty AS (DELETE FROM known_empty)
    DELETE FROM backfill_progress RETURNING symbol_id
"""


async def tables_of(url: str) -> list[list[tuple[Any, ...]]]:
    read = [await asyncio.to_thread(query, url, statement) for statement in TABLES]
    return [[tuple(row) for row in rows] for rows in read]


@pytest.mark.parametrize("provider", ["binance", "bybit"])
async def test_pages_that_wait_for_a_write_leave_what_they_leave_one_by_one(
    provider: str,
    simulate: Callable[..., Simulator],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator = simulate(provider=provider)
    account = AccountSettings(url=simulator.url, archive_url=simulator.url, plan="unlimited")
    settings = api.Settings(
        database_url=Secret(database_url), provider_name=provider, accounts={provider: account}
    )
    job = api.Job(
        symbols=(PAIR,),
        timeframes=(Timeframe.m1, Timeframe.m15, Timeframe.h4),
        first=Bound(FIRST),
        last=Bound(LAST),
        as_of=NOW,
    )
    pages: list[int] = []
    writes: list[int] = []
    takes, put, held = Behind.takes, Behind.put, asyncio.Event()

    async def written(*given: Any, **options: Any) -> Any:
        await held.wait()
        writes.append(len(pages))
        return await write_chunks(*given, **options)

    def counted(self: Behind, *given: Any) -> asyncio.Task[bool]:
        pages.append(len(given[0]))
        return put(self, *given)

    def one_by_one(self: Behind, *given: Any) -> bool:
        return not self._places and takes(self, *given)

    def all_at_once(self: Behind, *given: Any) -> bool:
        if not takes(self, *given) or len(pages) > 3:
            held.set()
        return takes(self, *given)

    monkeypatch.setattr(writing, "write_chunks", written)
    monkeypatch.setattr(Behind, "put", counted)
    monkeypatch.setattr(Behind, "takes", one_by_one)
    held.set()
    first = await api.run(settings, job)
    assert (first.exit_code, len(writes)) == (0, len(pages))
    expected = await tables_of(database_url)
    assert all(expected), "a comparison with nothing proves nothing"

    await asyncio.to_thread(query, database_url, EMPTIED)
    monkeypatch.setattr(Behind, "takes", all_at_once)
    pages.clear()
    writes.clear()
    held.clear()
    together = await api.run(settings, job)
    assert (together.exit_code, together.calls) == (0, first.calls)
    assert together.bars == first.bars
    assert len(writes) <= len(pages) - 3
    assert await tables_of(database_url) == expected
