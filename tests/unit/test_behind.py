"""Pages behind the turns that fetch them: what waits goes together, what is large goes ahead."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pytest

from backfill.core.archive import FileRead
from backfill.core.bars import Bars
from backfill.core.coverage import Spans
from backfill.core.paging import Chunk
from backfill.core.series import Series, Source, Symbol
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.errors import DatabaseError
from backfill.run import behind
from backfill.run.behind import Behind, Place, Superseded

SERIES: Final = Series(Symbol(1, "BTC/USDT", "crypto", "24/7"), Timeframe.m1)
SOURCE: Final = Source("binance", "spot", "raw")
PAGE: Final = 10
FILE: Final = FileRead("a.zip", None, "0" * 64, 1)


def page(number: int) -> list[Chunk]:
    """Return what a page brings; the higher its number, the older it is."""
    first_ms = -number * PAGE * MINUTE_MS
    stamps = first_ms + np.arange(PAGE) * MINUTE_MS
    prices = (np.ones(PAGE),) * 5
    span = (first_ms, first_ms + PAGE * MINUTE_MS)
    return [Chunk(SERIES, SOURCE, Bars.priced(stamps, *prices), Spans.of(span))]


class Table:
    """What is written, each transaction once it is let through."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = 0
        self.written: list[Chunk] = []
        self.goes_on = True
        self.fails: Exception | None = None

    async def write(self, chunks: Sequence[Chunk], _file: FileRead | None, place: Place) -> bool:
        self.begun += 1
        await self.gate.wait()
        if place.before is not None and not await place.before.ended_well():
            raise Superseded
        if self.fails is not None:
            raise self.fails
        self.written += chunks
        return self.goes_on


@pytest.fixture
async def table() -> Table:
    return Table()


async def test_pages_that_come_while_one_is_written_go_in_one_transaction(table: Table) -> None:
    pages = Behind(table.write)
    for number in range(5):
        assert pages.takes(page(number))
        pages.put(page(number))
        await asyncio.sleep(0)
    table.gate.set()
    await pages.done()

    [first, others] = table.written
    assert first.claims == page(0)[0].claims
    assert others.claims == Spans.of((-4 * PAGE * MINUTE_MS, 0))
    assert others.bars.ts_ms.tolist() == list(range(-4 * PAGE * MINUTE_MS, 0, MINUTE_MS))


async def test_no_more_bars_wait_than_may_be_lost(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "MOST_WAITING", 2 * PAGE)
    pages = Behind(table.write)
    for number in range(3):
        assert pages.takes(page(number))
        pages.put(page(number))
    assert not pages.takes(page(3))
    table.gate.set()
    await pages.done()
    assert pages.takes(page(3))


async def test_what_says_more_than_bars_goes_alone(table: Table) -> None:
    pages = Behind(table.write)
    pages.put(page(0))
    [chunk] = page(1)
    set_aside = replace(chunk, rejected=chunk.bars, bars=Bars.empty())
    assert pages.takes([set_aside])
    pages.put([set_aside])
    assert not pages.takes(page(2))
    assert not pages.takes([set_aside])
    table.gate.set()
    await pages.done()
    assert [len(one.rejected) for one in table.written] == [0, PAGE]


@pytest.mark.parametrize("file", [FILE, None], ids=["a file", "many bars"])
async def test_of_large_pages_one_is_begun_before_the_one_before_it_has_ended(
    table: Table, file: FileRead | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "MOST_WAITING", PAGE - 1)
    pages = Behind(table.write)
    for number in range(2):
        assert pages.takes(page(number), file)
        pages.put(page(number), file)
    await asyncio.sleep(0)
    assert table.begun == 2
    assert not pages.takes(page(2), file)
    next_one = asyncio.create_task(pages.room_for(page(2), file))
    table.gate.set()
    await next_one
    pages.put(page(2), file)
    await pages.done()
    assert [one.claims for one in table.written] == [page(number)[0].claims for number in range(3)]


async def test_a_place_tells_that_a_write_leaves_nothing_if_it_has_told_nothing(
    table: Table,
) -> None:
    table.gate.set()
    place = Place(lambda place: table.write(page(0), None, place), None)
    assert await place.expected() is None
    assert await place.ended_well()


@pytest.mark.parametrize("file", [FILE, None], ids=["large", "small"])
@pytest.mark.parametrize("fails", [DatabaseError("gone"), None], ids=["a fault", "outdated"])
async def test_what_comes_behind_a_write_that_came_to_nothing_is_not_written(
    table: Table, fails: DatabaseError | None, file: FileRead | None
) -> None:
    table.fails, table.goes_on = fails, False
    pages = Behind(table.write)
    ends = [pages.put(page(number), file) for number in range(2 if file else 3)]
    table.gate.set()
    if fails:
        with pytest.raises(DatabaseError, match="gone"):
            await pages.done()
    await pages.done()
    assert len(table.written) == (0 if fails else 1)
    assert all(one.done() for one in ends)


async def test_a_write_that_is_cancelled_takes_what_waits_with_it(table: Table) -> None:
    pages = Behind(table.write)
    for number in range(2):
        pages.put(page(number))
    waiting = asyncio.create_task(pages.done())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    table.gate.set()
    await pages.done()
    assert table.written == []


async def test_what_comes_after_writes_have_ended_is_written_at_once(table: Table) -> None:
    table.gate.set()
    pages = Behind(table.write)
    for number in range(3):
        await pages.put(page(number))
        await pages.caught_up()
    assert [one.claims for one in table.written] == [page(number)[0].claims for number in range(3)]
