"""Pages copied while the one before them is written: the tables are those of one by one."""

import asyncio
from collections.abc import Callable
from datetime import date
from typing import Any, Final

import asyncpg
import pytest

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.errors import LeaseLost
from backfill.run import behind, writing
from backfill.run.behind import Behind
from backfill.run.outcomes import Summary
from backfill.settings import AccountSettings
from backfill.settings.environment import Secret
from backfill.simulator import Simulator
from backfill.store import bars, pool
from backfill.store.bars import copy_ahead, write_chunks
from backfill.store.session import CopyRefused
from backfill.store.turns import Turns
from tests.conftest import NOW, query
from tests.integration.test_run_behind import EMPTIED, tables_of

PAIR: Final = "SOL/USDT"
FIRST, LAST = date(2024, 9, 12), date(2024, 9, 15)
# In the second page, which holds the minutes of a day before its newest thousand.
THERE: Final = """
    INSERT INTO ohlc_bars
    SELECT id, 'm1', '2024-09-15 00:00Z', 1, 2, 0.5, 1.5, 10, NULL, NULL FROM symbols
"""
OTHER_OWNER: Final = "UPDATE symbols SET successor_figi = 'BBG000B9XRY4' RETURNING id"


class Writes:
    """Writes of which the first waits until the bars of the second have been copied."""

    def __init__(self) -> None:
        self.copied: list[bool | type[BaseException]] = []
        self.first_ends: Callable[[], object] = lambda: None
        self.on_hold = True
        self._seen = asyncio.Event()

    async def copy_ahead(self, *given: Any) -> bool:
        try:
            self.copied.append(await copy_ahead(*given))
        except BaseException as error:
            self.copied.append(type(error))
            raise
        finally:
            self._seen.set()
        return bool(self.copied[-1])

    async def write_chunks(self, *given: Any, **options: Any) -> Any:
        if self.on_hold:
            self.on_hold = False
            await self._seen.wait()
            await asyncio.to_thread(self.first_ends)
        return await write_chunks(*given, **options)


@pytest.fixture
async def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    given = Writes()
    monkeypatch.setattr(behind, "MOST_WAITING", 100)
    monkeypatch.setattr(bars, "_MANY", 100)
    monkeypatch.setattr(writing, "copy_ahead", given.copy_ahead)
    monkeypatch.setattr(writing, "write_chunks", given.write_chunks)
    return given


@pytest.fixture
def load(simulate: Callable[..., Simulator], database_url: str) -> Callable[..., Any]:
    simulator = simulate(provider="binance")
    account = AccountSettings(url=simulator.url, archive_url=simulator.url, plan="unlimited")
    settings = api.Settings(
        database_url=Secret(database_url), provider_name="binance", accounts={"binance": account}
    )

    async def run() -> Summary:
        job = api.Job(
            symbols=(PAIR,),
            timeframes=(Timeframe.m1,),
            first=Bound(FIRST),
            last=Bound(LAST),
            as_of=NOW,
        )
        return await api.run(settings, job)

    return run


@pytest.fixture
async def expected(
    load: Callable[..., Any], database_url: str, writes: Writes
) -> list[list[tuple[Any, ...]]]:
    """Return the tables of pages that are written one by one."""
    takes = Behind.takes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Behind, "takes", lambda *given: not given[0]._places and takes(*given))
        writes.on_hold = False
        assert (await load()).exit_code == 0
    assert writes.copied == []
    tables = await tables_of(database_url)
    assert all(tables), "a comparison with nothing proves nothing"
    await asyncio.to_thread(query, database_url, EMPTIED)
    writes.on_hold = True
    return tables


async def test_pages_that_are_copied_ahead_leave_what_they_leave_one_by_one(
    load: Callable[..., Any],
    database_url: str,
    writes: Writes,
    expected: list[list[tuple[Any, ...]]],
) -> None:
    ended = await load()
    assert ended.exit_code == 0
    assert True in writes.copied
    assert await tables_of(database_url) == expected


async def test_a_row_that_is_there_after_all_is_merged(
    load: Callable[..., Any],
    database_url: str,
    writes: Writes,
    expected: list[list[tuple[Any, ...]]],
) -> None:
    await asyncio.to_thread(query, database_url, THERE + "RETURNING symbol_id")
    ended = await load()
    assert ended.exit_code == 0
    assert CopyRefused in writes.copied
    assert ended.bars.updated == 1
    assert (await tables_of(database_url))[0] == expected[0]


async def test_what_was_copied_goes_where_the_write_before_fails(
    load: Callable[..., Any], database_url: str, writes: Writes
) -> None:
    def lose() -> None:
        raise LeaseLost("another run has it")

    writes.first_ends = lose
    ended = await load()
    assert writes.copied == [True]
    assert ended.bars.inserted == 0
    assert await asyncio.to_thread(query, database_url, "SELECT FROM ohlc_bars") == []


async def test_nothing_stays_that_was_copied_of_a_symbol_that_is_another_by_now(
    load: Callable[..., Any],
    database_url: str,
    writes: Writes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def other_owner(*given: Any) -> bool:
        copied = await writes.copy_ahead(*given)
        await asyncio.to_thread(query, database_url, OTHER_OWNER)
        return copied

    monkeypatch.setattr(writing, "copy_ahead", other_owner)
    ended = await load()
    assert [one.outcome for one in ended.failures] == ["source_mismatch"]
    assert True in writes.copied
    [(stored,)] = await asyncio.to_thread(query, database_url, "SELECT count(*) FROM ohlc_bars")
    assert stored == ended.bars.inserted > 0


async def test_pages_that_are_copied_ahead_count_what_they_write(
    load: Callable[..., Any], database_url: str, writes: Writes
) -> None:
    assert (await load()).exit_code == 0
    assert True in writes.copied
    noted = await asyncio.to_thread(query, database_url, "SELECT FROM uncounted_writes")
    assert noted == []


async def test_a_write_that_waits_for_the_one_before_it_keeps_no_connection_from_it(
    load: Callable[..., Any],
    database_url: str,
    writes: Writes,
    expected: list[list[tuple[Any, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What a server leaves that takes one session of a login.
    monkeypatch.setattr(pool, "Turns", lambda _: Turns(1))
    writes.on_hold = False
    put, next_is_put, faults = Behind.put, asyncio.Event(), [asyncpg.DeadlockDetectedError("")]
    places: list[int] = []

    def noted(self: Behind, *given: Any) -> asyncio.Task[bool]:
        written = put(self, *given)
        places.append(1)
        if len(places) == 2:
            next_is_put.set()
        return written

    async def fails_once(*given: Any) -> Any:
        if faults:
            await next_is_put.wait()
            raise faults.pop()
        return await bars.lock(*given)

    monkeypatch.setattr(Behind, "put", noted)
    monkeypatch.setattr(writing, "lock", fails_once)
    async with asyncio.timeout(30):
        ended = await load()
    assert ended.exit_code == 0
    assert not faults
    assert await tables_of(database_url) == expected
