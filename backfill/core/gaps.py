"""Gaps: due slots of the regular session that are neither stored nor rightly empty (R6)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backfill.core.bars import IntColumn
from backfill.core.calendar import Grid
from backfill.core.coverage import Span, Spans
from backfill.core.empty import EmptyReason


@dataclass(frozen=True, slots=True)
class Gap:
    """Slots that follow one another and hold no bar.

    ``span`` reaches from the first one's start to the last one's end, over closed hours too.
    ``reason`` is set where the provider was asked lately and had no good bar: asking again today
    would be in vain.
    """

    span: Span
    slots: int
    reason: EmptyReason | None = None


def find_gaps(
    grid: Grid,
    due: Span,
    stored_ms: IntColumn,
    settled: Spans,
    held: Mapping[EmptyReason, Spans],
) -> list[Gap]:
    """Return the gaps of a series, oldest first.

    ``grid`` is the regular grid of its timeframe and ``due`` the range that it should hold.
    ``settled`` are the slots that are rightly empty: nobody traded, or two answers on different
    days agree that the provider has nothing. ``held`` are those asked for lately, by reason.
    """
    slots = grid.slots(due)
    missing = ~np.isin(slots, stored_ms) & ~settled.holds(slots)
    labels = np.zeros(len(slots), np.int64)
    reasons: list[EmptyReason | None] = [None, *held]
    for label, spans in enumerate(held.values(), start=1):
        labels[spans.holds(slots)] = label
    indices = np.flatnonzero(missing)
    if not len(indices):
        return []
    cuts = np.flatnonzero((np.diff(indices) != 1) | (np.diff(labels[indices]) != 0)) + 1
    first_slot = grid.index_from(due.start_ms)
    return [
        Gap(
            Span(grid.start_of(first_slot + int(run[0])), grid.end_of(first_slot + int(run[-1]))),
            len(run),
            reasons[int(labels[run[0]])],
        )
        for run in np.split(indices, cuts)
    ]
