"""Gaps: due slots of the regular session that are neither stored nor rightly empty (R6)."""

from collections.abc import Mapping
from itertools import repeat
from typing import NamedTuple

import numpy as np

from backfill.core.bars import IntColumn, is_among
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.empty import EmptyReason
from backfill.core.grid import Grid
from backfill.core.timeframe import Timeframe


class Gap(NamedTuple):
    """Slots that follow one another and hold no bar.

    ``span`` reaches from the first one's start to the last one's end, over closed hours too.
    ``reason`` is set where the provider was asked lately and had no good bar: asking again today
    would be in vain. They are asked for again at ``again_ms``, in ordinary runs. Unconfirmed ones
    alarm nobody unless they ``alarm``: their session is suspect, or that is overdue.
    """

    span: Span
    slots: int
    reason: EmptyReason | None = None
    again_ms: int | None = None
    alarms: bool = True


def with_extended_hours(calendar: Calendar, timeframe: Timeframe, spans: Spans) -> Spans:
    """Widen spans of regular slots that begin or end a session to the hours around it.

    Who lost a session lost its extended hours too; asking for them costs no call more.
    """
    whole, regular = calendar.grid(timeframe), calendar.regular_grid(timeframe)
    if not spans or len(whole) == len(regular):
        return spans
    starts, ends = np.array(spans.items, np.int64).T
    opening = np.searchsorted(regular.starts, starts, side="right") - 1
    closing = np.searchsorted(regular.starts, ends, side="left") - 1
    opens = starts == regular.starts[opening]
    closes = ends == _ends(regular)[closing]
    before = np.searchsorted(whole.starts, starts, side="right") - 1
    after = np.searchsorted(whole.starts, ends, side="left") - 1
    starts = np.where(opens, whole.starts[before], starts)
    ends = np.where(closes, _ends(whole)[after], ends)
    return Spans.union(zip(starts.tolist(), ends.tolist(), strict=True))


def _ends(grid: Grid) -> IntColumn:
    """Return where the blocks of a grid end."""
    ends: IntColumn = grid.starts + grid.steps * grid.counts
    return ends


def find_gaps(
    grid: Grid,
    due: Spans,
    stored_ms: IntColumn,
    settled: Spans,
    held: Mapping[EmptyReason, Spans],
) -> list[Gap]:
    """Return the gaps of a series, oldest first.

    ``grid`` is the regular grid of its timeframe and ``due`` the parts of it to look at, on whole
    slots.
    ``settled`` are the slots that are rightly empty: nobody traded, or two answers on different
    days agree that the provider has nothing. ``held`` are those asked for lately, by reason.
    """
    return join_missing(grid, missing_slots(grid, due, stored_ms, settled), held)


def missing_slots(grid: Grid, due: Spans, stored_ms: IntColumn, settled: Spans) -> IntColumn:
    """Return the indices of due slots that are neither stored nor rightly empty, in order.

    Memory grows with the slots that are due: of many, look at some sessions at a time.
    """
    indices = np.concatenate(
        [np.arange(grid.index_from(start), grid.index_from(end)) for start, end in due]
        or [np.empty(0, np.int64)]
    )
    slots = grid.starts_of(indices)
    missing: IntColumn = indices[~is_among(slots, stored_ms) & ~settled.holds(slots)]
    return missing


def join_missing(grid: Grid, indices: IntColumn, held: Mapping[EmptyReason, Spans]) -> list[Gap]:
    """Return missing slots, by their indices in order, as gaps: those that follow one another."""
    if not len(indices):
        return []
    slots = grid.starts_of(indices)
    labels = np.zeros(len(slots), np.int64)
    for label, spans in enumerate(held.values(), start=1):
        labels[spans.holds(slots)] = label
    cuts = np.flatnonzero((np.diff(indices) != 1) | (np.diff(labels) != 0)) + 1
    firsts = np.concatenate(([0], cuts))
    lasts = np.concatenate((cuts, [len(indices)])) - 1
    reasons: list[EmptyReason | None] = [None, *held]
    return list(
        map(
            Gap,
            map(Span, slots[firsts].tolist(), grid.ends_of(indices[lasts]).tolist()),
            (lasts - firsts + 1).tolist(),
            (reasons[label] for label in labels[firsts].tolist()) if held else repeat(None),
        )
    )
