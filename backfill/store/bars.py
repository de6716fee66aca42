"""Writing a page: its bars, the coverage they prove, and what stayed empty, in one transaction."""

# Over 300 lines: what one transaction writes, in its order.

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import numpy as np

from backfill.core.bars import Bars, is_among
from backfill.core.calendar import Calendar
from backfill.core.compare import held
from backfill.core.coverage import Spans
from backfill.core.empty import EmptySlots
from backfill.core.paging import Chunk
from backfill.core.raw import spelled
from backfill.core.series import Progress, Series, Symbol, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.errors import SourceMismatch
from backfill.store.changes import Change, note_changes
from backfill.store.copy import copy_bars, may_copy
from backfill.store.counts import Counts
from backfill.store.derived import outdated_series, rolled_up_again
from backfill.store.empty import Answer, note_empty, opening_entries
from backfill.store.merge import merge_bars, withdraw_bars
from backfill.store.pool import Connection
from backfill.store.progress import (
    Advance,
    Known,
    advance,
    count_ourselves,
    locking,
    read_locked,
    uncover,
)
from backfill.store.read import bars_of_each, read_bars, reading
from backfill.store.session import CopyRefused
from backfill.store.shape import COLUMNS, Shape, read_shape
from backfill.store.source import expel, start_anew
from backfill.store.suspect import suspect_sessions
from backfill.store.times import to_time
from backfill.store.universe import naming, read_named

# Fewer bars are merged in one statement sooner than copied, or compared before.
_MANY: Final = 500
# A bar that was rejected before with the same values stays the one row it is: its page may be
# fetched again and again. Served by the index on the series.
_QUARANTINE: Final = """
    INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id)
    SELECT $1, $2::text::timeframe, n.ts, n.reason, n.raw, $6
    FROM (
        SELECT DISTINCT ts, reason, raw::jsonb AS raw
        FROM unnest($3::timestamptz[], $4::text[], $5::text[]) AS q (ts, reason, raw)
    ) AS n
    WHERE (
        SELECT true
        FROM quarantined_bars AS q
        WHERE q.symbol_id = $1 AND q.timeframe = $2::text::timeframe
            AND (q.ts, q.reason, q.raw) = (n.ts, n.reason, n.raw)
        LIMIT 1
    ) IS NULL
"""


@dataclass(frozen=True, slots=True)
class Locked:
    """What the tables say of series that are locked, of their symbols and of the table of bars.

    ``opened`` are the entries that the chunks to be written may close, None where those were not
    known yet. ``seams`` are the bars stored at those of the chunks, and within what they were read.
    """

    known: Known
    symbols: dict[SymbolId, Symbol]
    shape: Shape
    opened: list[dict[str, Any]] | None
    seams: Mapping[Series, tuple[Spans, Bars]]

    def once_written(self, chunks: Sequence[Chunk]) -> "Locked":
        """Return what they will say once chunks of the series are written."""
        return replace(self, known=_advanced(self.known, chunks), opened=None, seams={})


async def lock(
    connection: Connection,
    run_id: UUID,
    series: Sequence[Series],
    chunks: Sequence[Chunk] | None = None,
) -> Locked:
    """Lock series that a run has leased, and read all that it takes to write chunks of theirs.

    It is one round trip, with the beginning of the transaction.

    Raises
    ------
    LeaseLost
        If another run has taken one of the series over.
    """
    beside = _rolled_up_beside(chunks or ())
    seams = {
        one.series: beside[one.series]
        for one in chunks or ()
        if len(one.seam) and one.series in beside
    }
    rows, symbols, columns, opened, *sent = await connection.ask(
        locking(connection, series),
        naming({one.symbol.id: None for one in series}),
        COLUMNS,
        opening_entries([_answer(chunk, ()) for chunk in chunks or ()]),
        *([reading(seams)] if seams else []),
    )
    stored = read_bars(seams, sent[0]) if seams else {}
    return Locked(
        read_locked(rows, series, run_id),
        read_named(symbols),
        read_shape(columns),
        None if chunks is None else opened,
        {one: (spans, stored[one]) for one, spans in seams.items()},
    )


async def copy_ahead(connection: Connection, chunks: Sequence[Chunk], expected: Locked) -> bool:
    """Copy the bars of chunks before their series are locked, if no row can be where they go.

    ``expected`` is what the tables will say when they are locked. Returns whether they were copied:
    where they were, `write_chunks` has to be told of it in the same transaction, or nothing of that
    may be kept.

    Raises
    ------
    CopyRefused
        If a row was there after all.
    """
    known, shape = expected.known, expected.shape
    parts = {one.series: _beyond(one.bars, known[one.series.key]) for one in _in_order(chunks)}
    if not _may_go_ahead(connection, shape, parts, _to_compare(chunks, parts, known)):
        return False
    count_ourselves(connection)
    await copy_bars(connection, [(series, beyond) for series, (beyond, _) in parts.items()], shape)
    await connection.flush()
    return True


