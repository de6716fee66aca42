"""Exchange calendars as values: sessions, and the grid of slots of every timeframe on them."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, NamedTuple, Self
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import IntColumn
from backfill.core.coverage import Span, Spans
from backfill.core.timeframe import DAY_MS, Timeframe

ALWAYS_OPEN: Final = "24/7"
"""The calendar of crypto: a session a day, from 00:00Z to 00:00Z."""

ZONES: Final = {ALWAYS_OPEN: "UTC", "XNYS": "America/New_York"}
"""The calendars that are kept, by their name in exchange_calendars, and their time zones."""

EXTENDED_HOURS: Final = {"XNYS": (time(4), time(20))}
"""Exchange-time bounds of the trading day where it is longer than the regular session.

XNYS: the hours in which consolidated US trades are reported. A calendar that isn't listed trades
in its regular session only.
"""


class Session(NamedTuple):
    """One trading day: its exchange date, and its regular open and close in epoch ms."""

    day: date
    open_ms: int
    close_ms: int


class _Blocks(NamedTuple):
    """The columns of a grid as lists: one slot is found in them several times as fast."""

    starts: list[int]
    steps: list[int]
    counts: list[int]
    first_index: list[int]


@dataclass(frozen=True, eq=False, slots=True)
class Grid:
    """The slots of one timeframe on one calendar, in order.

    Slots come in blocks of ``counts[i]`` slots, ``steps[i]`` ms long, from ``starts[i]`` on: one
    block a session for an intraday timeframe, one a slot for d1, w1 and mn1. Memory does not grow
    with the number of slots.
    """

    starts: IntColumn
    steps: IntColumn
    counts: IntColumn
    first_index: IntColumn
    _blocks: _Blocks

    @classmethod
    def of_blocks(cls, starts: IntColumn, steps: IntColumn, counts: IntColumn) -> Self:
        """Build a grid from its blocks, which must be sorted and must not overlap."""
        columns = starts, steps, counts, np.concatenate(([0], np.cumsum(counts)))[:-1]
        return cls(*columns, _Blocks(*(column.tolist() for column in columns)))

    def __len__(self) -> int:
        return int(self.counts.sum())

    def index_from(self, ts_ms: int) -> int:
        """Index of the first slot that starts at ``ts_ms`` or later; ``len`` if there is none."""
        starts, steps, counts, first_index = self._blocks
        block = bisect_right(starts, ts_ms) - 1
        if block < 0:
            return 0
        into = -((starts[block] - ts_ms) // steps[block])
        return first_index[block] + min(into, counts[block])

    def start_of(self, index: int) -> int:
        """Start of the slot with this index, in epoch ms."""
        starts, steps, _, first_index = self._blocks
        block = bisect_right(first_index, index) - 1
        return starts[block] + (index - first_index[block]) * steps[block]

    def end_of(self, index: int) -> int:
        """End of the slot with this index, in epoch ms."""
        starts, steps, _, first_index = self._blocks
        block = bisect_right(first_index, index) - 1
        return starts[block] + (index + 1 - first_index[block]) * steps[block]

    def count(self, span: tuple[int, int]) -> int:
        """Count the slots that start within the span."""
        return max(0, self.index_from(span[1]) - self.index_from(span[0]))

    def starts_of(self, indices: IntColumn) -> IntColumn:
        """Starts of the slots with these indices, in epoch ms."""
        blocks = np.searchsorted(self.first_index, indices, side="right") - 1
        return self.starts[blocks] + (indices - self.first_index[blocks]) * self.steps[blocks]

    def slots(self, span: tuple[int, int]) -> IntColumn:
        """Starts of the slots that start within the span, in epoch ms."""
        first, last = self.index_from(span[0]), self.index_from(span[1])
        return self.starts_of(np.arange(first, max(first, last), dtype=np.int64))

    def blocks(self, span: tuple[int, int]) -> list[tuple[Span, int]]:
        """The blocks that touch the span, with the number of slots of each."""
        ends = self.starts + self.steps * self.counts
        first = int(np.searchsorted(ends, span[0], side="right"))
        last = int(np.searchsorted(self.starts, span[1], side="left"))
        return [
            (Span(start, end), slots)
            for start, end, slots in zip(
                self.starts[first:last].tolist(),
                ends[first:last].tolist(),
                self.counts[first:last].tolist(),
                strict=True,
            )
        ]

    def floor(self, ts_ms: IntColumn) -> tuple[IntColumn, NDArray[np.bool_]]:
        """Start of the slot that each instant lies in, and whether it lies in one at all."""
        blocks = np.searchsorted(self.starts, ts_ms, side="right") - 1
        safe = np.maximum(blocks, 0)
        into = (ts_ms - self.starts[safe]) // self.steps[safe]
        inside = (blocks >= 0) & (into < self.counts[safe])
        return self.starts[safe] + into * self.steps[safe], inside

    def widen(self, span: tuple[int, int]) -> Span:
        """Grow a span to the whole slots that it touches, keeping its ends outside of slots."""
        start, end = span
        first, last = self.index_from(start), self.index_from(end) - 1
        if first > 0 and self.end_of(first - 1) > start:
            start = self.start_of(first - 1)
        if last >= 0 and self.end_of(last) > end:
            end = self.end_of(last)
        return Span(start, end)

    def narrow(self, span: tuple[int, int]) -> Span | None:
        """Shrink a span to the whole slots inside it; None if there is none."""
        first, last = self.index_from(span[0]), self.index_from(span[1]) - 1
        if last >= first and self.end_of(last) > span[1]:
            last -= 1
        if last < first:
            return None
        return Span(self.start_of(first), self.end_of(last))

    def inside(self, spans: Spans) -> Spans:
        """Shrink every span to the whole slots inside it."""
        return Spans.union(span for item in spans if (span := self.narrow(item)))


@dataclass(frozen=True, eq=False, slots=True)
class Calendar:
    """The sessions of an exchange, one array element per session, all instants in epoch ms.

    ``day_start_ms`` and ``day_end_ms`` bound the whole trading day, extended hours included;
    ``midnight_ms`` and ``next_midnight_ms`` the calendar day in the exchange's zone. ``anchor_ms``
    is where intraday slots are counted from: midnight by the clock that shows at the open.
    """

    name: str
    zone: ZoneInfo
    day_ordinals: IntColumn
    open_ms: IntColumn
    close_ms: IntColumn
    day_start_ms: IntColumn
    day_end_ms: IntColumn
    midnight_ms: IntColumn
    next_midnight_ms: IntColumn
    anchor_ms: IntColumn

    @classmethod
    def of(cls, name: str, zone: str, sessions: Iterable[Session]) -> Self:
        """Build a calendar from its sessions, sorted by day, without duplicates."""
        tz = ZoneInfo(zone)
        extended = EXTENDED_HOURS.get(name)
        rows: list[tuple[int, ...]] = []
        for day, open_ms, close_ms in sessions:
            opened = datetime.fromtimestamp(open_ms / 1000, tz)
            anchor = open_ms - (opened.hour * 60 + opened.minute) * 60_000
            bounds = (
                (_local_ms(day, extended[0], tz), _local_ms(day, extended[1], tz))
                if extended
                else (open_ms, close_ms)
            )
            rows.append(
                (
                    day.toordinal(),
                    open_ms,
                    close_ms,
                    *bounds,
                    _local_ms(day, time(), tz),
                    _local_ms(day + timedelta(days=1), time(), tz),
                    anchor,
                )
            )
        columns = np.array(rows, np.int64).reshape(len(rows), 8).T
        return cls(name, tz, *columns)

    def __len__(self) -> int:
        return len(self.day_ordinals)

    def grid(self, timeframe: Timeframe) -> Grid:
        """All slots of the timeframe, extended hours included."""
        return _grid(self, timeframe, regular=False)

    def regular_grid(self, timeframe: Timeframe) -> Grid:
        """The slots that touch the regular session: the ones whose absence is a gap."""
        return _grid(self, timeframe, regular=True)

    def midnight(self, day: date) -> int:
        """Midnight at the start of a day in the exchange's zone, session or not, in epoch ms."""
        return _local_ms(day, time(), self.zone)

    def day_of(self, ts_ms: int) -> date:
        """Return the exchange's date at an instant."""
        return datetime.fromtimestamp(ts_ms / 1000, self.zone).date()

    def canonical(self, timeframe: Timeframe, ts_ms: IntColumn) -> IntColumn:
        """Put a provider's stamps on the grid; what lies in no slot keeps its own stamp.

        Intraday and crypto stamps stay: they are exact or wrong. Any other d1, w1 or mn1 stamp
        names a day, by UTC when it is midnight UTC and by exchange time otherwise (midnight, the
        open and the close of a session all name it), and a week that a provider starts on Sunday
        is the one of the next Monday.
        """
        if timeframe.is_intraday or self.name == ALWAYS_OPEN:
            return ts_ms
        ordinals = np.array([self._named_day(int(stamp)) for stamp in ts_ms], np.int64)
        if timeframe is Timeframe.w1:
            ordinals = np.where(ordinals % 7 == 0, ordinals + 1, ordinals)
        grid = self.grid(timeframe)
        days = np.array([self.midnight(date.fromordinal(int(day))) for day in ordinals], np.int64)
        floors, inside = grid.floor(days)
        return np.where(inside, floors, ts_ms)

    def starts_bar(self, timeframe: Timeframe, ts_ms: IntColumn) -> NDArray[np.bool_]:
        """Whether each stamp is one that a provider would give the start of such a bar.

        For d1, w1 and mn1 that is midnight, by UTC or exchange time, of any day, of a Sunday or
        Monday, or of the 1st.
        """
        if timeframe.is_intraday:
            slots, inside = self.grid(timeframe).floor(ts_ms)
            exact: NDArray[np.bool_] = inside & (slots == ts_ms)
            return exact
        return np.array([self._starts_period(timeframe, int(stamp)) for stamp in ts_ms], bool)

    def _starts_period(self, timeframe: Timeframe, ts_ms: int) -> bool:
        day = date.fromordinal(self._named_day(ts_ms))
        if ts_ms % DAY_MS != 0 and ts_ms != self.midnight(day):
            return False
        if timeframe is Timeframe.w1:
            return day.weekday() in {0, 6}
        return timeframe is Timeframe.d1 or day.day == 1

    def _named_day(self, ts_ms: int) -> int:
        zone = UTC if ts_ms % DAY_MS == 0 else self.zone
        return datetime.fromtimestamp(ts_ms / 1000, zone).toordinal()


