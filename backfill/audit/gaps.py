"""Which due bars are missing, of every series (R6)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from backfill.audit.tracked import Tracked
from backfill.core.bars import IntColumn
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.empty import ALONE_AFTER, EmptyReason
from backfill.core.gaps import Gap, find_gaps, with_extended_hours
from backfill.core.plan import next_final_ms
from backfill.core.series import Series
from backfill.core.suspect import Doubt
from backfill.core.terms import Settling
from backfill.core.timeframe import Timeframe
from backfill.settings import Settings
from backfill.store.empty import KnownEmpty, known_empty
from backfill.store.gaps import Question, incomplete
from backfill.store.pool import Connection, Database
from backfill.store.suspect import suspect_sessions
from backfill.store.times import to_ms, to_time

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

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types; ``reason`` and ``again`` only where a gap has them."""
        return {
            "symbol": self.series.symbol.ticker,
            "timeframe": str(self.series.timeframe),
            "gaps": [
                {
                    "from": to_time(gap.span.start_ms).isoformat(),
                    "to": to_time(gap.span.end_ms).isoformat(),
                    "slots": gap.slots,
                    **({"reason": str(gap.reason)} if gap.reason else {}),
                    **({"again": to_time(gap.again_ms).isoformat()} if gap.again_ms else {}),
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
    kept = {one.series: one for one in tracked}
    calendars = {one.series: one.calendar for one in tracked}
    due = {one.series: span for one in tracked if (span := one.due(settings.terms, now))}

    async def find(connection: Connection) -> list[SeriesGaps]:
        empty = await known_empty(connection, list(due), now)
        found = []
        for batch in _batches(due, calendars):
            lacking = await incomplete(connection, batch)
            doubts = {
                one: (doubt, kept[one].known.coverage)
                for one, (spans, stored) in lacking.items()
                if one.key in empty
                and (doubt := _doubt(kept[one], empty[one.key], spans, stored)) is not None
            }
            suspect = await suspect_sessions(connection, doubts)
            for one, (spans, stored) in lacking.items():
                grid = calendars[one].regular_grid(one.timeframe)
                known = empty.get(one.key, KnownEmpty())
                looked_at = spans & Spans.of(due[one])
                gaps = find_gaps(grid, looked_at, stored, known.settled, known.held)
                if not gaps:
                    continue
                settling = settings.terms.of(one.symbol.asset_type).settling
                again_ms = _asked_again(kept[one], settling, to_ms(now))
                alarming = known.overdue | suspect.get(one, Spans())
                gaps = [_judged(gap, again_ms, alarming) for gap in gaps]
                askable = Spans.union(gap.span for gap in gaps if gap.reason is None)
                askable |= known.askable & Spans.union(gap.span for gap in gaps)
                askable = _to_ask(calendars[one], one.timeframe, askable) & Spans.of(due[one])
                found.append(SeriesGaps(one, gaps, askable))
        order = {one: index for index, one in enumerate(due)}
        return sorted(found, key=lambda one: order[one.series])

    return await database.run(find)


def _doubt(one: Tracked, empty: KnownEmpty, lacking: Spans, stored_ms: IntColumn) -> Doubt | None:
    """Return the doubt about sessions with unconfirmed slots; ``lacking`` are all that lack bars.

    ``stored_ms`` are the bars that those do hold.
    """
    series, calendar = one.series, one.calendar
    grid = calendar.regular_grid(series.timeframe)
    asked = Spans.union(session for span in empty.unconfirmed for session, _ in grid.blocks(span))
    return Doubt.about(calendar, series.timeframe, empty.unconfirmed, asked & lacking, stored_ms)


def _judged(gap: Gap, again_ms: int, alarming: Spans) -> Gap:
    """Tell of an unconfirmed gap when it is asked for again, and whether it alarms."""
    if gap.reason is not EmptyReason.unconfirmed:
        return gap
    return replace(gap, again_ms=again_ms, alarms=bool(Spans.of(gap.span) & alarming))


def _asked_again(tracked: Tracked, settling: Settling, now_ms: int) -> int:
    """Return when a request for a series is due next, or worth a call without that."""
    series, calendar = tracked.series, tracked.calendar
    due_ms = next_final_ms(calendar, series.timeframe, settling, now_ms)
    delisted_on = series.symbol.delisted_on
    if due_ms is not None and (delisted_on is None or calendar.day_of(now_ms) <= delisted_on):
        return due_ms
    covered = tracked.known.coverage.hull
    ended_ms = covered.end_ms if covered else now_ms
    return max(now_ms, ended_ms + ALONE_AFTER // timedelta(milliseconds=1))


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
