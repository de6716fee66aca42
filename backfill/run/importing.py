"""Importing a file of bars: from what it holds to pages in the tables, and to the ledger.

A file is read twice: once to see that all of it can be read, once to write it. Nothing is written
of a file that can't be read to its end.
"""

# Over 300 lines: an import is read from the file to the ledger on one page, its ends included.

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

import structlog

from backfill.core.bars import Bars, is_among
from backfill.core.basis import RAW
from backfill.core.coverage import Spans
from backfill.core.file_pages import PAGE, FilePage, Pager, read_page
from backfill.core.filed import Key, Rows
from backfill.core.paging import Chunk
from backfill.core.redact import Redactor
from backfill.core.series import IMPORT, Progress, Series, SymbolId
from backfill.errors import (
    BadAnswer,
    LeaseLost,
    NotKept,
    SeriesError,
    SharedFault,
    Stopped,
    UsageError,
)
from backfill.fetch.busy import Writes
from backfill.fetch.gauge import Gauge
from backfill.fetch.reader import Reader
from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Budget, Tally
from backfill.files import opened as opened_file
from backfill.files.base import BarFile, version_of
from backfill.run.connect import opened, opened_until
from backfill.run.ending import close_row, note_end
from backfill.run.file_job import FileJob, Looked, look
from backfill.run.filing import (
    Entries,
    Entry,
    Filed,
    FilePlan,
    entries_of,
    mismatch,
    other_basis,
    planned,
)
from backfill.run.heartbeat import heartbeat
from backfill.run.leasing import lease
from backfill.run.outcomes import Outcomes, Summary
from backfill.run.writers import Writer, Writers
from backfill.run.writing import write
from backfill.settings import Settings
from backfill.store import progress, runs, universe
from backfill.store.basis import on_other_bases
from backfill.store.files import note_file
from backfill.store.partitions import see_partitions
from backfill.store.pool import Connection, Database
from backfill.store.read import bars_of_each
from backfill.store.shape import Shape, bars_shape
from backfill.store.times import to_ms

_GRACE_S: Final = 5.0
"""How long a page in hand has to be written once the import must stop."""
_MANY: Final = 20
"""From so many series on a file's pages wait until there are more bars in all: each has few."""
_AT_ONCE: Final = 500
"""How many series are written in one transaction."""

log = structlog.stdlib.get_logger()


async def plan_import(settings: Settings, job: FileJob) -> FilePlan:
    """Return what `import_file` would do; nothing is written.

    Raises
    ------
    UsageError, DatabaseError
        As `import_file` does.
    """
    with opened_file(job.path, job.reading) as file, Reader() as reader:
        looked = await look(job, file, reader, StopSignal())
        async with opened(settings) as database:
            shape = await database.run(bars_shape)
            entries = await entries_of(
                database,
                settings,
                job,
                file,
                looked,
                datetime.now(UTC),
                shape.precision,
                register=False,
            )
            return planned(looked, entries)


async def import_file(
    settings: Settings, job: FileJob, *, stop: StopSignal | None = None
) -> Summary:
    """Write the bars of a file to the database and return what was done.

    ``stop`` ends it early when it is set: what is written stays, and the same import goes on.

    Raises
    ------
    UsageError
        If the settings are wrong, or the file can't be read; nothing was written.
    DatabaseError
        If the database can't be used; nothing was written. What goes wrong later is in the summary.
    """
    stop = stop or StopSignal()
    settings.database()  # before a long file is read for nothing
    with opened_file(job.path, job.reading) as file, Reader() as reader:
        looked = await look(job, file, reader, stop)
        async with opened_until(settings, stop) as database:
            return await _Import(settings, job, database, stop, file, reader, looked).execute()


