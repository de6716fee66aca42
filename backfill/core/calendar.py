"""Exchange calendars as values: sessions, and the grid of slots of every timeframe on them."""

# Over 300 lines: sessions, trade dates and hours are one subject, and each of its parts needs the
# others.

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, Self
from zoneinfo import ZoneInfo

from backfill.core.column import column, last_not_after
from backfill.core.dataclass import dataclass
from backfill.core.grid import Grid
from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS, Timeframe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from backfill.core.bars import IntColumn

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


_EPOCH: Final = date(1970, 1, 1).toordinal()
_A_DAY: Final = timedelta(days=1)
_MIDNIGHT: Final = time()


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
    that trades at night only opens and closes its day at once: its night is its session. Of several
    that hold for a session, those set by hand go before the others, later first days before earlier
    ones.
    """

    first: date
    last: date
    opens: time
    closes: time
    night_opens: time | None = None
    manual: bool = False

    @property
    def has_night_alone(self) -> bool:
        """Whether all of the trading day is its night."""
        return self.night_opens is not None and self.opens == self.closes

    @property
    def precedence(self) -> tuple[bool, int, date]:
        """What hours are sorted by, so that the first that hold for a session are its own."""
        return not self.manual, -self.first.toordinal(), self.last


class Days(NamedTuple):
    """The columns of a calendar as lists: an element per session, all instants in epoch ms."""

    day_ordinals: list[int]
    open_ms: list[int]
    close_ms: list[int]
    night_start_ms: list[int]
    night_end_ms: list[int]
    day_start_ms: list[int]
    day_end_ms: list[int]
    midnight_ms: list[int]
    next_midnight_ms: list[int]
    anchor_ms: list[int]


@dataclass(frozen=True, eq=False)
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
    lists: Days

    day_ordinals = column("day_ordinals")
    open_ms = column("open_ms")
    close_ms = column("close_ms")
    night_start_ms = column("night_start_ms")
    night_end_ms = column("night_end_ms")
    day_start_ms = column("day_start_ms")
    day_end_ms = column("day_end_ms")
    midnight_ms = column("midnight_ms")
    next_midnight_ms = column("next_midnight_ms")
    anchor_ms = column("anchor_ms")

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
        hours only. Of a feed that has nothing but the night that is the session, whatever becomes
        of ``night`` beside a day.
        """
        tz, roll_ms = ZoneInfo(zone), ROLLS_MS.get(name, 0)
        ordered = sorted(hours, key=lambda one: one.precedence)
        rows: list[tuple[int, ...]] = []
        following = 0
        for session in sessions:
            day, opens_ms, closes_ms = session
            ordinal = day.toordinal()
            midnight = following if rows and rows[-1][0] == ordinal - 1 else _midnight(day, tz)
            following = _midnight(day + _A_DAY, tz)
            clock = _Clock(day, midnight, tz, is_even=following - midnight == DAY_MS)
            own = next((one for one in ordered if one.first <= day <= one.last), None)
            trading = _trading_day(session, own, clock, night)
            anchor = clock.midnight_by(opens_ms + roll_ms) - roll_ms
            if own is not None and own.has_night_alone:
                *_, opens_ms, closes_ms = trading
            rows.append(
                (
                    ordinal,
                    opens_ms,
                    closes_ms,
                    *trading,
                    midnight - roll_ms,
                    following - roll_ms,
                    anchor,
                )
            )
        columns = map(list, zip(*rows, strict=True)) if rows else ([] for _ in Days._fields)
        return cls(name, tz, roll_ms, EVENING_MS.get(name, 0), night, Days(*columns))

    def __len__(self) -> int:
        return len(self.lists.day_ordinals)

    def grid(self, timeframe: Timeframe) -> Grid:
        """All slots of the timeframe, extended hours included."""
        return _grid(self, timeframe, regular=False)

    def regular_grid(self, timeframe: Timeframe) -> Grid:
        """The slots that touch the regular session: the ones whose absence is a gap."""
        return _grid(self, timeframe, regular=True)

    def midnight(self, day: date) -> int:
        """Midnight at the start of a day by the exchange's clock, session or not, in epoch ms."""
        return _midnight(day, self.zone) - self.roll_ms

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
        return last_not_after(self.midnight_ms, ts_ms + self.evening_ms)

    def at_night(self, timeframe: Timeframe, ts_ms: IntColumn) -> NDArray[np.bool_]:
        """Whether each stamp of an intraday bar is one of the night, and of no slot of the day."""
        import numpy as np

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
        import numpy as np

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
        import numpy as np

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
        import numpy as np

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


