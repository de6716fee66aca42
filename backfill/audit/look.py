"""A look at a series slot by slot, where its sessions don't hold as many bars as slots."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from backfill.audit.tracked import Tracked
from backfill.core.bars import IntColumn
from backfill.core.coverage import Span, Spans
from backfill.core.empty import EmptyReason
from backfill.core.gaps import Gap, join_missing, missing_slots, with_extended_hours
from backfill.core.grid import Grid
from backfill.core.series import Series
from backfill.core.suspect import Doubt
from backfill.store.empty import KnownEmpty


@dataclass(eq=False, slots=True)
class Look:
    """What is missing of a series that is due, as its sessions are looked at, some at a time.

    ``missing`` are the indices of slots; ``doubted`` the sessions that lack a bar and have
    unconfirmed slots, ``beside`` the bars that those hold.
    """

    tracked: Tracked
    due: Span
    known: KnownEmpty
    missing: list[IntColumn] = field(default_factory=list)
    doubted: Spans = field(default_factory=Spans)
    beside: list[IntColumn] = field(default_factory=list)

    @property
    def series(self) -> Series:
        """The series that is looked at."""
        return self.tracked.series

    @property
    def _grid(self) -> Grid:
        return self.tracked.calendar.regular_grid(self.series.timeframe)

    def add(self, lacking: Spans, stored_ms: IntColumn) -> None:
        """Look at sessions that are ``lacking`` a bar, or hold more than they have slots."""
        grid, late = self._grid, self.known.unconfirmed
        within = lacking & Spans.of(self.due)
        self.missing.append(missing_slots(grid, within, stored_ms, self.known.settled))
        if late:
            sessions = Spans.union(session for span in late for session, _ in grid.blocks(span))
            self.doubted |= sessions & lacking
            self.beside.append(stored_ms[self.doubted.holds(stored_ms)])

    def doubt(self) -> Doubt | None:
        """Return the doubt about sessions with unconfirmed slots, if there is one."""
        if not self.doubted:
            return None
        calendar, timeframe = self.tracked.calendar, self.series.timeframe
        late, beside = self.known.unconfirmed, np.concatenate(self.beside)
        return Doubt.about(calendar, timeframe, late, self.doubted, beside)

    def gaps(self, again_ms: int, suspect: Spans) -> list[Gap]:
        """Return the gaps; those that are held tell when they are asked for again.

        Unconfirmed ones alarm in ``suspect`` sessions, and where a second answer is overdue.
        """
        known = self.known
        missing = np.sort(np.concatenate(self.missing))
        self.missing = []
        alarming = known.overdue | suspect

        def told(gap: Gap) -> Gap:
            if gap.reason is None:
                return gap
            if gap.reason is EmptyReason.unconfirmed:
                alarms = bool(Spans.of(gap.span) & alarming)
                return gap._replace(again_ms=again_ms, alarms=alarms)
            return gap._replace(again_ms=known.expires_ms(gap.span))

        found = join_missing(self._grid, missing, known.held)
        return [told(gap) for gap in found] if known.held else found

    def askable(self, gaps: Sequence[Gap]) -> Spans:
        """Return what to ask for: what no entry holds, and what a second answer settles.

        Nobody is asked for bars that came by files.
        """
        if self.tracked.is_imported:
            return Spans()
        # Gaps that nothing holds don't touch: they would be one.
        spans = Spans(tuple(gap.span for gap in gaps if gap.reason is None))
        if self.known.askable:
            spans |= self.known.askable & Spans.union(gap.span for gap in gaps)
        if self.series.timeframe.is_intraday:
            spans = with_extended_hours(self.tracked.calendar, self.series.timeframe, spans)
        return spans & Spans.of(self.due)
