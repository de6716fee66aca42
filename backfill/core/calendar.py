"""Exchange calendars as values: sessions, and the grid of slots of every timeframe on them."""

# Over 300 lines: sessions, trade dates and hours are one subject, and each of its parts needs the
# others.

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple, Self
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import IntColumn
from backfill.core.grid import Grid
from backfill.core.timeframe import DAY_MS, HOUR_MS, Timeframe

ALWAYS_OPEN: Final = "24/7"
"""The calendar of crypto: a session a day, from 00:00Z to 00:00Z."""

FX: Final = "FX"
"""The calendar of currencies: five sessions a week, each from 17:00 in New York to the next."""

ZONES: Final = {ALWAYS_OPEN: "UTC", "XNYS": "America/New_York", FX: "America/New_York"}
"""The calendars that are kept, and their time zones; FX is ours, exchange_calendars has it not."""

ROLLS_MS: Final = {FX: 7 * HOUR_MS}
"""How long before its zone's midnight a calendar's day begins, where it isn't there.

Currencies roll at 17:00 in New York: their clock is New York's, seven hours ahead, so that their
midnight is that roll. Sunday evening is Monday; days, weeks, months and bars of four hours begin at
a roll, and none holds trades of two trade dates. New York never turns its clock between 17:00 and
midnight, so the seven hours are always as many.
"""

EVENING_MS: Final = {"XNYS": 4 * HOUR_MS}
"""How long before its midnight a trade date begins, where it isn't at midnight: at 20:00, when the
day's last trades are done. A night belongs to the trade date that follows it.
"""


class Session(NamedTuple):
    """One trading day: its exchange date, and its regular open and close in epoch ms."""

    day: date
    open_ms: int
    close_ms: int


class Night(StrEnum):
    """What becomes of the bars of the night."""

    keep = "keep"
    """They are stored."""
    drop = "drop"
    """They are counted and not stored: the trading day begins when the night is over."""


class Hours(NamedTuple):
    """The trading day of a feed, by the exchange's clock, for sessions from one day to another.

    It begins at ``opens``, or the evening before at ``night_opens``, and ends at ``closes``. A feed
    that trades at night only opens and closes its day at once. Of several that hold for a session,
    those set by hand go before the others, later first days before earlier ones.
    """

    first: date
    last: date
    opens: time
    closes: time
    night_opens: time | None = None
    manual: bool = False

    @property
    def precedence(self) -> tuple[bool, int, date]:
        """What hours are sorted by, so that the first that hold for a session are its own."""
        return not self.manual, -self.first.toordinal(), self.last


