"""Gaps outside the regular session: what a look at stored bars of several timeframes proves."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import numpy as np

from backfill.audit.gaps import SeriesGaps
from backfill.audit.tracked import Tracked, base_of
from backfill.core.bars import Bars, IntColumn
from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.extended import gaps_at, lost_parts, unmade_slots
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.store.pool import Database
from backfill.store.read import bars_of_each

_DAYS_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class _Family:
    """A stored base and the intraday series that are rolled up from it, on the same source."""

    base: Tracked
    coarser: tuple[Tracked, ...]

    def spans(self, now: datetime) -> dict[Series, Spans]:
        """Return what of each series is due, and of the base also answered for."""
        due = {one.series: one.due(now) for one in (self.base, *self.coarser)}
        found = {one: Spans.of(span) if span else Spans() for one, span in due.items()}
        found[self.base.series] &= self.base.known.coverage
        return found


async def with_extended(
    database: Database,
    now: datetime,
    tracked: Sequence[Tracked],
    regular: Sequence[SeriesGaps],
) -> list[SeriesGaps]:
    """Return gaps of the regular session with those outside it that other stored bars prove.

    ``tracked`` are all series of the symbols in question, ``regular`` their gaps as far as known.
    """
    known = {one.series: one for one in regular}
    missing: dict[Series, list[IntColumn]] = {}
    for family in _families(tracked):
        due = family.spans(now)
        gaps = known.get(family.base.series)
        explained = Spans.union(gap.span for gap in gaps.gaps) if gaps else Spans()
        for days in _lots(family, due):
            wanted = {
                series: Spans.of(family.base.calendar.grid(series.timeframe).widen(days))
                for series in due
            }
            held = await database.run(partial(bars_of_each, wanted=wanted))
            for series, slots in _missing(family, held, due, explained):
                if len(slots):
                    missing.setdefault(series, []).append(slots)
    for one in tracked:
        if (lots := missing.get(one.series)) is not None:
            slots = np.unique(np.concatenate(lots))
            found = gaps_at(one.calendar, one.series.timeframe, slots)
            asked = [] if one.is_imported else [gap.span for gap in found]
            before = known.get(one.series, SeriesGaps(one.series, [], Spans()))
            known[one.series] = SeriesGaps(
                one.series,
                sorted([*before.gaps, *found], key=lambda gap: gap.span),
                before.askable | Spans.union(asked),
            )
    return [known[one.series] for one in tracked if one.series in known]


def beside_the_session(
    tracked: Sequence[Tracked], asked: Mapping[Series, Spans]
) -> dict[Series, Spans]:
    """Return what has to be asked for of bases with what is, so that nothing coarser loses a part.

    A coarser bar that reaches beyond the regular session is rolled up again with each of its parts
    that is. Whether another part is gone there only that bar tells, and no longer after that: so
    all of them are asked for.
    """
    found: dict[Series, Spans] = {}
    for family in _families(tracked):
        base, calendar = family.base.series, family.base.calendar
        if base not in asked:
            continue
        whole, regular = calendar.grid(base.timeframe), calendar.regular_grid(base.timeframe)
        for one in family.coarser:
            grid = calendar.grid(one.series.timeframe)
            wide = (grid.widen(span) for span in asked[base])
            reaching = (span for span in wide if whole.count(span) > regular.count(span))
            found[base] = found.get(base, Spans()) | Spans.union(reaching)
        found[base] &= family.base.known.coverage
    return found


def _families(tracked: Sequence[Tracked]) -> Iterator[_Family]:
    """Find each base that has hours beside the regular session, with what is rolled up from it."""
    by_series = {one.series: one for one in tracked}
    derived: dict[Series, list[Tracked]] = {}
    for one in tracked:
        base = base_of(by_series, one.series)
        if base is not None and one.series.timeframe.is_intraday:
            derived.setdefault(base, []).append(one)
    for base, coarser in derived.items():
        calendar, timeframe = by_series[base].calendar, base.timeframe
        if len(calendar.grid(timeframe)) > len(calendar.regular_grid(timeframe)):
            yield _Family(by_series[base], tuple(coarser))


def _lots(family: _Family, due: Mapping[Series, Spans]) -> Iterator[Span]:
    """Cut what is due into some days each, whose bars fit well into memory."""
    hull = Spans.union(span for spans in due.values() for span in spans).hull
    if hull is None:
        return
    days = family.base.calendar.grid(family.base.series.timeframe).blocks(hull)
    for first in range(0, len(days), _DAYS_AT_ONCE):
        lot = days[first : first + _DAYS_AT_ONCE]
        yield Span(lot[0][0].start_ms, lot[-1][0].end_ms)


def _missing(
    family: _Family, held: Mapping[Series, Bars], due: Mapping[Series, Spans], explained: Spans
) -> Iterator[tuple[Series, IntColumn]]:
    """Find the slots that some days lack, by series."""
    calendar, base = family.base.calendar, family.base.series
    parts = _kept(calendar, base.timeframe, held[base])
    full: dict[Timeframe, Bars] = {}
    for one in family.coarser:
        series = one.series
        bars = _kept(calendar, series.timeframe, held[series])
        unmade = unmade_slots(calendar, series.timeframe, parts.ts_ms, bars.ts_ms)
        yield series, unmade[due[series].holds(unmade)]
        # Only slots all of whose parts the provider was asked for tell what is gone of them.
        whole = calendar.grid(series.timeframe).inside(due[base] & due[series])
        full[series.timeframe] = bars.take(whole.holds(bars.ts_ms))
    yield base, lost_parts(calendar, base.timeframe, parts, full, explained)


def _kept(calendar: Calendar, timeframe: Timeframe, bars: Bars) -> Bars:
    return bars.take(~calendar.drops(timeframe, bars.ts_ms))
