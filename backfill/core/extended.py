"""Gaps outside the regular session, as far as other stored bars prove them.

Before the open and after the close nothing tells a minute in which nobody traded from one that is
gone. But a coarser bar has to be there where its parts are, and it holds no more than they do: what
it was rolled up from and is not stored any more shows in its volume and in its count.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import NO_COUNT, Bars, IntColumn, is_among
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.gaps import Gap
from backfill.core.grid import Grid
from backfill.core.rollup import roll_up
from backfill.core.timeframe import Timeframe

_ROUNDING: Final = 1e-9
"""By how much of itself a sum of volumes may be off for having been added in another order."""


def unmade_slots(
    calendar: Calendar, timeframe: Timeframe, parts_ms: IntColumn, stored_ms: IntColumn
) -> IntColumn:
    """Return the slots outside the regular session that hold a part and no bar, in order.

    ``parts_ms`` are the starts of stored bars of a finer timeframe, ``stored_ms`` those of its own.
    """
    slots, inside = calendar.grid(timeframe).floor(parts_ms)
    slots = np.unique(slots[inside])
    found: IntColumn = slots[_outside(calendar, timeframe, slots) & ~is_among(slots, stored_ms)]
    return found


def lost_parts(
    calendar: Calendar,
    base: Timeframe,
    parts: Bars,
    coarser: Mapping[Timeframe, Bars],
    explained: Spans,
) -> IntColumn:
    """Return the slots of a base outside the regular session that hold no bar and may have lost it.

    Those are all slots without a bar, of coarser bars that hold more than their ``parts`` do: one
    of them, at least, is gone. The finest bar that tells of a loss says best where it is. What lies
    in a slot that touches ``explained`` is passed over: a gap that is known by itself.
    """
    grid = calendar.grid(base)
    lost: IntColumn = np.empty(0, np.int64)
    for timeframe in sorted(coarser, key=list(Timeframe).index):
        own = calendar.grid(timeframe)
        told = own.around(_fuller(coarser[timeframe], roll_up(parts, own)))
        known = own.around(np.concatenate((lost, _starts(explained & told, grid))))
        slots = _starts(told - known, grid)
        gone = _outside(calendar, base, slots) & ~is_among(slots, parts.ts_ms)
        lost = np.union1d(lost, slots[gone])
    return lost


def gaps_at(calendar: Calendar, timeframe: Timeframe, slots_ms: IntColumn) -> list[Gap]:
    """Return slots, in order, as gaps: those that follow one another are one."""
    grid = calendar.grid(timeframe)
    indices = np.array([grid.index_from(ms) for ms in slots_ms.tolist()], np.int64)
    runs = np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1) if len(indices) else []
    return [
        Gap(Span(grid.start_of(int(run[0])), grid.end_of(int(run[-1]))), len(run)) for run in runs
    ]


def _outside(calendar: Calendar, timeframe: Timeframe, slots_ms: IntColumn) -> NDArray[np.bool_]:
    """Whether each of some slots lies outside the regular session."""
    _, inside = calendar.regular_grid(timeframe).floor(slots_ms)
    return ~inside


def _fuller(coarser: Bars, made: Bars) -> IntColumn:
    """Return the starts of those coarser bars that hold more than what is made of their parts."""
    if not len(coarser):
        return coarser.ts_ms
    volume, count = np.zeros(len(coarser)), np.zeros(len(coarser), np.int64)
    at = np.minimum(np.searchsorted(made.ts_ms, coarser.ts_ms), max(len(made) - 1, 0))
    if len(made):
        same = made.ts_ms[at] == coarser.ts_ms
        volume[same], count[same] = made.volume[at[same]], made.trade_count[at[same]]
    counted = (coarser.trade_count != NO_COUNT) & (count != NO_COUNT)
    more = (coarser.volume - volume > _ROUNDING * coarser.volume) | (
        counted & (coarser.trade_count > count)
    )
    found: IntColumn = coarser.ts_ms[more]
    return found


def _starts(spans: Spans, grid: Grid) -> IntColumn:
    """Return the starts of a grid's slots within spans."""
    found = [grid.slots(span) for span in spans]
    return np.concatenate(found) if found else np.empty(0, np.int64)
