"""When the simulated markets trade, and the grids on which their bars start."""

import warnings
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import IntColumn
from backfill.core.timeframe import HOUR_MS, MINUTE_MS

FIRST_DAY: Final = date(2003, 9, 10)
"""The first day of which the provider has data."""

MONDAY: Final = 0
SUNDAY: Final = 6

_FRIDAY: Final = 5
_FX_AHEAD: Final = timedelta(hours=7)
_FX_CLOSED: Final = frozenset({"12-25", "01-01"})
_EPOCH: Final = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, eq=False, slots=True)
class Zone:
    """Midnights of a clock: element ``i`` is that of day ``first_ordinal + i``, in epoch ms.

    The clock is ``ahead_ms`` ahead of that of its time zone.
    """

    tz: ZoneInfo
    first_ordinal: int
    midnight_ms: IntColumn
    ahead_ms: int = 0

    def ordinals(self, ts_ms: IntColumn) -> IntColumn:
        """Return the proleptic ordinal of the local day of each instant."""
        days: IntColumn = np.searchsorted(self.midnight_ms, ts_ms, side="right") - 1
        return days + self.first_ordinal

    def midnights(self, ordinals: IntColumn) -> IntColumn:
        """Return the local midnight that begins each day."""
        return self.midnight_ms[ordinals - self.first_ordinal]

    def midnight(self, day: date) -> int:
        """Return the local midnight that begins any day, also one outside of the table."""
        return round(datetime.combine(day, time(), self.tz).timestamp() * 1000) - self.ahead_ms

    def next_midnight(self, ts_ms: int) -> int:
        """Return the first local midnight after an instant."""
        return self.midnight(self.day_of(ts_ms) + timedelta(days=1))

    def day_of(self, ts_ms: int) -> date:
        """Return the local date at an instant."""
        return datetime.fromtimestamp((ts_ms + self.ahead_ms) / 1000, self.tz).date()

    def clamp(self, ts_ms: int) -> int:
        """Bring an instant into the years that the market knows, a month off either edge."""
        return int(min(max(ts_ms, self.midnight_ms[31]), self.midnight_ms[-32]))


@dataclass(frozen=True, eq=False, slots=True)
class Sessions:
    """The trading days of a market, one array element each.

    A session trades from ``first_minute`` of its local day on: ``before`` minutes of pre-market,
    ``regular`` minutes of regular session, ``after`` minutes of post-market.
    """

    zone: Zone
    ordinals: IntColumn
    midnight_ms: IntColumn
    regular: IntColumn
    first_minute: int
    before: int
    after: int

    def close_ms(self, index: int) -> int:
        """Return the end of the regular session."""
        minutes = self.first_minute + self.before + int(self.regular[index])
        return int(self.midnight_ms[index]) + minutes * MINUTE_MS

    def is_regular(self, ts_ms: IntColumn) -> NDArray[np.bool_]:
        """Whether each instant lies in the regular session of its day."""
        rows = np.searchsorted(self.midnight_ms, ts_ms, side="right") - 1
        minute = (ts_ms - self.midnight_ms[rows]) // MINUTE_MS - self.first_minute - self.before
        regular: NDArray[np.bool_] = (rows >= 0) & (minute >= 0) & (minute < self.regular[rows])
        return regular

    def is_within(self, ts_ms: IntColumn, first_hour: int, end_hour: int) -> NDArray[np.bool_]:
        """Whether each instant lies in a session from one hour of the clock to another.

        Where the first hour is the later one that is at night, the evening before included.
        """
        if first_hour > end_hour:
            return ~self.is_within(ts_ms, end_hour, first_hour)
        rows = np.searchsorted(self.midnight_ms, ts_ms, side="right") - 1
        since_ms = ts_ms - self.midnight_ms[rows]
        within: NDArray[np.bool_] = (
            (rows >= 0) & (since_ms >= first_hour * HOUR_MS) & (since_ms < end_hour * HOUR_MS)
        )
        return within


