"""Which due bars are missing, of every series (R6)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from backfill.core.coverage import Span, Spans
from backfill.core.gaps import Gap, find_gaps, with_extended_hours
from backfill.core.series import Series
from backfill.settings import Settings
from backfill.store import gaps as store
from backfill.store.empty import KnownEmpty, known_empty
from backfill.store.pool import Connection, Database
from backfill.store.times import to_time
from backfill.tracked import Tracked, tracked_series


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


async def series_gaps(database: Database, settings: Settings, now: datetime) -> list[SeriesGaps]:
    """Return the series that have gaps, by symbol, finest timeframe first.

    Sessions of an intraday series that hold a bar for each slot are counted by the database, for
    all series of a timeframe at once; only the others are looked at slot by slot.
    """
    tracked = await tracked_series(database, settings, now)
    due = {one.series: span for one in tracked if (span := one.due(settings.terms, now))}

    async def find(connection: Connection) -> list[SeriesGaps]:
        empty = await known_empty(connection, [one.series for one in tracked], now)
        suspects = await _suspects(connection, tracked, due)
        found = []
        for one in tracked:
            spans = suspects.get(one.series)
            if not spans:
                continue
            known = empty.get(one.series.key, KnownEmpty())
            stored = await store.stored_ms(connection, one.series, spans)
            grid = one.calendar.regular_grid(one.series.timeframe)
            gaps = find_gaps(grid, spans, stored, known.settled, known.held)
            if gaps:
                askable = Spans.union(gap.span for gap in gaps if gap.reason is None)
                found.append(SeriesGaps(one.series, gaps, _to_ask(one, askable, due[one.series])))
        return found

    return await database.run(find)


def _to_ask(tracked: Tracked, spans: Spans, due: Span) -> Spans:
    if not tracked.series.timeframe.is_intraday:
        return spans
    whole = with_extended_hours(tracked.calendar, tracked.series.timeframe, spans)
    return whole & Spans.of(due)


async def _suspects(
    connection: Connection, tracked: Iterable[Tracked], due: dict[Series, Span]
) -> dict[Series, Spans]:
    """Return the parts of each series that may lack a bar."""
    wanting = [one for one in tracked if one.series in due]
    found = {
        one.series: Spans.of(due[one.series])
        for one in wanting
        if not one.series.timeframe.is_intraday
    }
    intraday = sorted(
        (one for one in wanting if one.series.timeframe.is_intraday),
        key=lambda one: (one.calendar.name, one.series.timeframe),
    )
    for (_, timeframe), group in groupby(
        intraday, key=lambda one: (one.calendar.name, one.series.timeframe)
    ):
        members = list(group)
        grid = members[0].calendar.regular_grid(timeframe)
        first = min(due[one.series].start_ms for one in members)
        last = max(due[one.series].end_ms for one in members)
        sessions = grid.blocks((first, last))
        incomplete = await store.incomplete_sessions(
            connection,
            [one.series.symbol.id for one in members],
            timeframe,
            [span for span, _ in sessions],
            [slots for _, slots in sessions],
        )
        for one in members:
            spans = (sessions[index][0] for index in incomplete.get(one.series.symbol.id, ()))
            found[one.series] = Spans.union(spans) & Spans.of(due[one.series])
    return found
