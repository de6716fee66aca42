"""Pages of a file: what it holds of a series, cut into parts, and what each of them proves."""

from dataclasses import dataclass, field, replace
from typing import Final, Self

import numpy as np

from backfill.core.bars import Bars, IntColumn, is_among
from backfill.core.calendar import ALWAYS_OPEN, Calendar
from backfill.core.cells import BadRow
from backfill.core.checks import Reason, check_page
from backfill.core.coverage import Span, Spans
from backfill.core.empty import FOREVER_MS
from backfill.core.filed import Key, Rows
from backfill.core.paging import Chunk, with_empty
from backfill.core.precision import Precision
from backfill.core.series import Series, Source
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.errors import BadAnswer

PAGE: Final = 50_000
"""How many bars of one series are written at once."""


@dataclass(slots=True)
class Extent:
    """How many bars a file has of a series, from when to when, and whether the newest come first.

    ``first_ms`` and ``last_ms`` are the oldest and newest stamp, in epoch ms. ``elsewhere`` are
    stamps that were written as a midnight by another clock than UTC's, one by the time that it is.
    """

    bars: int
    first_ms: int
    last_ms: int
    is_descending: bool | None = None
    elsewhere: dict[int, int] = field(default_factory=dict)


class Survey:
    """What a file holds of each series, found by reading it once."""

    def __init__(self) -> None:
        self.extents: dict[Key, Extent] = {}
        self._before: dict[Key, int] = {}

    @property
    def bars(self) -> int:
        """How many bars there are in all."""
        return sum(one.bars for one in self.extents.values())

    def add(self, rows: Rows) -> None:
        """Count rows.

        Raises
        ------
        BadRow
            If the stamps of a series go now forward, now back; the row is its number in the file.
        """
        stamps = rows.bars.ts_ms
        known = self.extents.get(rows.key)
        if known is None:
            known = self.extents[rows.key] = Extent(0, int(stamps[0]), int(stamps[0]))
        steps = np.diff(stamps, prepend=self._before.get(rows.key, stamps[0]))
        moves = np.flatnonzero(steps)
        if known.is_descending is None and len(moves):
            known.is_descending = bool(steps[moves[0]] < 0)
        wrong = steps > 0 if known.is_descending else steps < 0
        if wrong.any():
            number = int(rows.numbers[np.flatnonzero(wrong)[0]])
            raise BadRow(
                number,
                f"{rows.key} goes {'forward' if known.is_descending else 'back'} in time there: "
                "sort the file by symbol and time",
            )
        known.bars += len(stamps)
        known.first_ms = min(known.first_ms, int(stamps.min()))
        known.last_ms = max(known.last_ms, int(stamps.max()))
        self._before[rows.key] = int(stamps[-1])
        times, firsts = np.unique(rows.elsewhere_ms % DAY_MS, return_index=True)
        known.elsewhere |= dict(
            zip(times.tolist(), rows.elsewhere_ms[firsts].tolist(), strict=True)
        )


@dataclass(frozen=True, eq=False, slots=True)
class FilePage:
    """Some bars of a series, and the range that they are all of in the file, whatever that proves.

    ``beside_ms`` are the starts of other bars that are known to be there.
    """

    bars: Bars
    span: Span
    beside_ms: IntColumn

    def beside(self, stamps_ms: IntColumn) -> Self:
        """Return it with more bars that are known to be there, by their starts."""
        return replace(self, beside_ms=np.concatenate((self.beside_ms, stamps_ms)))


class Pager:
    """Cuts one series of a file into pages, in its order; no slot lies in two of them."""

    def __init__(self, calendar: Calendar, timeframe: Timeframe, extent: Extent) -> None:
        self._calendar = calendar
        self._timeframe = timeframe
        self._descending = bool(extent.is_descending)
        self._left = extent.bars
        self._parts: list[Bars] = []
        self._upto_ms: int | None = None
        self._beside_ms: IntColumn = np.empty(0, np.int64)
        self.waiting = 0

    def add(self, bars: Bars) -> None:
        """Take bars that follow in the file."""
        self._parts.append(bars)
        self.waiting += len(bars)

    def page(self) -> FilePage | None:
        """Return the next page of what waits, but for bars whose slot may go on; None if it is all.

        The last one of the series has everything, and everything beyond it.
        """
        bars = Bars.concat(self._parts)
        is_last = self.waiting == self._left
        slots = self._calendar.canonical(self._timeframe, bars.ts_ms)
        cut = len(bars)
        if not is_last:
            cut = int(np.flatnonzero(np.concatenate(([True], slots[1:] != slots[:-1])))[-1])
        if not cut:
            return None
        mine = bars.take(slice(cut))
        self._parts, self.waiting = [bars.take(slice(cut, None))], self.waiting - cut
        self._left -= cut
        edge = int(slots[cut - 1])
        slot = self._calendar.grid(self._timeframe).widen((edge, edge + 1))
        bound = slot.start_ms if self._descending else slot.end_ms
        if self._descending:
            span = Span(
                -FOREVER_MS if is_last else bound,
                FOREVER_MS if self._upto_ms is None else self._upto_ms,
            )
        else:
            span = Span(
                -FOREVER_MS if self._upto_ms is None else self._upto_ms,
                FOREVER_MS if is_last else bound,
            )
        page = FilePage(mine, span, self._beside_ms)
        self._upto_ms, self._beside_ms = bound, np.array([edge])
        return page


