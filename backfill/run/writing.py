"""Writing what an answer brings: the chunks of some symbols, in one transaction, and the count."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from backfill.core.archive import FileRead
from backfill.core.paging import Chunk
from backfill.core.series import Series, SymbolId
from backfill.core.target import readable_from_ms
from backfill.core.timeframe import Timeframe
from backfill.core.work import Work
from backfill.run.behind import Place, Superseded
from backfill.run.outcomes import Rebased
from backfill.run.writers import Writer
from backfill.store import archive, universe
from backfill.store.bars import copy_ahead, lock, write_chunks
from backfill.store.basis import load_again, noticed
from backfill.store.counts import Counts
from backfill.store.pool import Connection, Database
from backfill.store.progress import Known
from backfill.store.session import CopyRefused
from backfill.store.times import to_time

_LONGEST_OPEN_S: Final = 20.0
"""So long a transaction waits for the one before it; a server ends one that waits for a minute."""

_T = TypeVar("_T")

log = structlog.stdlib.get_logger()

ChunksOf = Callable[[Connection], Awaitable[list[Chunk]]]
"""Returns what to write, by what the tables say in the transaction that writes it."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was stored of each chunk, how long it took, and whose plan is outdated.

    Of a symbol in ``outdated`` nothing was written: it has other names, or another owner, than the
    plan knew, so the answer may be of another company. Or what is stored of it is on another share
    basis than the answer.
    """

    stored: list[tuple[Chunk, Counts]]
    seconds: float
    outdated: frozenset[SymbolId]

    def log_together(self, chunks: int, **of: str) -> None:
        """Log in one line what became of so many chunks, of several series."""
        total = Counts()
        for _, counts in self.stored:
            total.add(counts)
        log.info(
            "chunk.stored",
            **of,
            series=chunks,
            inserted=total.inserted,
            updated=total.updated,
            unchanged=total.unchanged,
            seconds=self.seconds,
        )


class _TooEarly(Exception):
    """The write before is under way still, and this one can't stay open until it has ended."""


async def write(
    writer: Writer,
    work: Sequence[Work],
    series: list[Series],
    given: Sequence[Chunk] | ChunksOf,
    *,
    confirms: bool = False,
    file: FileRead | None = None,
    place: Place | None = None,
) -> Written:
    """Wait for a turn to write, and `write_in_turn`."""
    places = [] if place is None else [place]
    if place is not None and place.before is not None:
        # While that waits for a turn itself, those that follow must not take them all.
        await place.before.expected()
    async with writer.writers.turn():
        return await write_in_turn(
            writer, work, series, given, confirms=confirms, file=file, places=places
        )


async def write_in_turn(
    writer: Writer,
    work: Sequence[Work],
    series: list[Series],
    given: Sequence[Chunk] | ChunksOf,
    *,
    confirms: bool = False,
    file: FileRead | None = None,
    places: Sequence[Place] = (),
) -> Written:
    """Write what there is for some series of pieces of work, all on one calendar, and count it.

    What is ``given`` are the chunks, or who makes them once the series are locked. ``confirms``
    tells that the provider has had bars of the symbols; ``file`` what was read of the provider's
    archive for the chunks, ``places`` where they stand among the writes of their streams. Those of
    several streams follow no write that isn't over.

    Raises
    ------
    Superseded
        If the write before came to nothing.
    LeaseLost
        If another run has one of the series.
    DatabaseError
        If it can't be written.
    """
    planned = {one.symbol.id: one.symbol for one in work}
    calendar, day_final_ms = work[0].calendar, work[0].day_final_ms
    began = asyncio.get_running_loop().time()

    rebased: list[Rebased] = []
    may_copy = True
    before = next((place.before for place in places if place.before is not None), None)

    async def store(connection: Connection) -> tuple[list[tuple[Chunk, Counts]], set[SymbolId]]:
        nonlocal may_copy
        # Where it was refused once, it would be again.
        may_copy = connection.may_copy = may_copy and connection.may_copy
        rebased.clear()
        # What is known of a symbol changes under these locks.
        chunks = None if callable(given) else given
        copied = await _copied_ahead(connection, chunks, before, places)
        locked = await lock(connection, writer.run_id, series, chunks)
        known = locked.symbols
        outdated = {key for key, one in known.items() if one.identity != planned[key].identity}
        if copied and outdated:
            raise CopyRefused
        if outdated == known.keys():
            return [], outdated
        if confirms and (
            new := {key for key, one in known.items() if not one.confirmed} - outdated
        ):
            await universe.confirm(connection, new)
        chunks = await given(connection) if callable(given) else given
        chunks = [chunk for chunk in chunks if chunk.series.symbol.id not in outdated]
        if file is not None:
            await archive.note_read(connection, writer.provider, file)
        now = to_time(writer.now_ms)
        rebased.extend(await _load_again(connection, writer, work, chunks, locked.known))
        old = {one.series.symbol.id for one in rebased}
        if copied and old:
            raise CopyRefused
        outdated |= old
        chunks = [chunk for chunk in chunks if chunk.series.symbol.id not in old]
        if not chunks:
            return [], outdated
        if not outdated:
            for place in places:
                place.tell(locked.once_written(chunks))
        stored = await write_chunks(
            connection, writer.run_id, chunks, calendar, now, day_final_ms, locked, copied=copied
        )
        return stored, outdated

    with writer.gauge.writes.under_way():
        stored, outdated = await _in_its_place(writer.database, store, before)
    for one in rebased:
        writer.outcomes.rebase(one)
        log.warning(
            "series.rebased",
            symbol=one.series.symbol.ticker,
            timeframe=str(one.series.timeframe),
            factor=one.factor,
            expelled=one.expelled,
        )
    writer.gauge.writes.count(sum(len(chunk.bars) for chunk, _ in stored))
    for chunk, counts in stored:
        writer.outcomes.count(chunk.series, counts)
        if counts.rejected:
            log.warning(
                "bars.quarantined",
                symbol=chunk.series.symbol.ticker,
                timeframe=str(chunk.series.timeframe),
                bars=counts.rejected,
                reasons=sorted({str(reason) for reason in chunk.reasons}),
            )
    seconds = round(asyncio.get_running_loop().time() - began, 4)
    return Written(stored, seconds, frozenset(outdated))


