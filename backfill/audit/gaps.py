"""Which due bars are missing, of every series (R6)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from backfill.audit.tracked import Tracked
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.gaps import Gap, find_gaps, with_extended_hours
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.settings import Settings
from backfill.store.empty import KnownEmpty, known_empty
from backfill.store.gaps import Question, incomplete
from backfill.store.pool import Connection, Database
from backfill.store.times import to_time

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

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types; ``reason`` only where a gap has one."""
        return {
            "symbol": self.series.symbol.ticker,
            "timeframe": str(self.series.timeframe),
            "gaps": [
                {
                    "from": to_time(gap.span.start_ms).isoformat(),
                    "to": to_time(gap.span.end_ms).isoformat(),
                    "slots": gap.slots,
                    **({"reason": str(gap.reason)} if gap.reason else {}),
                }
                for gap in self.gaps
            ],
        }


async def series_gaps(
    database: Database, settings: Settings, now: datetime, tracked: Sequence[Tracked]
) -> list[SeriesGaps]:
    """Return those of the series that have gaps, in their order.

    The database counts the bars of each session; only those that hold more or fewer than they have
    slots are looked at slot by slot.
    """
    calendars = {one.series: one.calendar for one in tracked}
    due = {one.series: span for one in tracked if (span := one.due(settings.terms, now))}

    async def find(connection: Connection) -> list[SeriesGaps]:
        empty = await known_empty(connection, list(due), now)
        found = []
        for batch in _batches(due, calendars):
            for one, (spans, stored) in (await incomplete(connection, batch)).items():
                grid = calendars[one].regular_grid(one.timeframe)
                known = empty.get(one.key, KnownEmpty())
                suspect = spans & Spans.of(due[one])
                gaps = find_gaps(grid, suspect, stored, known.settled, known.held)
                if gaps:
                    askable = Spans.union(gap.span for gap in gaps if gap.reason is None)
                    askable = _to_ask(calendars[one], one.timeframe, askable) & Spans.of(due[one])
                    found.append(SeriesGaps(one, gaps, askable))
        order = {one: index for index, one in enumerate(due)}
        return sorted(found, key=lambda one: order[one.series])

    return await database.run(find)


def _to_ask(calendar: Calendar, timeframe: Timeframe, spans: Spans) -> Spans:
    return with_extended_hours(calendar, timeframe, spans) if timeframe.is_intraday else spans


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