async def write_chunks(
    connection: Connection,
    run_id: UUID,
    chunks: Sequence[Chunk],
    calendar: Calendar,
    now: datetime,
    day_final_ms: int,
    locked: Locked | None = None,
    *,
    copied: bool = False,
) -> list[tuple[Chunk, Counts]]:
    """Write what one page brings, to one series or several; all of it or nothing.

    Each series is named once; all trade on one calendar. What is rolled up from a series follows
    its bars in the same transaction, asked for or not: it is made again from what is stored then,
    or taken out of the coverage where that can't tell. Returns the chunks with their counts, in
    their order, and after them those of what followed. ``now`` is the clock by which known-empty
    slots expire, ``day_final_ms`` up to where days are final. The series are locked here unless
    they are ``locked`` already; ``copied`` tells that the bars of the chunks were (`copy_ahead`).

    Raises
    ------
    CopyRefused
        If the bars were copied and should not have been, by what the tables say now.
    LeaseLost
        If another run has taken one of the series over.
    SourceMismatch
        If a series holds bars of another source that its chunk does not replace.
    """
    locked = locked or await lock(connection, run_id, [one.series for one in chunks], chunks)
    written: list[tuple[Chunk, Counts]] = []
    following: Sequence[Chunk] = chunks
    while following:
        counts, changes = await _write(connection, run_id, following, locked, now, copied=copied)
        written += zip(following, counts, strict=True)
        copied = False
        outdated = outdated_series(calendar, following, changes, locked.known)
        known = _advanced(locked.known, following)
        following, left = await rolled_up_again(connection, calendar, day_final_ms, outdated, known)
        locked = replace(locked, known=known, opened=None, seams={})
        if left:
            await uncover(connection, left)
    return written


async def _write(
    connection: Connection,
    run_id: UUID,
    chunks: Sequence[Chunk],
    locked: Locked,
    now: datetime,
    *,
    copied: bool,
) -> tuple[list[Counts], dict[Series, Change]]:
    """Write chunks of series that are locked; return what became of each, and of which bars."""
    known = locked.known
    changes = {chunk.series: Change(chunk.series) for chunk in chunks}
    expelled: dict[Series, int] = {}
    for chunk in chunks:
        if known[chunk.series.key].source not in {None, chunk.source}:
            if copied:
                raise CopyRefused
            expelled[chunk.series] = await _replace_source(
                connection, run_id, chunk, known[chunk.series.key]
            )
            known[chunk.series.key] = Progress(invalidated=known[chunk.series.key].invalidated)
            locked = replace(locked, opened=None, seams={})
    opened = await _write_bars(connection, run_id, chunks, locked, changes, copied=copied)
    note_changes(connection, run_id, changes.values())
    for chunk in chunks:
        _quarantine(connection, run_id, chunk)
    empty = await _empty(connection, chunks, known)
    answers = [_answer(chunk, empty[chunk.series]) for chunk in chunks]
    note_empty(connection, answers, opened, now)
    advances = [_advance(chunk, changes[chunk.series]) for chunk in chunks]
    await advance(connection, run_id, advances, now)
    counts = [
        _counts(chunk, changes[chunk.series], expelled.get(chunk.series, 0)) for chunk in chunks
    ]
    return counts, changes


def _answer(chunk: Chunk, empty: Sequence[EmptySlots]) -> Answer:
    return Answer(chunk.series, chunk.claims | chunk.unconfirmed, empty, chunk.joints)


async def _replace_source(
    connection: Connection, run_id: UUID, chunk: Chunk, known: Progress
) -> int:
    """Move the bars of another source out of the way, if the chunk may, and count them."""
    if known.source != chunk.replaces:
        raise SourceMismatch(f"the series holds {known.source}; {chunk.source} was asked for")
    expelled = await expel(connection, run_id, chunk.series)
    await start_anew(connection, chunk.series)
    return expelled