async def _in_its_place(
    database: Database, store: Callable[[Connection], Awaitable[_T]], before: Place | None
) -> _T:
    """Store what may be copied ahead, or follows the write before it.

    While it waits for that with nothing copied it keeps no connection: the other may need it.

    Raises
    ------
    Superseded
        If the write before came to nothing.
    """
    if before is None:
        return await database.run(store)
    try:
        return await database.run(store)
    except _TooEarly:
        if not await before.ended_well():
            raise Superseded from None
        return await database.run(store)


async def _copied_ahead(
    connection: Connection,
    chunks: Sequence[Chunk] | None,
    before: Place | None,
    places: Sequence[Place],
) -> bool:
    """Copy chunks while the write before them is under way, and wait until that has ended.

    Returns whether they were copied.

    Raises
    ------
    Superseded
        If the write before came to nothing.
    CopyRefused
        If a row was there already.
    _TooEarly
        If they can't be copied, or if the transaction would stay open for too long.
    """
    if before is None:
        return False
    copied = False
    if chunks is not None and not before.task.done():
        leaves = await before.expected()
        if leaves is not None:
            for place in places:
                place.tell(leaves.once_written(chunks))
            copied = await copy_ahead(connection, chunks, leaves)
    match await before.ended_well(_LONGEST_OPEN_S if copied else 0):
        case None:
            raise _TooEarly
        case False:
            raise Superseded
    return copied


async def _load_again(
    connection: Connection,
    writer: Writer,
    work: Sequence[Work],
    chunks: Sequence[Chunk],
    known: Known,
) -> list[Rebased]:
    """Have series loaded again of which the stored bars are on an old share basis.

    So is all that a piece of work feeds, and what is rolled up from it: one tells of the others.
    Where the provider lists splits, these tell (`backfill.run.actions`).
    """
    rules = writer.rules
    if rules is None or rules.lists_splits:
        return []
    found = await noticed(connection, chunks, known)
    rebased = []
    for one in work:
        factors = [found[series] for series in one.series if series in found]
        if not factors:
            continue
        windows = {
            series: readable_from_ms(series, base, one.calendar, rules)
            for series, base in _of_one_origin(one, known)
        }
        now = to_time(rules.now_ms)
        expelled = await load_again(connection, writer.run_id, windows, known, now)
        rebased += [Rebased(series, factors[0], bars) for series, bars in expelled.items()]
    return rebased


def _of_one_origin(work: Work, known: Known) -> Iterator[tuple[Series, Timeframe]]:
    """Yield the series of a piece of work, and what is rolled up from them, with their base."""
    origin = work.targets[0].source.origin
    for (symbol_id, timeframe), held in known.items():
        if symbol_id == work.symbol.id and held.source and held.source.origin == origin:
            yield Series(work.symbol, timeframe), held.source.derived_from or timeframe
