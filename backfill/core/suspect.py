"""Suspect sessions: those that hold too few bars for the provider to have had them all."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import FloatColumn, IntColumn, is_among
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.empty import FOREVER_MS, EmptyReason, EmptySlots
from backfill.core.grid import Grid
from backfill.core.plan import final_days_end
from backfill.core.timeframe import Timeframe

_NEIGHBOURS: Final = 20
_ENOUGH: Final = 20
"""Of fewer bars in the median nobody can say that some are lacking."""
_FEW: Final = 5
"""Under this part of the median of its neighbours a session is suspect."""


@dataclass(frozen=True, eq=False, slots=True)
class Doubt:
    """Sessions of one series that may be suspect, and the neighbours that they are judged by.

    ``sessions`` are indices of the regular grid's blocks, in order. ``thin`` marks those that may
    hold too few bars, ``emptied`` those that may hold too little volume. They are final whose day
    ends by ``day_final_ms``.
    """

    calendar: Calendar
    timeframe: Timeframe
    sessions: IntColumn
    thin: NDArray[np.bool_]
    emptied: NDArray[np.bool_]
    day_final_ms: int = FOREVER_MS

    @classmethod
    def about(
        cls,
        calendar: Calendar,
        timeframe: Timeframe,
        empty: Spans,
        asked: Spans,
        present_ms: IntColumn,
        day_final_ms: int = FOREVER_MS,
    ) -> Self | None:
        """Return the doubt that empty slots of what was asked for leave; None if there is none.

        ``present_ms`` are the starts of the bars that are known to be there.
        """
        if not (timeframe.is_intraday and empty and asked):
            return None
        grid = calendar.regular_grid(timeframe)
        regular = np.concatenate([grid.slots(span) for span in asked])
        slots = np.bincount(_block_of(grid, regular), minlength=len(grid.starts))
        came = regular[is_among(regular, present_ms)]
        bars = np.bincount(_block_of(grid, came), minlength=len(grid.starts))
        left = regular[empty.holds(regular)]
        emptied = np.bincount(_block_of(grid, left), minlength=len(grid.starts)) > 0
        thin = emptied & (bars * _FEW < slots) & (grid.counts >= _ENOUGH)
        sessions = np.flatnonzero(emptied | _around(thin))
        return cls(calendar, timeframe, sessions, thin[sessions], emptied[sessions], day_final_ms)

    def __or__(self, other: Self) -> Self:
        """Return the doubt about the sessions of both, which are of one series."""
        sessions = np.union1d(self.sessions, other.sessions)
        thin, emptied = np.zeros((2, len(sessions)), bool)
        for one in (self, other):
            at = np.searchsorted(sessions, one.sessions)
            thin[at] |= one.thin
            emptied[at] |= one.emptied
        return replace(self, sessions=sessions, thin=thin, emptied=emptied)

    @property
    def spans(self) -> list[Span]:
        """The regular slots of each session."""
        grid = self.calendar.regular_grid(self.timeframe)
        starts = grid.starts[self.sessions]
        ends = starts + grid.steps[self.sessions] * grid.counts[self.sessions]
        return [Span(*span) for span in zip(starts.tolist(), ends.tolist(), strict=True)]

    @property
    def days(self) -> list[Span]:
        """The trade date of each session, from where its night would begin."""
        calendar = self.calendar
        starts = calendar.regular_grid(self.timeframe).starts[self.sessions]
        sessions = calendar.session_of(starts)
        begins = calendar.midnight_ms[sessions] - calendar.evening_ms
        ends = calendar.next_midnight_ms[sessions] - calendar.evening_ms
        return [Span(*day) for day in zip(begins.tolist(), ends.tolist(), strict=True)]

    def suspect(
        self, covered: Spans, bars: IntColumn, volume: FloatColumn, day_volume: FloatColumn
    ) -> Spans:
        """Return the regular hours of those that are suspect.

        ``bars`` and ``volume`` are what each of the sessions holds, ``day_volume`` that of a stored
        d1, NaN where there is none. ``covered`` is what is answered for.
        """
        slots = answered(self.calendar, self.timeframe, self.sessions, covered)
        whole = slots == self.calendar.regular_grid(self.timeframe).counts[self.sessions]
        found = self.emptied & whole & (volume * 2 < day_volume)
        found |= self.thin & too_few(slots, bars, np.flatnonzero(self.thin))
        return Spans.union(
            span for span, is_suspect in zip(self.spans, found.tolist(), strict=True) if is_suspect
        )

    def unconfirmed(self, empty: Sequence[EmptySlots], suspect: Spans) -> list[EmptySlots]:
        """Return empty slots where those of suspect sessions are not believed yet."""
        grid = self.calendar.regular_grid(self.timeframe)
        over = Spans.of((-FOREVER_MS, final_days_end(self.calendar, self.day_final_ms)))
        found: list[EmptySlots] = []
        for one in empty:
            if one.reason is not EmptyReason.no_trades or not one.slots & suspect:
                found.append(one)
                continue
            late = one.slots & suspect
            parts = (
                replace(one, slots=grid.inside(one.slots - suspect)),
                EmptySlots(one.month, EmptyReason.unconfirmed, late & over),
                EmptySlots(one.month, EmptyReason.unconfirmed, late - over, is_final=False),
            )
            found += [part for part in parts if part.slots]
        return found


def answered(
    calendar: Calendar, timeframe: Timeframe, sessions: IntColumn, covered: Spans
) -> IntColumn:
    """Count the regular slots of each session that are covered."""
    grid = calendar.regular_grid(timeframe)
    counts = grid.counts[sessions]
    offsets = np.cumsum(counts) - counts
    indices = np.arange(int(counts.sum())) + np.repeat(grid.first_index[sessions] - offsets, counts)
    held = covered.holds(grid.starts_of(indices))
    found: IntColumn = np.bincount(
        np.repeat(np.arange(len(sessions)), counts), weights=held, minlength=len(sessions)
    ).astype(np.int64)
    return found


def too_few(slots: IntColumn, bars: IntColumn, candidates: IntColumn) -> NDArray[np.bool_]:
    """Mark those of the candidates that hold under a fifth of the bars of their neighbours.

    ``slots`` and ``bars`` are those answered for and held of consecutive sessions. The median is of
    up to 20 neighbours, scaled to the session's length; if it is under 20, nothing can be said.
    """
    found = np.zeros(len(slots), bool)
    known = np.flatnonzero(slots > 0)
    density = bars[known] / slots[known]
    for at in candidates.tolist():
        place = int(np.searchsorted(known, at))
        if place == len(known) or known[place] != at:
            continue
        first = max(0, min(place - _NEIGHBOURS // 2, len(known) - _NEIGHBOURS - 1))
        near = np.delete(density[first : first + _NEIGHBOURS + 1], place - first)
        if len(near):
            median = float(np.median(near)) * int(slots[at])
            found[at] = median >= _ENOUGH and int(bars[at]) * _FEW < median
    return found


def _block_of(grid: Grid, slots_ms: IntColumn) -> IntColumn:
    """Return the index of the block that each slot of a grid is in."""
    found: IntColumn = np.searchsorted(grid.starts, slots_ms, side="right") - 1
    return found


def _around(chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the chosen sessions and as many on either side as may be their neighbours."""
    near = np.zeros(len(chosen), bool)
    for at in np.flatnonzero(chosen).tolist():
        near[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS + 1] = True
    return near
