"""Known-empty slots: what an answer covered, or said nothing of, and had no bar for."""

from __future__ import annotations

from datetime import date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.timeframe import Timeframe

if TYPE_CHECKING:
    from backfill.core.bars import IntColumn
    from backfill.core.calendar import Calendar
    from backfill.core.grid import Grid

FOREVER_MS: Final = 2**62
NEVER: Final = Spans()

ALONE_AFTER: Final = timedelta(days=4)
"""How long nothing must have become due for unconfirmed slots to be worth a call of their own."""


class EmptyReason(StrEnum):
    """Why a slot that was asked for holds no bar."""

    no_trades = "no_trades"
    """Between bars of an answer, or confirmed by a second one: nobody traded. Never asked again."""
    unconfirmed = "unconfirmed"
    """The provider may be late with it or have lost it. Asked again by requests that are due."""
    absent = "absent"
    """The provider has no bar of its whole session, or gave an answer without any bar that proves
    nothing by itself. Asked for again on another day."""
    quarantined = "quarantined"
    """A bar came and failed a check."""


@dataclass(frozen=True, slots=True)
class EmptySlots:
    """Empty slots of one month (by its first day, in exchange time) and one reason.

    ``is_final`` tells that the d1 of their sessions is final: an answer can confirm them by now.
    """

    month: date
    reason: EmptyReason
    slots: Spans
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class Joint:
    """Closed hours at an end of what an answer claims, and an instant of the slot beyond them.

    If that slot is empty as well as the one on this side, both are one span over the hours.
    """

    hours: Span
    beyond_ms: int


def joints(calendar: Calendar, timeframe: Timeframe, claims: Spans) -> list[Joint]:
    """Return the closed hours at the ends of claims."""
    grid = calendar.regular_grid(timeframe)
    found = []
    for claim in claims:
        for at, after in ((claim.start_ms, False), (claim.end_ms, True)):
            following = grid.index_from(at)
            if 0 < following < len(grid):
                hours = Span(grid.end_of(following - 1), grid.start_of(following))
                if hours.start_ms < hours.end_ms:
                    found.append(Joint(hours, hours.end_ms if after else hours.start_ms - 1))
    return found


def late_from(calendar: Calendar, base: Timeframe, newest_ms: int | None, due_ms: int) -> int:
    """Return from where on the provider may be late with what an answer lacks, in epoch ms.

    ``newest_ms`` is the start of its newest bar, None if it has none: late may be what follows. If
    a slot up to ``due_ms`` does, the newest bar itself may be of the minutes that had come so far.
    """
    if newest_ms is None:
        return -FOREVER_MS
    is_of_minutes = base.is_intraday and base is not Timeframe.m1
    if is_of_minutes and calendar.grid(base).count((newest_ms + 1, due_ms)):
        return newest_ms
    regular = calendar.regular_grid(base)
    following = regular.index_from(newest_ms + 1)
    return regular.start_of(following) if following < len(regular) else FOREVER_MS


def empty_slots(
    calendar: Calendar,
    timeframe: Timeframe,
    claims: Spans,
    present_ms: IntColumn,
    quarantined_ms: IntColumn,
    *,
    late: Spans = NEVER,
    day_final_ms: int = FOREVER_MS,
    parts: bool = False,
    filler_ms: IntColumn | None = None,
) -> list[EmptySlots]:
    """Return the slots of the regular session that an answer for ``claims`` left empty.

    ``present_ms`` are the starts of the bars that came or were there, ``quarantined_ms`` of those
    rejected, both on the grid. The provider may be late with what touches ``late``: where bars have
    ``parts``, also with a slot that holds a bar, of too few of them. Sessions are over whose day
    ends by ``day_final_ms``: one without a bar is absent only then, and not if one of ``filler_ms``
    is in it, by which the provider says that nobody traded in a slot. Slots that follow one another
    are merged, over closed hours too.
    """
    import numpy as np

    from backfill.core.bars import is_among

    grid = calendar.regular_grid(timeframe)
    filled = np.concatenate((present_ms, quarantined_ms))
    heard = filled if filler_ms is None else np.concatenate((filled, filler_ms))
    traded_in = np.zeros(len(calendar) + 1, bool)
    traded_in[calendar.session_of(heard)] = True
    found: list[EmptySlots] = []
    for claim in claims:
        offset = grid.index_from(claim.start_ms)
        slots = grid.slots(claim)
        if not len(slots):
            continue
        sessions = calendar.session_of(slots)
        traded = traded_in[sessions]
        is_final = np.ones(len(slots), bool)
        if timeframe.is_intraday:
            is_final = calendar.next_midnight_ms[sessions] <= day_final_ms
        quarantined = is_among(slots, quarantined_ms)
        unfilled = ~is_among(slots, filled)
        is_late = np.zeros(len(slots), bool)
        for span in late & Spans.of(claim):
            start, end = grid.widen(span)
            is_late[grid.index_from(start) - offset : grid.index_from(end) - offset] = True
        absent = unfilled & ~traded & is_final
        unconfirmed = unfilled & (is_late | ~traded) & ~absent
        if parts:
            unconfirmed |= is_late & ~unfilled & ~quarantined
        kinds = (
            (EmptyReason.quarantined, quarantined, True),
            (EmptyReason.absent, absent, True),
            (EmptyReason.unconfirmed, unconfirmed & is_final, True),
            (EmptyReason.unconfirmed, unconfirmed & ~is_final, False),
            (EmptyReason.no_trades, unfilled & ~absent & ~unconfirmed, True),
        )
        for reason, chosen, final in kinds:
            indices = np.flatnonzero(chosen) + offset
            found += _by_month(calendar, grid, indices, reason, is_final=final)
    return found


def unproven_slots(calendar: Calendar, timeframe: Timeframe, spans: Spans) -> list[EmptySlots]:
    """Return the slots that an answer found empty without proving it.

    Those of extended hours are among them: nothing else says that they were asked for.
    """
    import numpy as np

    grid = calendar.grid(timeframe)
    indices = [np.arange(grid.index_from(start), grid.index_from(end)) for start, end in spans]
    every = np.concatenate([np.empty(0, np.int64), *indices])
    return _by_month(calendar, grid, every, EmptyReason.absent, is_final=True)


def _by_month(
    calendar: Calendar,
    grid: Grid,
    indices: IntColumn,
    reason: EmptyReason,
    *,
    is_final: bool,
) -> list[EmptySlots]:
    """Merge runs of a grid's slots into spans, cut at the months' ends."""
    import numpy as np

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
    return [
        EmptySlots(month, reason, Spans.union(spans), is_final) for month, spans in months.items()
    ]