async def _write_bars(
    connection: Connection,
    run_id: UUID,
    chunks: Sequence[Chunk],
    locked: Locked,
    changes: dict[Series, Change],
    *,
    copied: bool,
) -> list[dict[str, Any]]:
    """Copy what lies beyond the stored bars of a series; merge what else is not stored as it is.

    Rows are written series by series in one order, so that two writers never wait for each other.
    Returns the entries that the chunks may close.
    """
    known, shape = locked.known, locked.shape
    ordered = _in_order(chunks)
    parts = {one.series: _beyond(one.bars, known[one.series.key]) for one in ordered}
    compared = _to_compare(ordered, parts, known)
    if copied and not _may_go_ahead(connection, shape, parts, compared):
        raise CopyRefused
    stored = {
        one: bars
        for one, (spans, bars) in locked.seams.items()
        if one in compared and not compared[one] - spans
    }
    unread = {one: spans for one, spans in compared.items() if one not in stored}
    opened = locked.opened
    if opened is None:
        sent, opened = await connection.ask(
            reading(unread), opening_entries([_answer(chunk, ()) for chunk in chunks])
        )
        stored |= read_bars(unread, sent)
    else:
        stored |= await bars_of_each(connection, unread)
    for chunk in ordered:
        if (held_bars := stored.get(chunk.series)) is not None:
            beyond, within = parts[chunk.series]
            withdrawable = _withdrawable(chunk, known)
            change = changes[chunk.series]
            await _withdraw(connection, run_id, chunk, held_bars, withdrawable, change)
            if len(chunk.seam):
                answered = compared[chunk.series] & known[chunk.series.key].coverage
                _compare_seam(chunk, held_bars, answered, change)
            there = held(within, held_bars, shape.precision, may_lack_vwap=chunk.lacks_vwap)
            parts[chunk.series] = beyond, within.take(~there)
    fresh = [(series, beyond) for series, (beyond, _) in parts.items()]
    merged = [(series, within) for series, (_, within) in parts.items()]
    copies = may_copy(connection, shape) and sum(len(bars) for _, bars in fresh) >= _MANY
    if not copies:
        merged = [(series, Bars.concat(list(both))) for series, both in parts.items()]
    provider = chunks[0].source.provider if chunks else ""
    for series, written in (await merge_bars(connection, merged, shape, provider)).items():
        changes[series].note(written.ts_ms, inserted=written.inserted, updated=written.updated)
    if copies:
        if not copied:
            await copy_bars(connection, fresh, shape)
        for series, bars in fresh:
            changes[series].note(bars.ts_ms, inserted=len(bars))
    return opened


