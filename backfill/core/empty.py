"""Known-empty slots: what a final answer covered and had no bar for."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import numpy as np

from backfill.core.bars import IntColumn, is_among
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.timeframe import Timeframe


class EmptyReason(StrEnum):
    """Why a slot that was asked for holds no bar."""

    no_trades = "no_trades"
    """Its session has other bars: nobody traded in it. Never asked for again."""
    absent = "absent"
    """The provider has no bar of its whole session. Asked for again on another day."""
    quarantined = "quarantined"
    """A bar came and failed a check."""


@dataclass(frozen=True, slots=True)
class EmptySlots:
    """Empty slots of one month (by its first day, in exchange time) and one reason."""

    month: date
    reason: EmptyReason
    slots: Spans


def empty_slots(
    calendar: Calendar,
    timeframe: Timeframe,
    claims: Spans,
    present_ms: IntColumn,
    quarantined_ms: IntColumn,
) -> list[EmptySlots]:
    """Return the slots of the regular session that an answer for ``claims`` left empty.

    ``present_ms`` are the starts of the bars that came, ``quarantined_ms`` of those rejected, both
    on the grid. Slots that follow one another are merged, over closed hours too.
    """
    grid = calendar.regular_grid(timeframe)
    filled = np.concatenate((present_ms, quarantined_ms))
    found: list[EmptySlots] = []
    for claim in claims:
        slots = grid.slots(claim)
        offset = grid.index_from(claim.start_ms)
        quarantined = np.flatnonzero(is_among(slots, quarantined_ms))
        found += _by_month(calendar, timeframe, quarantined + offset, EmptyReason.quarantined)
        unfilled = np.flatnonzero(~is_among(slots, filled))
        if not len(unfilled):
            continue
        traded = is_among(calendar.session_of(slots[unfilled]), calendar.session_of(filled))
        for reason, chosen in (
            (EmptyReason.no_trades, unfilled[traded]),
            (EmptyReason.absent, unfilled[~traded]),
        ):
            found += _by_month(calendar, timeframe, chosen + offset, reason)
    return found


def _by_month(
    calendar: Calendar, timeframe: Timeframe, indices: IntColumn, reason: EmptyReason
) -> list[EmptySlots]:
    """Merge runs of slot indices into spans, cut at the months' ends."""
    grid = calendar.regular_grid(timeframe)
    months: dict[date, list[Span]] = {}
    cuts = np.flatnonzero(np.diff(indices) != 1)
    firsts = indices[np.concatenate(([0], cuts + 1))] if len(indices) else indices
    lasts = indices[np.concatenate((cuts, [-1]))] if len(indices) else indices
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        at = first
        while at <= last:
            day = calendar.day_of(grid.start_of(at))
            month = day.replace(day=1)
            following = date(day.year + day.month // 12, day.month % 12 + 1, 1)
            until = min(last + 1, grid.index_from(calendar.midnight(following)))
            span = Span(grid.start_of(at), grid.end_of(until - 1))
            months.setdefault(month, []).append(span)
            at = until
    return [EmptySlots(month, reason, Spans.union(spans)) for month, spans in months.items()]