def every_day(first: date, last: date) -> Iterator[Session]:
    """Yield the sessions of `ALWAYS_OPEN` from one day to another, both inclusive.

    >>> [session] = every_day(date(2024, 2, 29), date(2024, 2, 29))
    >>> session.open_ms, session.close_ms - session.open_ms
    (1709164800000, 86400000)
    """
    for ordinal in range(first.toordinal(), last.toordinal() + 1):
        open_ms = (ordinal - _EPOCH) * DAY_MS
        yield Session(date.fromordinal(ordinal), open_ms, open_ms + DAY_MS)


def day_begins(name: str, day: date, timeframe: Timeframe) -> int:
    """Where a day of a calendar begins for bars of a timeframe, as `Calendar.begins` says."""
    midnight_ms = _midnight(day, ZoneInfo(ZONES.get(name, "UTC")))
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


class _Clock(NamedTuple):
    """The exchange's clock on one day: it ``is_even`` unless it is set forward or back."""

    day: date
    midnight_ms: int
    zone: ZoneInfo
    is_even: bool

    def at(self, hour: time) -> int:
        """Return when it shows a time, in epoch ms."""
        if self.is_even:
            return self.midnight_ms + _clock_ms(hour)
        return _local_ms(self.day, hour, self.zone)

    def midnight_by(self, ts_ms: int) -> int:
        """Return when midnight was by what it shows at an instant of the day, in epoch ms."""
        if self.is_even and 0 <= ts_ms - self.midnight_ms < DAY_MS:
            return self.midnight_ms
        shown = datetime.fromtimestamp(ts_ms / 1000, self.zone)
        return ts_ms - (shown.hour * 60 + shown.minute) * MINUTE_MS


def _clock_ms(hour: time) -> int:
    return ((hour.hour * 60 + hour.minute) * 60 + hour.second) * 1000


def _trading_day(
    session: Session, hours: Hours | None, clock: _Clock, night: Night
) -> tuple[int, int, int, int]:
    """Where the night of a session starts and ends, then its trading day."""
    if hours is None:
        return session.open_ms, session.open_ms, session.open_ms, session.close_ms
    opens, closes = clock.at(hours.opens), clock.at(hours.closes)
    if hours.night_opens is None:
        return opens, opens, opens, closes
    falls = _local_ms(session.day - _A_DAY, hours.night_opens, clock.zone)
    if hours.has_night_alone:
        return falls, falls, falls, opens
    return falls, opens, falls if night is Night.keep else opens, closes


def _midnight(day: date, zone: ZoneInfo) -> int:
    return _local_ms(day, _MIDNIGHT, zone)


def _local_ms(day: date, at: time, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, at, zone).timestamp() * 1000)


@lru_cache(maxsize=64)
def _grid(calendar: Calendar, timeframe: Timeframe, *, regular: bool) -> Grid:
    if timeframe.is_intraday:
        return _intraday_grid(calendar.lists, timeframe.length_ms, regular=regular)
    if timeframe is Timeframe.d1:
        starts, ends = calendar.lists.midnight_ms, calendar.lists.next_midnight_ms
    else:
        periods = _periods(calendar, timeframe)
        starts = [calendar.midnight(first) for first, _ in periods]
        ends = [calendar.midnight(end) for _, end in periods]
    steps = [end - start for start, end in zip(starts, ends, strict=True)]
    return Grid.of_blocks(starts, steps, [1] * len(starts))


def _intraday_grid(days: Days, step: int, *, regular: bool) -> Grid:
    starts, counts, leads = [], [], []
    for _, opened, closed, night, _, start, end, _, _, anchor in zip(*days, strict=True):
        begins = min(night, start)
        if regular:
            begins = start = max(start, opened)  # noqa: PLW2901  # the session's, not the day's
            end = min(end, closed)  # noqa: PLW2901
        if start >= end:
            continue
        first, last = (start - anchor) // step, -((anchor - end) // step)
        starts.append(anchor + first * step)
        counts.append(last - first)
        leads.append((first - (begins - anchor) // step) * step)
    return Grid.of_blocks(starts, [step] * len(starts), counts, leads)


def _periods(calendar: Calendar, timeframe: Timeframe) -> list[tuple[date, date]]:
    """First day and the day after the last of every week or month with a session in it."""
    days = list(map(date.fromordinal, calendar.lists.day_ordinals))
    if timeframe is Timeframe.w1:
        mondays = sorted({day - timedelta(days=day.weekday()) for day in days})
        return [(monday, monday + timedelta(days=7)) for monday in mondays]
    months = sorted({(day.year, day.month) for day in days})
    return [
        (date(year, month, 1), date(year + month // 12, month % 12 + 1, 1))
        for year, month in months
    ]
