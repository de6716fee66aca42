"""Which due bars are missing, of every series (R6)."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from backfill.audit.tracked import Tracked
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.empty import ALONE_AFTER
from backfill.core.plan import next_final_ms
from backfill.core.series import Series, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.empty import KnownEmpty, known_empty
from backfill.store.gaps import Question, incomplete
from backfill.store.pool import Connection, Database
from backfill.store.times import to_ms

if TYPE_CHECKING:
    from backfill.audit.look import Look
    from backfill.core.gaps import Gap
    from backfill.core.grid import Grid
    from backfill.core.suspect import Doubt

_BATCH_SLOTS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class SeriesGaps:
    """The gaps of one series, oldest first."""

    series: Series
    gaps: list["Gap"]
    askable: Spans
    """What to ask the provider for: the gaps that it was not asked for lately, if there is one."""

    @property
    def alarms(self) -> bool:
        """Whether a gap is more than something that the provider may be late with."""
        return any(gap.alarms for gap in self.gaps)


async def series_gaps(
    database: Database, now: datetime, tracked: Sequence[Tracked]
) -> list[SeriesGaps]:
    """Return those of the series that have gaps, in their order."""
    found, _ = await gaps_and_empty(database, now, tracked)
    return found


async def gaps_and_empty(
    database: Database, now: datetime, tracked: Sequence[Tracked]
) -> tuple[list[SeriesGaps], dict[tuple[SymbolId, Timeframe], KnownEmpty]]:
    """Return those of the series that have gaps, in their order, and what is known to be empty.

    The database counts the bars of each session; only those that hold more or fewer than they have
    slots are looked at slot by slot.
    """
    kept = {one.series: one for one in tracked}
    calendars = {one.series: one.calendar for one in tracked}
    due = {one.series: span for one in tracked if (span := one.expected(now))}

    async def find(
        connection: Connection,
    ) -> tuple[list[SeriesGaps], dict[tuple[SymbolId, Timeframe], KnownEmpty]]:
        empty = await known_empty(connection, list(due), now)
        found: list[SeriesGaps] = []
        for batch in _batches(due, calendars):
            looks: dict[Series, Look] = {}
            async for lot in incomplete(connection, batch):
                for one, (lacking, held) in lot.items():
                    if one not in looks:
                        known = empty.get(one.key, KnownEmpty())
                        looks[one] = _look(kept[one], due[one], known)
                    looks[one].add(lacking, held)
            doubts = {
                look.series: (doubt, look.tracked.known.coverage)
                for look in looks.values()
                if (doubt := look.doubt()) is not None
            }
            suspect = await _suspect(connection, doubts)
            for look in looks.values():
                again_ms = _asked_again(look.tracked, to_ms(now))
                gaps = look.gaps(again_ms, suspect.get(look.series, Spans()))
                if gaps:
                    found.append(SeriesGaps(look.series, gaps, look.askable(gaps)))
        order = {one: index for index, one in enumerate(due)}
        return sorted(found, key=lambda one: order[one.series]), empty

    return await database.run(find)


def _look(tracked: Tracked, due: Span, known: KnownEmpty) -> "Look":
    """Return a look at a series that lacks bars; what it takes is loaded with the first one."""
    from backfill.audit.look import Look

    return Look(tracked, due, known)


async def _suspect(
    connection: Connection, doubts: Mapping[Series, tuple["Doubt", Spans]]
) -> dict[Series, Spans]:
    if not doubts:
        return {}
    from backfill.store.suspect import suspect_sessions

    return await suspect_sessions(connection, doubts)


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