@dataclass(frozen=True, eq=False, slots=True)
class Grid:
    """Where the bars of one length start: every ``length_ms`` of a local day, or a calendar unit.

    ``week_starts`` is the weekday on which weeks begin, Monday being 0.
    """

    zone: Zone
    unit: Literal["intraday", "day", "week", "month"]
    length_ms: int = 0
    week_starts: int = MONDAY

    def floor(self, ts_ms: IntColumn) -> IntColumn:
        """Return the start of the bar in which each instant lies."""
        days = self.zone.ordinals(ts_ms)
        if self.unit == "intraday":
            # From the nearer midnight, as clocks change between the two of a Sunday.
            midnight, following = self.zone.midnights(days), self.zone.midnights(days + 1)
            anchor = np.where(ts_ms - midnight < following - ts_ms, midnight, following)
            starts: IntColumn = anchor + (ts_ms - anchor) // self.length_ms * self.length_ms
            return starts
        return self.zone.midnights(self._first_days(days))

    def ends(self, starts_ms: IntColumn) -> IntColumn:
        """Return the end of the bars with these starts."""
        if self.unit == "intraday":
            return starts_ms + self.length_ms
        days = self.zone.ordinals(starts_ms)
        if self.unit == "month":
            return self.zone.midnights(self._first_days(self._first_days(days) + 31))
        return self.zone.midnights(days + (7 if self.unit == "week" else 1))

    def snap(self, first_ms: int, last_ms: int) -> tuple[int, int]:
        """Return the half-open range of the whole bars that two inclusive instants touch."""
        starts = self.floor(np.array([first_ms, last_ms]))
        return int(starts[0]), int(self.ends(starts[1:])[0])

    def _first_days(self, days: IntColumn) -> IntColumn:
        if self.unit == "week":
            return days - (days - 1 - self.week_starts) % 7
        if self.unit == "month":
            months = (days - _EPOCH).astype("M8[D]").astype("M8[M]")
            return months.astype("M8[D]").astype(np.int64) + _EPOCH
        return days


@cache
def sessions_of(market: str) -> Sessions:
    """Return the trading days of a market, to the end of the year after next.

    It is one of ``stocks``, ``crypto`` and ``fx``. Days of ``fx`` begin at 17:00 in New York, on
    the evening before.
    """
    last_day = date(datetime.now(UTC).year + 2, 12, 31)
    if market in {"crypto", "fx"}:
        zone = _zone("UTC", last_day)
        ordinals = np.arange(FIRST_DAY.toordinal(), last_day.toordinal() + 1)
        if market == "fx":
            zone = _zone("America/New_York", last_day, _FX_AHEAD)
            dates = (date.fromordinal(int(ordinal)) for ordinal in ordinals)
            ordinals = ordinals[[_trades_fx(one) for one in dates]]
        return Sessions(
            zone, ordinals, zone.midnights(ordinals), np.full(len(ordinals), 1440), 0, 0, 0
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # exchange_calendars 4.13, pandas 3.1
        schedule = exchange_calendars.get_calendar(
            "XNYS", start=FIRST_DAY.isoformat(), end=last_day.isoformat()
        ).schedule
    zone = _zone("America/New_York", last_day)
    ordinals = np.array([day.toordinal() for day in schedule.index], np.int64)
    minutes = [
        round((closed - opened).total_seconds() / 60)
        for opened, closed in zip(schedule["open"], schedule["close"], strict=True)
    ]
    return Sessions(
        zone, ordinals, zone.midnights(ordinals), np.array(minutes, np.int64), 240, 330, 240
    )


def _trades_fx(day: date) -> bool:
    return day.isoweekday() <= _FRIDAY and f"{day:%m-%d}" not in _FX_CLOSED


def _zone(name: str, last_day: date, ahead: timedelta = timedelta()) -> Zone:
    tz = ZoneInfo(name)
    first, last = FIRST_DAY - timedelta(days=62), last_day + timedelta(days=62)
    midnights = [
        round((datetime.combine(date.fromordinal(day), time(), tz) - ahead).timestamp() * 1000)
        for day in range(first.toordinal(), last.toordinal() + 1)
    ]
    ahead_ms = ahead // timedelta(milliseconds=1)
    return Zone(tz, first.toordinal(), np.array(midnights, np.int64), ahead_ms)
