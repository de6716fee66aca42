"""Small pages of many series: those that come while every turn to write is taken go together.

What a transaction costs beside its bars is the same for one series as for fifty.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from backfill.core.paging import Chunk
from backfill.core.work import Work
from backfill.errors import BackfillError, SharedFault
from backfill.run.behind import MOST_WAITING, Place, bars_of
from backfill.run.writers import Writer
from backfill.run.writing import Written, write_in_turn

_MOST_SERIES: Final = 64
"""A write that fails is done again for each of them alone."""


@dataclass(eq=False, slots=True)
class _Page:
    """A page that waits to be written, and what became of it."""

    work: Work
    chunks: Sequence[Chunk]
    confirms: bool
    place: Place
    written: asyncio.Future[Written]

    @property
    def bars(self) -> int:
        return bars_of(self.chunks)

    @property
    def is_awaited(self) -> bool:
        """Whether nothing has become of it, and somebody waits for what will."""
        return not self.written.done()

    @property
    def shared_fault(self) -> SharedFault | None:
        """What went wrong with it, if that is everybody's."""
        if self.is_awaited or self.written.cancelled():
            return None
        error = self.written.exception()
        return error if isinstance(error, SharedFault) else None

    def goes_with(self, other: "_Page") -> bool:
        """Whether one transaction may write both."""
        return (
            self.work.symbol.id != other.work.symbol.id
            and self.work.calendar is other.work.calendar
            and self.work.day_final_ms == other.work.day_final_ms
            and self.confirms == other.confirms
        )


class Gathered:
    """The pages of a lane that wait for a turn to write: who gets one writes for others, too.

    A page waits for nothing but the turn. What goes wrong with one of several is told to none of
    the others: then each is written alone.
    """

    def __init__(self) -> None:
        self._waiting: list[_Page] = []
        self._next: asyncio.Task[None] | None = None
        self._writing: dict[_Page, asyncio.Task[None]] = {}

    async def write(
        self, writer: Writer, work: Work, chunks: Sequence[Chunk], place: Place, *, confirms: bool
    ) -> Written:
        """Write a page as `backfill.run.writing.write` does, with others maybe."""
        written: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        page = _Page(work, chunks, confirms, place, written)
        self._waiting.append(page)
        self._await_turn(writer)
        try:
            return await written
        except asyncio.CancelledError:
            await self._withdraw(page)
            raise

    def _await_turn(self, writer: Writer) -> None:
        """Have one wait for a turn to write, if there is anything to."""
        if self._waiting and self._next is None:
            self._next = asyncio.create_task(self._take_turn(writer))

    async def _take_turn(self, writer: Writer) -> None:
        # It was begun for one page, and is for all that wait.
        structlog.contextvars.unbind_contextvars("symbol", "timeframe")
        async with writer.writers.turn():
            pages = self._taken()
            task, self._next = self._next, None
            self._writing |= {page: task for page in pages if task is not None}
            self._await_turn(writer)
            try:
                await self._write(writer, pages)
            finally:
                for page in pages:
                    self._writing.pop(page, None)
                    page.written.cancel()

    def _taken(self) -> list[_Page]:
        """Take the page that has waited longest, and those that may go with it."""
        some: list[_Page] = []
        bars = 0
        for page in self._waiting:
            fits = bars + page.bars <= MOST_WAITING and len(some) < _MOST_SERIES
            if not some or (fits and all(map(page.goes_with, some))):
                some.append(page)
                bars += page.bars
        self._waiting = [page for page in self._waiting if page not in some]
        return some

    async def _write(self, writer: Writer, pages: Sequence[_Page]) -> None:
        """Write pages, and tell whoever waits for one what became of it."""
        try:
            written = await write_in_turn(
                writer,
                [page.work for page in pages],
                [series for page in pages for series in page.work.series],
                [chunk for page in pages for chunk in page.chunks],
                confirms=pages[0].confirms,
                places=[page.place for page in pages],
            )
        except Exception as error:  # noqa: BLE001  # whoever waits for the page gets it
            of_one = isinstance(error, BackfillError) and not isinstance(error, SharedFault)
            if of_one and len(pages) > 1:
                await self._write_each(writer, pages)
                return
            for page in pages:
                if page.is_awaited:
                    page.written.set_exception(error)
            return
        for page in pages:
            if page.is_awaited:
                page.written.set_result(_part(written, page))

    async def _write_each(self, writer: Writer, pages: Sequence[_Page]) -> None:
        """Write each page alone, up to what goes wrong with all."""
        shared = None
        for page in pages:
            if page.is_awaited and shared is None:
                await self._write(writer, [page])
                shared = page.shared_fault
            elif page.is_awaited and shared is not None:
                page.written.set_exception(shared)

    async def _withdraw(self, page: _Page) -> None:
        """Write a page no longer; one under way is rolled back if nobody waits for it any more."""
        if page in self._waiting:
            self._waiting.remove(page)
            if self._waiting:
                return
            writing, self._next = self._next, None
        else:
            writing = self._writing.get(page)
            together = [one for one, task in self._writing.items() if task is writing]
            if any(one.is_awaited for one in together):
                return
        if writing is not None:
            writing.cancel()
            await asyncio.wait([writing])


def _part(written: Written, page: _Page) -> Written:
    """Return what became of one page of several."""
    own = page.work.symbol.id
    stored = [(chunk, counts) for chunk, counts in written.stored if chunk.series.symbol.id == own]
    return replace(written, stored=stored, outdated=written.outdated & {own})
