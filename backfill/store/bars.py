"""Writing a page: its bars, the coverage they prove, and what stayed empty, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from backfill.core.bars import Bars, is_among
from backfill.core.compare import held
from backfill.core.coverage import Spans
from backfill.core.empty import EmptySlots
from backfill.core.paging import Chunk
from backfill.core.precision import Precision
from backfill.core.raw import spelled
from backfill.core.series import Progress, Series
from backfill.core.timeframe import Timeframe
from backfill.errors import SourceMismatch
from backfill.store.changes import Change, note_changes
from backfill.store.copy import copy_bars
from backfill.store.empty import Answer, note_empty
from backfill.store.merge import merge_bars, withdraw_bars
from backfill.store.pool import Connection
from backfill.store.progress import Advance, Known, advance, lock_progress
from backfill.store.read import stored_bars
from backfill.store.shape import bars_shape
from backfill.store.source import expel, start_anew
from backfill.store.suspect import suspect_sessions
from backfill.store.times import to_time

# Fewer bars are merged in one statement sooner than copied, or compared before, in several.
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
    WHERE NOT EXISTS (
        SELECT FROM quarantined_bars AS q
        WHERE q.symbol_id = $1 AND q.timeframe = $2::text::timeframe
            AND (q.ts, q.reason, q.raw) = (n.ts, n.reason, n.raw)
    )
"""


@dataclass(slots=True)
class Counts:
    """What became of bars: new, corrected, there already, quarantined, withdrawn, ignored."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    withdrawn: int = 0
    ignored: int = 0

    def add(self, other: "Counts") -> None:
        """Add another's counts to these."""
        self.inserted += other.inserted
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.rejected += other.rejected
        self.withdrawn += other.withdrawn
        self.ignored += other.ignored


async def write_chunks(
    connection: Connection, run_id: UUID, chunks: Sequence[Chunk], now: datetime
) -> list[Counts]:
    """Write what one page brings, to one series or several; all of it or nothing.

    Each series is named once. Returns the counts of each chunk, in their order. ``now`` is the
    clock by which known-empty slots expire.

    Raises
    ------
    LeaseLost
        If another run has taken one of the series over.
    SourceMismatch
        If a series holds bars of another source that its chunk does not replace.
    """
    known = await lock_progress(connection, [chunk.series for chunk in chunks], run_id)
    changes = {chunk.series: Change(chunk.series) for chunk in chunks}
    expelled: dict[Series, int] = {}
    for chunk in chunks:
        if known[chunk.series.key].source not in {None, chunk.source}:
            expelled[chunk.series] = await _replace_source(
                connection, run_id, chunk, known[chunk.series.key]
            )
            known[chunk.series.key] = Progress(invalidated=known[chunk.series.key].invalidated)
    await _write_bars(connection, run_id, chunks, known, changes)
    await note_changes(connection, run_id, changes.values())
    for chunk in chunks:
        await _quarantine(connection, run_id, chunk)
    empty = await _empty(connection, chunks, known)
    answers = [
        Answer(chunk.series, chunk.claims, empty[chunk.series], chunk.joints) for chunk in chunks
    ]
    await note_empty(connection, answers, now)
    await advance(connection, [_advance(chunk) for chunk in chunks], now)
    return [
        _counts(chunk, changes[chunk.series], expelled.get(chunk.series, 0)) for chunk in chunks
    ]


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
    known: Known,
    changes: dict[Series, Change],
) -> None:
    """Copy what lies beyond the stored bars of a series; merge what else is not stored as it is.

    Rows are written series by series in one order, so that two writers never wait for each other.
    """
    shape = await bars_shape(connection)
    order = list(Timeframe)
    fresh, merged = [], []
    for chunk in sorted(
        chunks, key=lambda one: (str(one.series.symbol.id), order.index(one.series.timeframe))
    ):
        progress, change = known[chunk.series.key], changes[chunk.series]
        beyond, within = _beyond(chunk.bars, progress)
        withdrawable = progress.invalidated & chunk.claims
        if withdrawable or len(within) >= _MANY:
            within = await _not_stored(
                connection, run_id, chunk, within, withdrawable, change, shape.precision
            )
        fresh.append((chunk.series, beyond))
        merged.append((chunk.series, within))
    if sum(len(bars) for _, bars in fresh) >= _MANY and await copy_bars(connection, fresh, shape):
        for series, bars in fresh:
            if len(bars):
                changes[series].inserted = len(bars)
                changes[series].reach(to_time(int(bars.ts_ms[0])), to_time(int(bars.ts_ms[-1])))
    else:
        merged = [
            (series, Bars.concat([one, other]))
            for (series, one), (_, other) in zip(fresh, merged, strict=True)
        ]
    provider = chunks[0].source.provider if chunks else ""
    for series, written in (await merge_bars(connection, merged, shape, provider)).items():
        changes[series].inserted += written.inserted
        changes[series].updated = written.updated
        changes[series].reach(written.first, written.last)


def _beyond(bars: Bars, known: Progress) -> tuple[Bars, Bars]:
    """Part bars into those before and after all that is stored, and those in between."""
    if known.oldest_bar_ms is None or known.newest_bar_ms is None:
        return bars, Bars.empty()
    outside = (bars.ts_ms < known.oldest_bar_ms) | (bars.ts_ms > known.newest_bar_ms)
    return bars.take(outside), bars.take(~outside)


async def _not_stored(
    connection: Connection,
    run_id: UUID,
    chunk: Chunk,
    bars: Bars,
    withdrawable: Spans,
    change: Change,
    precision: Precision,
) -> Bars:
    """Return the bars that are not stored as they are, and take out what a reload no longer brings.

    Reading a page's worth of rows as columns costs half of what finding them one by one does.
    """
    reach = Spans.of((int(bars.ts_ms[0]), int(bars.ts_ms[-1]) + 1)) if len(bars) else Spans()
    stored = await stored_bars(connection, chunk.series, reach | withdrawable)
    gone = stored.ts_ms[withdrawable.holds(stored.ts_ms)]
    gone = gone[~is_among(gone, chunk.bars.ts_ms)]
    if len(gone):
        starts = [to_time(ms) for ms in gone.tolist()]
        await withdraw_bars(connection, run_id, chunk.series, starts)
        change.withdrawn = len(starts)
        change.reach(starts[0], starts[-1])
    return bars.take(~held(bars, stored, precision))


async def _quarantine(connection: Connection, run_id: UUID, chunk: Chunk) -> None:
    if len(chunk.rejected):
        await connection.execute(
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


def _advance(chunk: Chunk) -> Advance:
    stamps = chunk.bars.ts_ms
    oldest, newest = (int(stamps[0]), int(stamps[-1])) if len(stamps) else (None, None)
    return Advance(chunk.series, chunk.source, chunk.claims, chunk.provisional, oldest, newest)


def _counts(chunk: Chunk, change: Change, expelled: int) -> Counts:
    return Counts(
        inserted=change.inserted,
        updated=change.updated,
        unchanged=len(chunk.bars) - change.inserted - change.updated,
        rejected=len(chunk.rejected),
        withdrawn=change.withdrawn + expelled,
        ignored=chunk.ignored,
    )