@dataclass(frozen=True, eq=False, slots=True)
class Calendar:
    """The sessions of an exchange, one array element per session, all instants in epoch ms.

    ``day_start_ms`` and ``day_end_ms`` bound the whole trading day of a feed, extended hours
    included, and its night where that is kept. The night itself lies between ``night_start_ms`` and
    ``night_end_ms``, which are the same for a session without one. ``midnight_ms`` and
    ``next_midnight_ms`` bound the calendar day by the exchange's clock, which is ``roll_ms`` ahead
    of its zone's. ``anchor_ms`` is where intraday slots are counted from: midnight by the clock
    that shows at the open. Every trade date begins ``evening_ms`` before its midnight.
    """

    name: str
    zone: ZoneInfo
    roll_ms: int
    evening_ms: int
    night: Night
    day_ordinals: IntColumn
    open_ms: IntColumn
    close_ms: IntColumn
    night_start_ms: IntColumn
    night_end_ms: IntColumn
    day_start_ms: IntColumn
    day_end_ms: IntColumn
    midnight_ms: IntColumn
    next_midnight_ms: IntColumn
    anchor_ms: IntColumn

    @classmethod
    def of(
        cls,
        name: str,
        zone: str,
        sessions: Iterable[Session],
        hours: Sequence[Hours] = (),
        night: Night = Night.keep,
    ) -> Self:
        """Build a calendar from its sessions, sorted by day, without duplicates.

        ``hours`` are those of a feed; a session that none of them holds for trades in its regular
        hours only.
        """
        tz, roll_ms = ZoneInfo(zone), ROLLS_MS.get(name, 0)
        ordered = sorted(hours, key=lambda one: one.precedence)
        rows: list[tuple[int, ...]] = []
        for session in sessions:
            day, open_ms, close_ms = session
            opened = datetime.fromtimestamp((open_ms + roll_ms) / 1000, tz)
            anchor = open_ms - (opened.hour * 60 + opened.minute) * 60_000
            own = next((one for one in ordered if one.first <= day <= one.last), None)
            rows.append(
                (
                    day.toordinal(),
                    open_ms,
                    close_ms,
                    *_trading_day(session, own, tz, night),
                    _local_ms(day, time(), tz) - roll_ms,
                    _local_ms(day + timedelta(days=1), time(), tz) - roll_ms,
                    anchor,
                )
            )
        columns = np.array(rows, np.int64).reshape(len(rows), 10).T
        return cls(name, tz, roll_ms, EVENING_MS.get(name, 0), night, *columns)

    def __len__(self) -> int:
        return len(self.day_ordinals)

    def grid(self, timeframe: Timeframe) -> Grid:
        """All slots of the timeframe, extended hours included."""
        return _grid(self, timeframe, regular=False)

    def regular_grid(self, timeframe: Timeframe) -> Grid:
        """The slots that touch the regular session: the ones whose absence is a gap."""
        return _grid(self, timeframe, regular=True)

    def midnight(self, day: date) -> int:
        """Midnight at the start of a day by the exchange's clock, session or not, in epoch ms."""
        return _local_ms(day, time(), self.zone) - self.roll_ms

    def begins(self, day: date, timeframe: Timeframe) -> int:
        """Where a day begins for bars of a timeframe, session or not, in epoch ms.

        That is midnight, but for intraday bars the evening before: its night belongs to it.
        """
        return _begins(self.midnight(day), self.evening_ms, timeframe)

    def day_of(self, ts_ms: int) -> date:
        """Return the exchange's date at an instant."""
        return datetime.fromtimestamp((ts_ms + self.roll_ms) / 1000, self.zone).date()

    def trade_date(self, ts_ms: int) -> date:
        """Return the trade date of a bar by its start: of one at night, the date that follows."""
        return self.day_of(ts_ms + self.evening_ms)

    def session_of(self, ts_ms: IntColumn) -> IntColumn:
        """Index of the last session whose trade date has begun at each instant; -1 for none."""
        return np.searchsorted(self.midnight_ms, ts_ms + self.evening_ms, side="right") - 1

    def at_night(self, timeframe: Timeframe, ts_ms: IntColumn) -> NDArray[np.bool_]:
        """Whether each stamp of an intraday bar is one of the night, and of no slot of the day."""
        if not len(self):
            return np.zeros(len(ts_ms), bool)
        step, anchor = timeframe.length_ms, self.anchor_ms
        starts, ends = (
            anchor + (bound - anchor) // step * step
            for bound in (self.night_start_ms, self.night_end_ms)
        )
        sessions = self.session_of(ts_ms)
        within = (ts_ms >= starts[sessions]) & (ts_ms < ends[sessions])
        night: NDArray[np.bool_] = (sessions >= 0) & (starts < ends)[sessions] & within
        return night

    def drops(self, timeframe: Timeframe, ts_ms: IntColumn) -> NDArray[np.bool_]:
        """Whether each stamp is of a bar that nobody keeps: one of a night that is dropped."""
        if self.night is Night.keep or not timeframe.is_intraday:
            return np.zeros(len(ts_ms), bool)
        return self.at_night(timeframe, ts_ms)

    def canonical(self, timeframe: Timeframe, ts_ms: IntColumn) -> IntColumn:
        """Put a provider's stamps on the grid; what lies in no slot keeps its own stamp.

        Intraday stamps and those of pairs stay: they are exact, or wrong as a day of another window
        is. Any other d1, w1 or mn1 stamp names a day, by UTC when it is midnight UTC and by
        exchange time otherwise (midnight, the open and the close of a session all name it), and a
        week that a provider starts on Sunday is the one of the next Monday.
        """
        if timeframe.is_intraday or self.name in {ALWAYS_OPEN, FX}:
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

        For d1, w1 and mn1 that is midnight, by UTC, the exchange's clock or its zone, of any day,
        of a Sunday or Monday, or of the 1st.
        """
        if timeframe.is_intraday:
            slots, inside = self.grid(timeframe).floor(ts_ms)
            exact: NDArray[np.bool_] = inside & (slots == ts_ms)
            return exact
        return np.array([self._starts_period(timeframe, int(stamp)) for stamp in ts_ms], bool)

    def _starts_period(self, timeframe: Timeframe, ts_ms: int) -> bool:
        day = date.fromordinal(self._named_day(ts_ms))
        if ts_ms % DAY_MS != 0 and ts_ms not in {
            self.midnight(day),
            _local_ms(day, time(), self.zone),
        }:
            return False
        if timeframe is Timeframe.w1:
            return day.weekday() in {0, 6}
        return timeframe is Timeframe.d1 or day.day == 1

    def _named_day(self, ts_ms: int) -> int:
        if ts_ms % DAY_MS == 0:
            return datetime.fromtimestamp(ts_ms / 1000, UTC).toordinal()
        return self.day_of(ts_ms).toordinal()


def day_begins(name: str, day: date, timeframe: Timeframe) -> int:
    """Where a day of a calendar begins for bars of a timeframe, as `Calendar.begins` says."""
    midnight_ms = _local_ms(day, time(), ZoneInfo(ZONES.get(name, "UTC")))
    return _begins(midnight_ms - ROLLS_MS.get(name, 0), EVENING_MS.get(name, 0), timeframe)


def bar_begins(name: str, day: date, timeframe: Timeframe) -> int:
    """Where the first bar of a calendar begins that holds a day or some of it, as `day_begins`."""
    match timeframe:
        case Timeframe.w1:
            day -= timedelta(days=day.weekday())
        case Timeframe.mn1:
            day = day.replace(day=1)
    return day_begins(name, day, timeframe)


def trade_date(name: str, ts_ms: int) -> date:
    """Return the trade date of a bar of a calendar, as `Calendar.trade_date` does."""
    at_ms = ts_ms + EVENING_MS.get(name, 0) + ROLLS_MS.get(name, 0)
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(ZONES.get(name, "UTC"))).date()


def _begins(midnight_ms: int, evening_ms: int, timeframe: Timeframe) -> int:
    return midnight_ms - evening_ms if timeframe.is_intraday else midnight_ms


def _trading_day(
    session: Session, hours: Hours | None, zone: ZoneInfo, night: Night
) -> tuple[int, int, int, int]:
    """Where the night of a session starts and ends, then its trading day."""
    if hours is None:
        return session.open_ms, session.open_ms, session.open_ms, session.close_ms
    opens, closes = (_local_ms(session.day, at, zone) for at in (hours.opens, hours.closes))
    if hours.night_opens is None:
        return opens, opens, opens, closes
    falls = _local_ms(session.day - timedelta(days=1), hours.night_opens, zone)
    return falls, opens, falls if night is Night.keep else opens, closes


@lru_cache(maxsize=4096)
def _local_ms(day: date, at: time, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, at, zone).timestamp() * 1000)


@lru_cache(maxsize=64)
def _grid(calendar: Calendar, timeframe: Timeframe, *, regular: bool) -> Grid:
    if timeframe.is_intraday:
        step = timeframe.length_ms
        start, end = calendar.day_start_ms, calendar.day_end_ms
        begins = np.minimum(calendar.night_start_ms, start)
        if regular:
            start = np.maximum(start, calendar.open_ms)
            end = np.minimum(end, calendar.close_ms)
            begins = start
        traded = start < end
        start, end, begins = start[traded], end[traded], begins[traded]
        anchor = calendar.anchor_ms[traded]
        first, last = (start - anchor) // step, -((anchor - end) // step)
        lead = first - (begins - anchor) // step
        return Grid.of_blocks(
            anchor + first * step, np.full(len(anchor), step), last - first, lead * step
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
