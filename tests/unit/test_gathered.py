"""Pages that wait for a turn together: who stops waiting, and what goes wrong with several."""

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from backfill.errors import DatabaseError, RowsDropped
from backfill.run import gathered
from backfill.run.gathered import Gathered
from backfill.run.writers import Writers
from backfill.run.writing import Written

CALENDAR = object()


class Table:
    """What is written, by the ids of the symbols; what is on hold alone never ends."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, ...]] = []
        self.ended: list[tuple[int, ...]] = []
        self.on_hold: set[int] = set()
        self.fault_of: Callable[[tuple[int, ...]], Exception | None] = lambda _: None
        database: Any = SimpleNamespace(trip_s=0.001)
        self.writer: Any = SimpleNamespace(writers=Writers(database))
        self.pages = Gathered()

    async def write_in_turn(self, _: Any, works: Sequence[Any], *__: Any, **___: Any) -> Written:
        ids = tuple(one.symbol.id for one in works)
        self.begun.append(ids)
        if self.on_hold.issuperset(ids):
            await asyncio.Event().wait()
        if (error := self.fault_of(ids)) is not None:
            raise error
        self.ended.append(ids)
        return Written([], 0.0, frozenset())

    def put(self, *ids: int) -> list[asyncio.Task[Written]]:
        """Have pages of symbols written."""
        return [asyncio.create_task(self._put(one)) for one in ids]

    async def _put(self, number: int) -> Written:
        symbol = SimpleNamespace(id=number)
        work: Any = SimpleNamespace(symbol=symbol, calendar=CALENDAR, day_final_ms=0, series=[])
        place: Any = None
        return await self.pages.write(self.writer, work, [], place, confirms=False)

    async def hold_both_turns(self) -> list[asyncio.Task[Written]]:
        """Have two pages written that end no sooner than nobody waits for them."""
        self.on_hold = {1, 2}
        first = self.put(1)
        await self.settle()
        second = self.put(2)
        await self.settle()
        assert self.begun == [(1,), (2,)]
        return first + second

    async def settle(self) -> None:
        """Let everything go on as far as it can."""
        for _ in range(30):
            await asyncio.sleep(0)


@pytest.fixture
async def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table()
    monkeypatch.setattr(gathered, "write_in_turn", made.write_in_turn)
    return made


async def turns_are_free(table: Table) -> bool:
    async with asyncio.timeout(10), table.writer.writers.turn(), table.writer.writers.turn():
        return True


async def test_whoever_waits_for_no_page_any_more_has_none_written(table: Table) -> None:
    held = await table.hold_both_turns()
    third, fourth = table.put(3, 4)
    await table.settle()
    third.cancel()
    await table.settle()
    for one in held:
        one.cancel()
    await asyncio.wait([third, *held])
    await fourth
    assert table.ended == [(4,)]
    assert await turns_are_free(table)


async def test_a_write_goes_on_for_whoever_still_waits_for_it_and_no_longer(table: Table) -> None:
    pages = await table.hold_both_turns()
    table.on_hold = {3, 4}
    three, four = table.put(3, 4)
    pages[0].cancel()
    await table.settle()
    assert table.begun[-1] == (3, 4)
    three.cancel()
    await table.settle()
    assert not four.done()
    pages[1].cancel()
    four.cancel()
    await asyncio.wait([*pages, three, four])
    assert table.ended == []
    assert await turns_are_free(table)


async def test_after_several_failed_together_nobody_writes_what_nobody_waits_for(
    table: Table,
) -> None:
    held = await table.hold_both_turns()
    pages = table.put(3, 4, 5)
    await table.settle()
    table.fault_of = lambda ids: RowsDropped("a row is gone") if len(ids) > 1 else None
    table.on_hold = {4}
    for one in held:
        one.cancel()
    await table.settle()
    assert table.begun[-3:] == [(3, 4, 5), (3,), (4,)]
    for one in pages[1:]:
        one.cancel()
    await asyncio.wait(pages)
    assert table.ended == [(3,)]
    assert table.begun[-1] == (4,)
    assert await turns_are_free(table)


async def test_the_first_fault_of_the_database_is_that_of_all_that_are_left(table: Table) -> None:
    def fault(ids: tuple[int, ...]) -> Exception | None:
        if len(ids) > 1:
            return RowsDropped("a row is gone")
        return DatabaseError("it is full") if ids == (4,) else None

    held = await table.hold_both_turns()
    pages = table.put(3, 4, 5, 6)
    await table.settle()
    table.on_hold, table.fault_of = set(), fault
    for one in held:
        one.cancel()
    ended = await asyncio.gather(*pages, return_exceptions=True)
    assert [type(one) for one in ended] == [Written, *[DatabaseError] * 3]
    assert table.begun[-1] == (4,)