class _Import:
    """One import, from what the file holds to the ledger.

    ``_open`` are the series that are being written, ``_noted`` those that the file is noted for,
    ``_confirmed`` the symbols that it has had a good bar of, ``_held`` from when to when each
    series had bars before.
    """

    def __init__(
        self,
        settings: Settings,
        job: FileJob,
        database: Database,
        stop: StopSignal,
        file: BarFile,
        reader: Reader,
        looked: Looked,
    ) -> None:
        self._settings = settings
        self._job = job
        self._database = database
        self._stop = stop
        self._file = file
        self._reader = reader
        self._looked = looked
        self._id: UUID = uuid4()
        self._now = datetime.now(UTC)
        self._tally = Tally(Budget(), Gauge(Writes()))
        self._writers = Writers(database)
        self._outcomes = Outcomes(())
        self._open: dict[Key, _Open] = {}
        self._noted: set[Key] = set()
        self._confirmed: set[SymbolId] = set()
        self._held: dict[Series, Spans] = {}

    async def execute(self) -> Summary:
        with structlog.contextvars.bound_contextvars(run_id=str(self._id), provider=IMPORT):
            shape = await self._database.run(bars_shape)
            entries = await entries_of(
                self._database,
                self._settings,
                self._job,
                self._file,
                self._looked,
                self._now,
                shape.precision,
                register=True,
            )
            await self._see_room(shape, entries.due)
            log.info("run.started", mode=IMPORT, file=self._looked.file.name)
            await runs.start_run(self._database, self._id, IMPORT, IMPORT)
            series = entries.series
            self._outcomes = Outcomes(series, dict.fromkeys(series, IMPORT))
            began = time.monotonic()
            try:
                async with heartbeat(self._database, self._id):
                    await self._import(entries)
            except (Stopped, SharedFault) as error:
                note_end(self._outcomes, error)
            except BaseException as error:
                note_end(self._outcomes, error)
                await self._finish(time.monotonic() - began)
                raise
            return await self._finish(time.monotonic() - began)

    async def _see_room(self, shape: Shape, entries: Sequence[Entry]) -> None:
        """See that a table in partitions has one for every bar, before any is written."""
        due = [
            (one.series, one.calendar.grid(one.series.timeframe), one.slots)
            for one in entries
            if shape.partitioned
        ]
        if due:
            await self._database.run(lambda connection: see_partitions(connection, due))

    async def _import(self, entries: Entries) -> None:
        """Lease the series that the file may go to, and write it."""
        for filed, error in entries.refused:
            self._fail(filed, error)
        due = {one.series: one for one in entries.due}
        begun = partial(self._begun, due=due)
        leased = await lease(self._database, self._id, list(due), begun, self._stop)
        self._outcomes.skipped |= leased.skipped
        for series in leased.mine:
            self._open[due[series].key] = _Open(due[series])
        if not self._open:
            return
        try:
            await self._soon_after_stop(self._write_file())
        except UsageError:  # it could be read to its end before
            self._note_changed()
        self._outcomes.complete.update(one.entry.series for one in self._open.values())

    async def _soon_after_stop(self, work: Coroutine[Any, Any, None]) -> None:
        """Await work that ends by itself when the signal is set, or is cancelled shortly after.

        Raises
        ------
        Stopped
            The signal's reason, if the work is cut off.
        """
        writing = asyncio.create_task(work)
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({writing, stop}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({writing}, timeout=_GRACE_S)
            if not writing.done() and self._stop.reason is not None:
                raise self._stop.reason
            await writing
        finally:
            stop.cancel()
            writing.cancel()
            await asyncio.wait({writing})

    async def _write_file(self) -> None:
        """Read the file again and write it, some bars at a time."""
        await self._see_bases()
        if not self._open:
            return
        async with aclosing(self._pages(self._open)) as every:
            async for pages in every:
                await self._write_waiting(pages)

    async def _see_bases(self) -> None:
        """Fail what would be on two share bases, before anything of it is written.

        That is what has stored bars on another basis than the file's, and some that it lacks. What
        comes first in the file may lie beyond all that is stored, and so tell nothing.
        """
        adjusted = {
            key: _Open(one.entry)
            for key, one in self._open.items()
            if one.entry.filed.source.adjustment != RAW and self._held[one.entry.series]
        }
        factors: dict[Entry, float] = {}
        lacking: set[Entry] = set()
        if not adjusted:
            return
        async with aclosing(self._pages(adjusted)) as every:
            async for pages in every:
                chunks = await self._read(pages)
                stored = await self._stored(
                    {
                        one.entry.series: self._held[one.entry.series] & Spans.of(page.span)
                        for one, page in pages
                        if one.entry in chunks
                    }
                )
                lacking |= {
                    entry
                    for entry, chunk in chunks.items()
                    if not is_among(stored[entry.series].ts_ms, chunk.bars.ts_ms).all()
                }
                factors |= await self._rebased(chunks)
                for key in adjusted.keys() - self._open.keys():
                    del adjusted[key]
        for entry in factors.keys() & lacking:
            self._fail(entry.filed, other_basis(entry, factors[entry]))

    async def _pages(
        self, opened: Mapping[Key, "_Open"]
    ) -> AsyncGenerator[list[tuple["_Open", FilePage]], None]:
        """Read the file again, and yield what waits of some series, but for unfinished slots."""
        most = PAGE if len(opened) < _MANY else 4 * PAGE
        async with aclosing(self._blocks()) as blocks:
            async for block in blocks:
                for rows in block:
                    if (one := opened.get(rows.key)) is not None:
                        one.pager.add(rows.bars)
                if sum(one.pager.waiting for one in opened.values()) >= most:
                    yield _waiting(opened)
        yield _waiting(opened)

    async def _blocks(self) -> AsyncGenerator[list[Rows], None]:
        """Read the file again, a block ahead of what is written.

        Raises
        ------
        Stopped
            If the signal is set before its end.
        """
        blocks = self._file.blocks()

        async def following() -> list[Rows] | None:
            return await self._reader.apart(partial(next, blocks, None))

        ahead = asyncio.create_task(following())
        try:
            while (block := await ahead) is not None:
                if self._stop.reason is not None:
                    raise self._stop.reason
                ahead = asyncio.create_task(following())
                yield block
        finally:
            ahead.cancel()

    async def _write_waiting(self, pages: Sequence[tuple["_Open", FilePage]]) -> None:
        """Write a page of each of some series."""
        by_calendar: dict[str, list[tuple[_Open, FilePage]]] = {}
        for one, page in pages:
            by_calendar.setdefault(one.entry.calendar.name, []).append((one, page))
        for mine in by_calendar.values():
            for first in range(0, len(mine), _AT_ONCE):
                await self._write(mine[first : first + _AT_ONCE])

    async def _read(self, pages: Sequence[tuple["_Open", FilePage]]) -> dict[Entry, Chunk]:
        """Return what pages bring, and fail the series of one that isn't bars of it."""
        chunks = {}
        for one, page in pages:
            read = partial(one.read, page, to_ms(self._now))
            try:
                chunks[one.entry] = await self._reader.apart(read)
            except BadAnswer as error:
                self._fail(one.entry.filed, error)
        return chunks

    async def _write(self, pages: Sequence[tuple["_Open", FilePage]]) -> None:
        """Write a page of some series on one calendar, in one transaction."""
        if version_of(self._file) != self._looked.version:
            self._note_changed()
            return
        read = await self._read(await self._beside_stored(pages))
        chunks = {entry.series: chunk for entry, chunk in read.items()}
        entries = [one.entry for one, _ in pages if one.entry.series in chunks]
        if not entries:
            return
        new = [one.noted for one in entries if one.key not in self._noted]

        async def noted(connection: Connection) -> list[Chunk]:
            await note_file(connection, self._looked.file, new, self._id)
            return list(chunks.values())

        unconfirmed = {one.symbol.id for one, chunk in chunks.items() if len(chunk.bars)}
        unconfirmed -= self._confirmed
        try:
            written = await write(
                self._writer,
                [one.work for one in entries],
                list(chunks),
                noted if new else list(chunks.values()),
                confirms=bool(unconfirmed),
            )
        except LeaseLost as error:
            log.warning("import.lease_lost", message=str(error))
            self._outcomes.skipped.update(chunks)
            for entry in entries:
                self._open.pop(entry.key, None)
            return
        except SeriesError as error:
            for entry in entries:
                self._fail(entry.filed, error)
            return
        self._confirmed |= unconfirmed
        self._noted.update(one.key for one in entries)
        renamed = NotKept("what is known of its names changed meanwhile: import the file again")
        for entry in entries:
            if entry.series.symbol.id in written.outdated:
                self._fail(entry.filed, renamed)
        written.log_together(len(chunks))

    async def _beside_stored(
        self, pages: Sequence[tuple["_Open", FilePage]]
    ) -> Sequence[tuple["_Open", FilePage]]:
        """Add to pages what is stored where they prove something: others may have brought it."""
        held = {
            one.entry.series: spans
            for one, page in pages
            if (spans := self._held[one.entry.series] & one.entry.covers & Spans.of(page.span))
        }
        if not held:
            return pages
        stored = await self._stored(held)
        return [
            (one, page.beside(stored[one.entry.series].ts_ms) if one.entry.series in held else page)
            for one, page in pages
        ]

    async def _stored(self, spans: Mapping[Series, Spans]) -> dict[Series, Bars]:
        return await self._database.run(lambda connection: bars_of_each(connection, spans))

    async def _rebased(self, chunks: Mapping[Entry, Chunk]) -> dict[Entry, float]:
        """Return of which series stored prices differ from those that came, by which factor."""
        came = {
            entry.series: (Spans.of((int(stamps[0]), int(stamps[-1]) + 1)), chunk.bars)
            for entry, chunk in chunks.items()
            if len(stamps := chunk.bars.ts_ms)
        }
        found = await self._database.run(lambda connection: on_other_bases(connection, came))
        return {entry: found[entry.series] for entry in chunks if entry.series in found}

    @property
    def _writer(self) -> Writer:
        return Writer(
            IMPORT,
            self._id,
            self._database,
            self._outcomes,
            self._writers,
            self._tally.gauge,
            to_ms(self._now),
        )

    def _note_changed(self) -> None:
        """Fail what is not written yet: the file is no longer what it was looked at for."""
        changed = BadAnswer("the file changed while it was read: import it again")
        for one in list(self._open.values()):
            self._fail(one.entry.filed, changed)

    def _fail(self, filed: Filed, error: SeriesError) -> None:
        """Note why a series failed, and go on without it."""
        self._open.pop(filed.key, None)
        self._outcomes.fail(filed.series, error)
        log.error(
            "series.failed",
            symbol=filed.series.symbol.ticker,
            timeframe=str(filed.series.timeframe),
            outcome=error.outcome,
            message=str(error),
        )

    async def _begun(
        self, connection: Connection, series: list[Series], due: Mapping[Series, Entry]
    ) -> list[Series]:
        """Note since when leased series are wanted; none of another source by now is returned."""
        known = await progress.load_progress(connection, series)
        mine: dict[Series, int] = {}
        for one in map(due.__getitem__, series):
            error = mismatch(one.series, one.filed.source, known.get(one.series.key))
            if error is not None:
                self._fail(one.filed, error)
            elif (slots := one.slots.hull) is not None:
                mine[one.series] = slots.start_ms
                self._held[one.series] = known.get(one.series.key, Progress()).stored
        await progress.want_from(connection, mine)
        return list(mine)

    async def _finish(self, duration_s: float) -> Summary:
        """Write the ledger, give up every lease, and leave nothing of symbols without a bar."""
        outcomes, redactor = self._outcomes, Redactor(self._settings.secrets())

        def summarised() -> Summary:
            tallies = {IMPORT: self._tally}
            return outcomes.summary(self._id, IMPORT, tallies, duration_s, told=redactor.told)

        summary = summarised()
        new = {one.symbol.id for one in outcomes.failed if not one.symbol.confirmed}

        async def close(connection: Connection) -> None:
            await progress.release(connection, self._id)
            if new:
                await universe.remove_unknown(connection, list(new))
            end = summary.as_run_end(len({one.symbol.id for one in outcomes.series}))
            await runs.finish_run(connection, self._id, end)

        if not await close_row(self._database, self._id, outcomes, close):
            summary = summarised()
        log.info("run.finished", **summary.as_dict(), error=summary.error)
        return summary


class _Open:
    """A series that is being written, and what waits of it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.pager = Pager(entry.calendar, entry.series.timeframe, entry.filed.extent)

    def read(self, page: FilePage, now_ms: int) -> Chunk:
        """Return what a page brings.

        Raises
        ------
        BadAnswer
            If it isn't bars of the series.
        """
        entry = self.entry
        return read_page(
            entry.series,
            entry.filed.source,
            entry.calendar,
            page,
            entry.covers,
            now_ms,
            entry.day_final_ms,
            entry.precision,
        )


def _waiting(opened: Mapping[Key, _Open]) -> list[tuple[_Open, FilePage]]:
    """Return a page of each series of which something waits and can be written."""
    waiting = [one for one in opened.values() if one.pager.waiting]
    return [(one, page) for one in waiting if (page := one.pager.page()) is not None]
