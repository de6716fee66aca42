"""The part of a run that reads files of a whole market, a session at a time, for many series."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Final

import structlog

from backfill.core.archive import FileRead, Use
from backfill.core.bars import Bars
from backfill.core.market_files import (
    BarsByTicker,
    MarketFile,
    check_session,
    lives_on,
)
from backfill.core.paging import Chunk, Paging
from backfill.core.raw import Oddities
from backfill.core.series import SymbolId
from backfill.core.wire import Page
from backfill.core.work import Work
from backfill.errors import BadAnswer, FileMissing, LeaseLost, SeriesError
from backfill.providers.base import MarketArchives
from backfill.run.context import Context
from backfill.run.parted import files_for
from backfill.run.room import PER_BAR
from backfill.run.together import Together
from backfill.run.writing import write

_GRACE_S: Final = 2.0
_BATCH: Final = 50_000
_MOST_SERIES: Final = 500
"""One transaction writes so many bars, about, and is for so many series of a base at most."""

log = structlog.stdlib.get_logger()


class MarketFilesPart:
    """Reads the files that are worth it, newest first, before the streams of a run begin.

    Nothing of a file is believed before its end. Then it is written in batches, each of which
    claims what it holds. A series leaves the part, and goes on by calls of its own, where its bars
    leave a question that the reference or the splits have to answer: it has none and isn't known
    to be listed, they are older than its listing, or its price jumps. An archive that can't be had
    leaves all to calls, unless files are to be read in any case.
    """

    def __init__(self, context: Context, together: Together) -> None:
        self._context = context
        self._together = together
        self._open = set[Work]()
        self._newer = dict[Work, Paging]()
        self._oldest = dict[Work, Bars]()
        self._confirmed = set[SymbolId]()
        self._writing: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Read what is worth it.

        Raises
        ------
        SharedFault
            What ends the whole run.
        Stopped
            If the run is to end.
        """
        context, provider, together = self._context, self._context.provider, self._together
        if context.objects is None or not isinstance(provider, MarketArchives):
            return
        self._objects = context.objects
        choose = partial(files_for, provider, context.rules)
        worth = together.best(choose)
        if not worth.files:
            return
        worth = await together.leased_of(worth, choose)
        self._open = set(worth.work)
        gauge = context.gauge
        try:
            for number, file in enumerate(worth.files):
                gauge.days = len(worth.files) - number
                if works := [work for work in file.ranges if work in self._open]:
                    with gauge.turn():
                        await self._read(provider, file, works)
            await self._written()
        except LeaseLost as error:
            log.warning("archive.lease_lost", message=str(error))
        except SeriesError as error:
            if context.rules.archive is Use.always:
                await self._fail(list(self._open), error)
            else:
                log.warning("archive.unreachable", outcome=error.outcome, message=str(error))
        finally:
            gauge.days = 0
            # A write that the database keeps waiting is rolled back, as those of streams are.
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_S):
                    await self._written()

    async def _read(
        self, provider: MarketArchives, file: MarketFile, works: Sequence[Work]
    ) -> None:
        """Read a file for some work, and have written what it brings."""
        context = self._context
        day = works[0].calendar.day_of(file.session.start_ms)
        path = provider.market_path(day, file.timeframe)
        tickers = {
            work: context.provider.spelling(work.symbol.on(day).instrument) for work in works
        }
        with context.gauge.idle():
            # About half of the slots hold a bar.
            slots = sum(file.ranges[work].slots for work in works) // 2
            share = await context.stop.unless_set(context.room.take(slots))
        try:
            read, found = await self._objects.read(
                path, partial(provider.market_reader, set(tickers.values()))
            )
            check_session(file, found)
            share.shrink(sum(len(bars) for bars, _ in found.values()) * PER_BAR)
            log.info("fetch.file", path=path, bytes=read.bytes, symbols=len(found))
            for some in _batches(works, tickers, found):
                brought = [(work, found.get(tickers[work])) for work in some]
                await self._take(file, day, brought, read)
        except FileMissing as error:
            log.info("archive.missing", message=str(error))
        except BadAnswer as error:
            await self._fail(works, error)
        finally:
            if self._writing is not None:
                share.until_done(self._writing)
            share.release()

    async def _take(
        self,
        file: MarketFile,
        day: date,
        found: Sequence[tuple[Work, tuple[Bars, Oddities] | None]],
        read: FileRead,
    ) -> None:
        """Write what a file brings to some work behind the write before."""
        taken = await self._context.reader.apart(partial(self._chunks, file, day, found))
        refused = {work: error for work, error in taken if isinstance(error, BadAnswer)}
        for work, error in refused.items():
            await self._fail([work], error)
        brought = {work: chunks for work, chunks in taken if isinstance(chunks, list)}
        self._open.difference_update(work for work, chunks in taken if chunks is None)
        await self._written()
        if brought:
            self._writing = asyncio.create_task(self._write(brought, read))

    def _chunks(
        self,
        file: MarketFile,
        day: date,
        found: Sequence[tuple[Work, tuple[Bars, Oddities] | None]],
    ) -> list[tuple[Work, list[Chunk] | BadAnswer | None]]:
        """Return what a file brings to each piece of work; None where that leaves a question."""
        rules = self._context.rules
        now_ms, lacks_vwap = rules.now_ms, rules.can.may_lack_vwap
        taken: list[tuple[Work, list[Chunk] | BadAnswer | None]] = []
        for work, held in found:
            bars, oddities = held or (Bars.empty(), {})
            page = Page(bars, None, oddities=oddities, among_others=True)
            paging = Paging(work, file.ranges[work], now_ms, self._newer.get(work))
            is_its_own = lives_on(work.symbol, day, has_bars=held is not None)
            if not is_its_own or paging.jumps(page, self._oldest.get(work, Bars.empty())):
                taken.append((work, None))
                continue
            final_ms = rules.final_ms(work.symbol, work.calendar, work.base)
            try:
                chunks = [
                    replace(chunk, lacks_vwap=lacks_vwap)
                    for chunk in paging.read(page, None, final_ms)
                ]
            except BadAnswer as error:
                taken.append((work, error))
                continue
            self._newer[work] = paging
            if len(bars):
                self._oldest[work] = bars.oldest(1)
            taken.append((work, chunks))
        return taken

    async def _write(self, brought: dict[Work, list[Chunk]], read: FileRead) -> None:
        """Write the chunks of some work in one transaction."""
        chunks = [chunk for some in brought.values() for chunk in some]
        fresh = {work.symbol.id for work in brought if not work.symbol.confirmed} - self._confirmed
        series = [chunk.series for chunk in chunks]
        written = await write(
            self._context.writer, list(brought), series, chunks, confirms=bool(fresh), file=read
        )
        self._confirmed |= fresh
        for chunk, _ in written.stored:
            self._together.note(chunk)
        self._open.difference_update(
            [work for work in brought if work.symbol.id in written.outdated]
        )
        written.log_together(len(chunks), timeframe=str(next(iter(brought)).base))
        await self._together.close(brought)

    async def _written(self) -> None:
        """Wait until the last batch is written; raises what went wrong with it."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            await writing

    async def _fail(self, works: Sequence[Work], error: SeriesError) -> None:
        for work in works:
            log.error(
                "series.failed",
                symbol=work.symbol.ticker,
                timeframe=str(work.base),
                outcome=error.outcome,
                message=str(error),
            )
        self._open.difference_update(works)
        await self._written()
        await self._together.fail(works, error)


def _batches(
    works: Sequence[Work], tickers: Mapping[Work, str], found: BarsByTicker
) -> Iterator[list[Work]]:
    """Part work into what is written in one transaction each."""
    some: list[Work] = []
    bars = 0
    for work in works:
        some.append(work)
        bars += len(found[tickers[work]][0]) if tickers[work] in found else 0
        if bars >= _BATCH or len(some) >= _MOST_SERIES:
            yield some
            some, bars = [], 0
    if some:
        yield some