@lru_cache(maxsize=4096)
def _local_ms(day: date, at: time, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, at, zone).timestamp() * 1000)


@lru_cache(maxsize=64)
def _grid(calendar: Calendar, timeframe: Timeframe, *, regular: bool) -> Grid:
    if timeframe.is_intraday:
        step = timeframe.length_ms
        start = calendar.open_ms if regular else calendar.day_start_ms
        end = calendar.close_ms if regular else calendar.day_end_ms
        first = (start - calendar.anchor_ms) // step
        last = -((calendar.anchor_ms - end) // step)
        return Grid.of_blocks(
            calendar.anchor_ms + first * step, np.full(len(calendar), step), last - first
        )
    if timeframe is Timeframe.d1:
        starts, ends = calendar.midnight_ms, calendar.next_midnight_ms
    else:
        bounds = [
            (calendar.midnight(first), calendar.midnight(end))
            for first, end in _periods(calendar, timeframe)
        ]
        starts, ends = np.array(bounds, np.int64).reshape(len(bounds), 2).T
    return Grid.of_blocks(starts, ends - starts, np.ones(len(starts), np.int64))


def _periods(calendar: Calendar, timeframe: Timeframe) -> list[tuple[date, date]]:
    """First day and the day after the last of every week or month with a session in it."""
    days = [date.fromordinal(int(ordinal)) for ordinal in calendar.day_ordinals]
    if timeframe is Timeframe.w1:
        mondays = sorted({day - timedelta(days=day.weekday()) for day in days})
        return [(monday, monday + timedelta(days=7)) for monday in mondays]
    months = sorted({(day.year, day.month) for day in days})
    return [
        (date(year, month, 1), date(year + month // 12, month % 12 + 1, 1))
        for year, month in months
    ]
