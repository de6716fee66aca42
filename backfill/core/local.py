"""Bars of a derived series from the stored bars of its base, without a call."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from backfill.core.bars import Bars, IntColumn, is_among
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.gaps import find_gaps
from backfill.core.grid import Grid
from backfill.core.paging import Chunk, with_empty
from backfill.core.rollup import roll_up
from backfill.core.series import Progress, Series, Source
from backfill.core.timeframe import Timeframe

_NONE: IntColumn = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class Base:
    """What is stored of a series that others are rolled up from.

    ``coverage`` is what the provider has answered for; ``bars`` are those of every day in question,
    ``empty`` the slots that an answer had no bar for, ``late`` those of them that may come yet,
    ``rejected_ms`` the stamps of bars that failed a check.
    """

    timeframe: Timeframe
    coverage: Spans = field(default_factory=Spans)
    bars: Bars = field(default_factory=Bars.empty)
    empty: Spans = field(default_factory=Spans)
    late: Spans = field(default_factory=Spans)
    rejected_ms: IntColumn = field(default_factory=lambda: _NONE)


@dataclass(frozen=True, eq=False, slots=True)
class BaseChange:
    """What a transaction did to a base: the starts of the bars that are other than before.

    Those in ``apart_ms`` are stored otherwise than the answer that was written over them had them;
    ``claims`` is what the base has become covered for.
    """

    changed_ms: IntColumn
    apart_ms: IntColumn
    claims: Spans


def roll_up_stored(
    calendar: Calendar,
    series: Series,
    source: Source,
    slots: Spans,
    base: Base,
    day_final_ms: int,
    present_ms: IntColumn = _NONE,
    *,
    every_hour: bool = False,
) -> tuple[Chunk, Spans]:
    """Return what stored bars of the base say of a series within ``slots``, and what they can't.

    ``slots`` are whole slots of the series. One stays open where the base is not covered, or should
    hold a bar and holds none. At night, where nobody may have traded, only a rejected bar tells of
    that; with ``every_hour`` each slot of the base must hold a bar there. What is claimed is all
    that there is: a stored bar without one of its own has to go. What is rolled up from slots that
    the provider may be late with is unconfirmed itself. ``present_ms`` are stored bars of the
    series, which tell that their session traded; ``day_final_ms`` is up to where days are final.
    """
    timeframe = series.timeframe
    grid = calendar.grid(timeframe)
    hours = calendar.grid if every_hour else calendar.regular_grid
    holes = _holes(calendar, slots, base, hours(base.timeframe))
    left = Spans.union(map(grid.widen, holes)) & slots
    claims = slots - left
    traded, _ = grid.floor(base.bars.ts_ms)
    present = np.concatenate((traded, present_ms))
    chunk = Chunk(
        series=series,
        source=source,
        bars=roll_up(base.bars.take(claims.holds(base.bars.ts_ms)), grid),
        claims=claims,
        is_all=True,
    )
    empty = with_empty(
        chunk, calendar, base.timeframe, day_final_ms, present, quarantined_ms=_NONE, late=base.late
    )
    return empty, left


def _holes(calendar: Calendar, slots: Spans, base: Base, full: Grid) -> Iterable[Span]:
    """Return where a base may lack a bar, though it should have one or none for all of ``full``."""
    grid = calendar.grid(base.timeframe)
    yield from (span for span in slots - base.coverage if grid.count(span))
    yield from (gap.span for gap in find_gaps(full, slots, base.bars.ts_ms, base.empty, {}))
    rejected, inside = grid.floor(calendar.canonical(base.timeframe, base.rejected_ms))
    rejected = rejected[inside & ~is_among(rejected, base.bars.ts_ms)]
    yield from (Span(ms, ms + 1) for ms in rejected.tolist())


def outdated_slots(grid: Grid, known: Progress, change: BaseChange, own: Chunk | None) -> Spans:
    """Return the slots of a derived series that no longer follow from its base.

    ``known`` is what the ledger knew of it before, and ``own`` what the same transaction brings to
    it, if anything: that was made of the page alone. A slot counts that lies among covered or
    stored ones. One that is invalidated is to be asked for anyway.
    """
    hull = _hull(grid, known)
    touched = _floored(grid, change.changed_ms[hull.holds(change.changed_ms)])
    reopened = (change.claims & hull) - known.coverage
    apart = change.apart_ms
    if own is None:
        apart = apart[hull.holds(apart)]
    else:
        touched = touched[~own.claims.holds(touched) & ~is_among(touched, own.bars.ts_ms)]
        reopened -= own.claims
    starts = np.unique(np.concatenate((touched, _floored(grid, apart))))
    spans = (*((ms, ms + 1) for ms in starts.tolist()), *reopened)
    slots = Spans.union(map(grid.widen, spans))
    return slots - Spans.union(map(grid.widen, known.invalidated & slots))


def _hull(grid: Grid, known: Progress) -> Spans:
    """Return the whole slots from the first that is covered or stored to the last."""
    spans = known.coverage
    if known.oldest_bar_ms is not None and known.newest_bar_ms is not None:
        spans |= Spans.of(grid.widen((known.oldest_bar_ms, known.newest_bar_ms + 1)))
    return Spans.of(grid.widen(spans.hull)) if spans.hull else Spans()


def _floored(grid: Grid, ts_ms: IntColumn) -> IntColumn:
    slots, inside = grid.floor(ts_ms)
    return slots[inside]