def read_page(
    series: Series,
    source: Source,
    calendar: Calendar,
    page: FilePage,
    covers: Spans,
    now_ms: int,
    day_final_ms: int,
    precision: Precision,
) -> Chunk:
    """Return what a page brings to its series, by the checks that an answer goes through.

    It closes what it is all of within ``covers``, which are whole final slots. A file is what it
    is: nothing of it is late.

    Raises
    ------
    BadAnswer
        If the page as a whole isn't bars of the series.
    """
    symbol, timeframe = series
    grid, bars = calendar.grid(timeframe), page.bars
    _see_days(calendar, timeframe, bars.ts_ms)
    slots = calendar.canonical(timeframe, bars.ts_ms)
    asked = Span(
        grid.widen((int(slots.min()), int(slots.min()) + 1)).start_ms,
        grid.widen((int(slots.max()), int(slots.max()) + 1)).end_ms,
    )
    checked = check_page(calendar, timeframe, bars, asked, now_ms, precision)
    good = checked.bars
    if symbol.cut_on is not None:
        older, good = good.parted(calendar.begins(symbol.cut_on, timeframe))
        checked = checked.with_rejected(older, Reason.before_listing)
    bad, inside = grid.floor(calendar.canonical(timeframe, checked.rejected.ts_ms))
    present = np.union1d(good.ts_ms, page.beside_ms)
    bad = bad[inside]
    chunk = Chunk(
        series,
        source,
        good,
        covers & Spans.of(page.span),
        rejected=checked.rejected,
        reasons=checked.reasons,
        ignored=checked.ignored,
    )
    return with_empty(
        chunk,
        calendar,
        timeframe,
        day_final_ms,
        present,
        quarantined_ms=bad[~is_among(bad, present)],
        late=Spans(),
    )


def foreign_days(calendar: Calendar, extent: Extent) -> BadAnswer | None:
    """Return why days of a file name none of an exchange's: they begin elsewhere; None if not.

    Such a midnight may be when a session closes here, and would name the day before.
    """
    if calendar.name == ALWAYS_OPEN:
        return None
    stamps = np.array(sorted(extent.elsewhere.values()), np.int64)
    wrong = stamps[~calendar.starts_bar(Timeframe.d1, stamps)]
    return _vague_day(int(wrong[0])) if len(wrong) else None


def _vague_day(ts_ms: int) -> BadAnswer:
    return BadAnswer(
        f"{np.datetime64(ts_ms, 'ms')}Z is midnight neither in UTC nor at the exchange: "
        "write days as 2024-07-03, without --timezone"
    )


def _see_days(calendar: Calendar, timeframe: Timeframe, ts_ms: IntColumn) -> None:
    """See that stamps of days and longer bars of an exchange name their day beyond doubt.

    They are midnight UTC or the exchange's, or when a session opens or closes: any other instant of
    a day may be the midnight of another one elsewhere. A Sunday names no week: a provider's begins
    there, and that of pandas ends.
    """
    if timeframe.is_intraday or calendar.name == ALWAYS_OPEN:
        return
    stamps = ts_ms[ts_ms % DAY_MS != 0]
    vague = ~(calendar.starts_bar(Timeframe.d1, stamps) | is_among(stamps, calendar.open_ms))
    vague &= ~is_among(stamps, calendar.close_ms)
    if vague.any():
        raise _vague_day(int(stamps[vague][0]))
    if timeframe is Timeframe.w1:
        sundays = calendar.canonical(timeframe, ts_ms) - ts_ms > DAY_MS // 2
        if sundays.any():
            at = np.datetime64(int(ts_ms[sundays][0]), "ms")
            raise BadAnswer(
                f"{at}Z is a Sunday, with which a week may begin as well as end: "
                "write each by its Monday"
            )