def _in_order(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Return chunks in the order of the table's key."""
    order = list(Timeframe)
    return sorted(
        chunks, key=lambda one: (str(one.series.symbol.id), order.index(one.series.timeframe))
    )


def _may_go_ahead(
    connection: Connection,
    shape: Shape,
    parts: Mapping[Series, tuple[Bars, Bars]],
    compared: Mapping[Series, Spans],
) -> bool:
    """Whether all there is to do with the bars of chunks is to copy them, and all are kept."""
    fresh = sum(len(beyond) for beyond, _ in parts.values())
    others = compared or any(len(within) for _, within in parts.values())
    return may_copy(connection, shape) and shape.keeps_all and fresh >= _MANY and not others


def _to_compare(
    chunks: Sequence[Chunk], parts: Mapping[Series, tuple[Bars, Bars]], known: Known
) -> dict[Series, Spans]:
    """Return of which series the stored bars are read before they are written, and within what.

    Reading a page's worth of rows as columns costs half of what finding them one by one does.
    """
    beside = _rolled_up_beside(chunks)
    compared = {}
    for chunk in chunks:
        _, within = parts[chunk.series]
        spans = _withdrawable(chunk, known)
        if chunk.series in beside:
            claims = chunk.claims | beside[chunk.series]
            spans |= claims & known[chunk.series.key].stored
        if len(within) >= _MANY or ((spans or chunk.lacks_vwap) and len(within)):
            spans |= Spans.of((int(within.ts_ms[0]), int(within.ts_ms[-1]) + 1))
        if spans:
            compared[chunk.series] = spans
    return compared


def _rolled_up_beside(chunks: Sequence[Chunk]) -> dict[Series, Spans]:
    """Return of the bases among chunks what others are rolled up for and they don't claim.

    A coarser bar may be made of more of a page, and of the one before, than is claimed of its base.
    """
    rolled_up: dict[tuple[SymbolId, Timeframe], Spans] = defaultdict(Spans)
    for one in chunks:
        if one.source.derived_from is not None:
            rolled_up[one.series.symbol.id, one.source.derived_from] |= one.claims
    return {
        one.series: rolled_up[one.series.key] - one.claims
        for one in chunks
        if one.series.key in rolled_up
    }


def _withdrawable(chunk: Chunk, known: Known) -> Spans:
    """Return where a stored bar that a chunk lacks has to go."""
    return chunk.claims if chunk.is_all else known[chunk.series.key].invalidated & chunk.claims


def _beyond(bars: Bars, known: Progress) -> tuple[Bars, Bars]:
    """Part bars into those before and after all that is stored, and those in between."""
    if known.oldest_bar_ms is None or known.newest_bar_ms is None:
        return bars, Bars.empty()
    outside = (bars.ts_ms < known.oldest_bar_ms) | (bars.ts_ms > known.newest_bar_ms)
    return bars.take(outside), bars.take(~outside)


async def _withdraw(
    connection: Connection,
    run_id: UUID,
    chunk: Chunk,
    stored: Bars,
    withdrawable: Spans,
    change: Change,
) -> None:
    """Take out the stored bars that a chunk should have and lacks; note those that stay."""
    lacking = stored.ts_ms[~is_among(stored.ts_ms, chunk.bars.ts_ms)]
    goes = withdrawable.holds(lacking)
    change.apart_ms = lacking[~goes]
    if goes.any():
        starts = [to_time(ms) for ms in lacking[goes].tolist()]
        await withdraw_bars(connection, run_id, chunk.series, starts)
        change.note(lacking[goes], withdrawn=len(starts))


def _compare_seam(chunk: Chunk, stored: Bars, spans: Spans, change: Change) -> None:
    """See if the bars at a chunk's seam are stored as what is rolled up with it has them.

    Where all of them are, that was made of stored bars; where one is another, or gone, it has to be
    made again. ``spans`` are what was read and answered for: nobody keeps others of the base.
    """
    seam = chunk.seam.take(spans.holds(chunk.seam.ts_ms))
    if held(seam, stored).all():
        change.apart_ms = change.apart_ms[~is_among(change.apart_ms, seam.ts_ms)]
    else:
        change.apart_ms = np.union1d(change.apart_ms, seam.ts_ms)


def _quarantine(connection: Connection, run_id: UUID, chunk: Chunk) -> None:
    if len(chunk.rejected):
        connection.later(
            _QUARANTINE,
            chunk.series.symbol.id,
            str(chunk.series.timeframe),
            [to_time(ms) for ms in chunk.rejected.ts_ms.tolist()],
            list(chunk.reasons),
            spelled(chunk.rejected, chunk.oddities),
            run_id,
        )


async def _empty(
    connection: Connection, chunks: Sequence[Chunk], known: Known
) -> dict[Series, list[EmptySlots]]:
    """Return what each chunk leaves empty; what suspect sessions lack may come yet."""
    doubts = {
        chunk.series: (chunk.doubt, known[chunk.series.key].coverage | chunk.claims)
        for chunk in chunks
        if chunk.doubt is not None
    }
    suspect = await suspect_sessions(connection, doubts)
    return {
        chunk.series: doubts[chunk.series][0].unconfirmed(chunk.empty, suspect[chunk.series])
        if chunk.series in suspect
        else chunk.empty
        for chunk in chunks
    }


def _advanced(known: Known, chunks: Sequence[Chunk]) -> Known:
    """Return what is known of series once chunks are written."""
    advanced = dict(known)
    for chunk in chunks:
        before, ends = known[chunk.series.key], _ends(chunk.bars)
        oldest = [one for one in (before.oldest_bar_ms, *ends[:1]) if one is not None]
        newest = [one for one in (before.newest_bar_ms, *ends[1:]) if one is not None]
        advanced[chunk.series.key] = replace(
            before,
            source=chunk.source,
            coverage=before.coverage | chunk.claims,
            invalidated=before.invalidated - chunk.claims,
            oldest_bar_ms=min(oldest, default=None),
            newest_bar_ms=max(newest, default=None),
        )
    return advanced


def _ends(bars: Bars) -> tuple[int, int] | tuple[()]:
    """Return the starts of the oldest and the newest of bars in order, if there are any."""
    return (int(bars.ts_ms[0]), int(bars.ts_ms[-1])) if len(bars) else ()


def _advance(chunk: Chunk, change: Change) -> Advance:
    oldest, newest = _ends(chunk.bars) or (None, None)
    return Advance(
        chunk.series,
        chunk.source,
        chunk.claims,
        chunk.provisional,
        oldest,
        newest,
        bars=change.inserted - change.withdrawn,
    )


def _counts(chunk: Chunk, change: Change, expelled: int) -> Counts:
    return Counts(
        inserted=change.inserted,
        updated=change.updated,
        unchanged=len(chunk.bars) - change.inserted - change.updated,
        rejected=len(chunk.rejected),
        withdrawn=change.withdrawn + expelled,
        ignored=chunk.ignored,
    )
