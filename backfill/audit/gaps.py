"""Which due bars are missing, of every series (R6)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from backfill.audit.tracked import Tracked
from backfill.core.bars import IntColumn
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.empty import ALONE_AFTER, EmptyReason
from backfill.core.gaps import Gap, join_missing, missing_slots, with_extended_hours
from backfill.core.plan import next_final_ms
from backfill.core.series import Series
from backfill.core.suspect import Doubt
from backfill.store.empty import KnownEmpty, known_empty
from backfill.store.gaps import Question, incomplete
from backfill.store.pool import Connection, Database
from backfill.store.suspect import suspect_sessions
from backfill.store.times import to_ms

if TYPE_CHECKING:
    from backfill.core.grid import Grid

_BATCH_SLOTS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class SeriesGaps:
    """The gaps of one series, oldest first."""

    series: Series
    gaps: list[Gap]
    askable: Spans
    """What to ask the provider for: the gaps that it was not asked for lately."""

    @property
    def alarms(self) -> bool:
        """Whether a gap is more than something that the provider may be late with."""
        return any(gap.alarms for gap in self.gaps)


async def series_gaps(
    database: Database, now: datetime, tracked: Sequence[Tracked]
) -> list[SeriesGaps]:
    """Return those of the series that have gaps, in their order.

    The database counts the bars of each session; only those that hold more or fewer than they have
    slots are looked at slot by slot.
    """
    kept = {one.series: one for one in tracked}
    calendars = {one.series: one.calendar for one in tracked}
    due = {one.series: span for one in tracked if (span := one.expected(now))}

    async def find(connection: Connection) -> list[SeriesGaps]:
        empty = await known_empty(connection, list(due), now)
        found: list[SeriesGaps] = []
        for batch in _batches(due, calendars):
            looks: dict[Series, _Look] = {}
            async for lot in incomplete(connection, batch):
                for one, (lacking, held) in lot.items():
                    if one not in looks:
                        known = empty.get(one.key, KnownEmpty())
                        looks[one] = _Look(kept[one], due[one], known)
                    looks[one].add(lacking, held)
            doubts = {
                look.series: (doubt, look.tracked.known.coverage)
                for look in looks.values()
                if (doubt := look.doubt()) is not None
            }
            suspect = await suspect_sessions(connection, doubts)
            for look in looks.values():
                again_ms = _asked_again(look.tracked, to_ms(now))
                gaps = look.gaps(again_ms, suspect.get(look.series, Spans()))
                if gaps:
                    found.append(SeriesGaps(look.series, gaps, look.askable(gaps)))
        order = {one: index for index, one in enumerate(due)}
        return sorted(found, key=lambda one: order[one.series])

    return await database.run(find)


@dataclass(eq=False, slots=True)
class _Look:
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
        return self.tracked.series

    @property
    def _grid(self) -> "Grid":
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
        """Return what to ask for: what no entry holds, and what a second answer settles."""
        # Gaps that nothing holds don't touch: they would be one.
        spans = Spans(tuple(gap.span for gap in gaps if gap.reason is None))
        if self.known.askable:
            spans |= self.known.askable & Spans.union(gap.span for gap in gaps)
        if self.series.timeframe.is_intraday:
            spans = with_extended_hours(self.tracked.calendar, self.series.timeframe, spans)
        return spans & Spans.of(self.due)


def _asked_again(tracked: Tracked, now_ms: int) -> int:
    """Return when a request for a series is due next, or worth a call without that."""
    series, calendar = tracked.series, tracked.calendar
    due_ms = next_final_ms(calendar, series.timeframe, tracked.terms.settling, now_ms)
    last_day = series.symbol.last_day
    if due_ms is not None and (last_day is None or calendar.day_of(now_ms) <= last_day):
        return due_ms
    covered = tracked.known.coverage.hull
    ended_ms = covered.end_ms if covered else now_ms
    return max(now_ms, ended_ms + ALONE_AFTER // timedelta(milliseconds=1))


def _batches(
    due: Mapping[Series, Span], calendars: Mapping[Series, Calendar]
) -> Iterator[list[Question]]:
    """Cut what is due into its sessions, in batches whose stamps fit well into memory.

    Most series of a calendar and timeframe are due for the same time: they share a question.
    """
    alike: dict[tuple[Grid, Span], list[Series]] = {}
    for one, span in due.items():
        alike.setdefault((calendars[one].regular_grid(one.timeframe), span), []).append(one)
    batch: list[Question] = []
    total = 0
    for (grid, span), series in alike.items():
        intraday = series[0].timeframe.is_intraday
        sessions = grid.blocks(span) if intraday else [(span, grid.count(span))]
        slots = sum(slots for _, slots in sessions)
        for one in series:
            if not batch or batch[-1].spans is not sessions:
                batch.append(Question(sessions, []))
            batch[-1].series.append(one)
            total += slots
            if total >= _BATCH_SLOTS:
                yield batch
                batch, total = [], 0
    if batch:
        yield batch
