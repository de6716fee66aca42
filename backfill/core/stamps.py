"""When bars begin, as files tell it: epoch numbers, days, and times with or without a zone."""

# Over 300 lines: one reader of stamps: each of their forms, its unit and its clock.

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import IntEnum
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from backfill.core.bars import IntColumn
from backfill.core.cells import BadRow, quoted
from backfill.core.checks import EARLIEST_MS, LATEST_MS
from backfill.core.timeframe import DAY_MS, HOUR_MS, MINUTE_MS

PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""The units that epoch numbers are counted in."""

_LONGEST: Final = 40
_QUARTER_MS: Final = 15 * MINUTE_MS
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"\d{9,19}(?:\.0+)?")
_TEXT: Final = re.compile(
    r"(\d{4})([-./]?)(\d\d)\2(\d\d)"
    r"(?:[T ](\d\d):?(\d\d)(?::?(\d\d)(?:\.(\d{1,9}))?)?(?: ?(Z|UTC|[+-]\d\d(?::?\d\d)?))?)?"
)
NO_ZONE: Final = "a time without a zone: name it, --timezone America/New_York or UTC"
"""What is said of a stamp that could be any of 24 instants."""

_FORMS: Final = "2024-07-03, 2024-07-03 09:30:00, 2024-07-03T13:30:00Z or an epoch number"
_DATED: Final = re.compile(
    r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d"
)
"""A day and a time, which is a number of ms as well: all of them lie in 1976."""
_DAYS_OF_MONTH: Final = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


class Told(IntEnum):
    """What a stamp tells."""

    instant = 0
    """An instant, by itself or in the zone that the user named."""
    day = 1
    """A day without a time; as an instant it is midnight UTC, or in the zone that was named."""
    midnight = 2
    """A midnight without a zone: a day, for bars of a day or longer."""
    midnight_elsewhere = 3
    """An instant that was written as midnight, by another clock than UTC's."""


@dataclass(frozen=True, eq=False, slots=True)
class Stamps:
    """Stamps in epoch ms, and what each of them tells, as `Told`."""

    ts_ms: IntColumn
    told: NDArray[np.int8]


class StampReader:
    """Reads the stamps of one file, all of one unit where they are numbers.

    Times without an offset are in ``zone``; without one they are refused, but for midnights, which
    name days.
    """

    def __init__(self, zone: ZoneInfo | None) -> None:
        self._zone = zone
        self._unit: str | None = None
        self._offsets: dict[int, int | None] = {}

    def of_text(self, cells: Sequence[str]) -> Stamps:
        """Return what cells tell.

        Raises
        ------
        BadRow
            If one can't be read, or names no one instant.
        """
        if cells and _NUMBER.fullmatch(cells[0]):
            return self.of_numbers(_integers(cells))
        every = _column(cells)
        ts_ms = np.zeros(len(cells), np.int64)
        told = np.zeros(len(cells), np.int8)
        rows = np.arange(len(cells))
        while len(rows):
            chars, first = every[rows], cells[rows[0]]
            layout = _TEXT.fullmatch(first)
            if layout is None:
                raise BadRow(int(rows[0]), f"{quoted(first)} is no time: {_FORMS}")
            alike = _alike(chars, layout)
            mine = rows[alike]
            ts_ms[mine], told[mine] = self._of_layout(chars[alike], layout, mine, cells)
            rows = rows[~alike]
        return Stamps(ts_ms, told)

    def of_numbers(self, values: IntColumn, unit: str | None = None) -> Stamps:
        """Return what epoch numbers tell, of a unit that is told by their size unless it is named.

        Raises
        ------
        BadRow
            If one lies before 1973 or after 2286 in every unit, is of another unit than those
            before it, or no whole millisecond.
        """
        if len(values) and unit is None:
            self._unit = unit = self._unit or _unit_of(int(values[0]))
        if unit is None:
            return Stamps(values, np.zeros(len(values), np.int8))
        per_second = PER_SECOND[unit]
        if per_second >= 1000:
            ts_ms, rest = np.divmod(values, per_second // 1000)
            _refuse(rest != 0, lambda row: f"{values[row]} is no whole millisecond, in {unit}")
        else:
            ts_ms = values * 1000 if (np.abs(values) < 2**50).all() else values
        _refuse(
            (ts_ms < EARLIEST_MS) | (ts_ms > LATEST_MS),
            lambda row: f"{values[row]} is no time after 1973-03-03 in {unit}",
        )
        return Stamps(ts_ms, np.zeros(len(values), np.int8))

    def of_instants(self, values: IntColumn, unit: str, zone: str) -> Stamps:
        """Return what epoch numbers tell that were written by the clock of a zone.

        Raises
        ------
        BadRow
            As `of_numbers` does, and if there is no such zone.
        """
        ts_ms = self.of_numbers(values, unit).ts_ms
        local_ms = ts_ms.copy()
        quarters = np.flatnonzero(ts_ms % _QUARTER_MS == 0)
        local_ms[quarters] += _offsets_ms(ts_ms[quarters], _zone(zone))
        return Stamps(ts_ms, _told(local_ms, ts_ms))

    def of_days(self, ordinals: IntColumn) -> Stamps:
        """Return what days tell, counted from 1970-01-01."""
        return self._local(ordinals * DAY_MS, np.ones(len(ordinals), bool))

    def of_local(self, local_ms: IntColumn) -> Stamps:
        """Return what times without a zone tell, in ms from 1970-01-01 on the clock that they show.

        Raises
        ------
        BadRow
            If there is no telling which instant one is.
        """
        return self._local(local_ms, np.zeros(len(local_ms), bool))

    def _of_layout(
        self,
        chars: NDArray[np.uint8],
        layout: re.Match[str],
        rows: IntColumn,
        cells: Sequence[str],
    ) -> tuple[IntColumn, NDArray[np.int8]]:
        """Read texts that are all laid out as one is; ``rows`` are where they stand."""
        try:
            local_ms = _local_ms(chars, layout)
            if layout[9] is not None:
                instant_ms = _within(local_ms - _offset_ms(chars, layout))
                return instant_ms, _told(local_ms, instant_ms)
            stamps = self._local(local_ms, np.full(len(rows), layout[5] is None))
        except BadRow as bad:
            row = int(rows[bad.row])
            raise BadRow(row, f"{quoted(cells[row])}: {bad}") from None
        return stamps.ts_ms, stamps.told

    def _local(self, local_ms: IntColumn, is_day: NDArray[np.bool_]) -> Stamps:
        """Return times without an offset as instants, in the zone or as the days that they name."""
        _within(local_ms)
        if self._zone is None:
            told = np.where(is_day, Told.day, Told.midnight).astype(np.int8)
            _refuse(~is_day & (local_ms % DAY_MS != 0), lambda _: NO_ZONE)
            return Stamps(local_ms, told)
        quarters, which = np.unique(local_ms // _QUARTER_MS, return_inverse=True)
        known = [self._offset(one) for one in quarters.tolist()]
        offsets = np.array([one or 0 for one in known], np.int64)
        _refuse(
            np.array([one is None for one in known], bool)[which],
            lambda _: (
                f"{self._zone} has that time twice or not at all, as clocks change: "
                "write times in UTC"
            ),
        )
        ts_ms = local_ms - offsets[which]
        return Stamps(ts_ms, np.where(is_day, Told.day, _told(local_ms, ts_ms)).astype(np.int8))

    def _offset(self, quarter: int) -> int | None:
        """The zone's offset in a quarter of an hour by its own clock, in ms; None if not one."""
        if quarter not in self._offsets:
            naive = (_EPOCH + timedelta(milliseconds=quarter * _QUARTER_MS)).replace(tzinfo=None)
            both = {naive.replace(tzinfo=self._zone, fold=fold).utcoffset() for fold in (0, 1)}
            offset = both.pop() or timedelta()
            self._offsets[quarter] = None if both else offset // timedelta(milliseconds=1)
        return self._offsets[quarter]


def _told(local_ms: IntColumn, ts_ms: IntColumn) -> NDArray[np.int8]:
    """Return what instants tell, by the clock that they were written by."""
    elsewhere = (local_ms % DAY_MS == 0) & (ts_ms % DAY_MS != 0)
    return np.where(elsewhere, Told.midnight_elsewhere, Told.instant).astype(np.int8)


def _zone(name: str) -> tzinfo:
    """Return the zone of a name, or of an offset such as +03:00."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    try:
        return datetime.strptime(name, "%z").tzinfo or UTC
    except ValueError:
        raise BadRow(0, f"{name!r} is no time zone") from None


def _offsets_ms(ts_ms: IntColumn, zone: tzinfo) -> IntColumn:
    """Return how far the clock of a zone is ahead of UTC's at some instants."""
    each, which = np.unique(ts_ms, return_inverse=True)
    clocks = (datetime.fromtimestamp(ms / 1000, zone).utcoffset() for ms in each.tolist())
    offsets = [0 if one is None else one // timedelta(milliseconds=1) for one in clocks]
    return np.array(offsets, np.int64)[which]


def _refuse(wrong: NDArray[np.bool_], why: Callable[[int], str]) -> None:
    """Refuse the first row that is wrong, if one is."""
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise BadRow(row, why(row))


def _within(ts_ms: IntColumn) -> IntColumn:
    _refuse((ts_ms < EARLIEST_MS) | (ts_ms > LATEST_MS), lambda _: "no time from 1973-03-04 on")
    return ts_ms


def _unit_of(value: int) -> str:
    """Return the only unit in which a number is a time from 1973 to 2286."""
    if _DATED.fullmatch(str(value)):
        raise BadRow(0, f"{value} may be a day and a time as well as ms since 1970: {_FORMS}")
    for unit, per_second in PER_SECOND.items():
        if EARLIEST_MS <= value * 1000 // per_second <= LATEST_MS:
            return unit
    raise BadRow(0, f"{value} is no time from 1973 to 2286 in any unit")


def _integers(cells: Sequence[str]) -> IntColumn:
    values = np.zeros(len(cells), np.int64)
    for row, cell in enumerate(cells):
        if not _NUMBER.fullmatch(cell) or (value := int(cell.partition(".")[0])) >= 2**63:
            raise BadRow(row, f"{quoted(cell)} is no epoch number, as those before it are")
        values[row] = value
    return values


def _column(cells: Sequence[str]) -> NDArray[np.uint8]:
    """Return texts as rows of characters, filled up with zeros."""
    if max(map(len, cells), default=0) > _LONGEST or not "".join(cells).isascii():
        strange = (len(cell) > _LONGEST or not cell.isascii() for cell in cells)
        row = list(strange).index(True)
        raise BadRow(row, f"{quoted(cells[row])} is no time: {_FORMS}")
    texts = np.array(cells, np.bytes_)
    return texts.view(np.uint8).reshape(len(cells), texts.dtype.itemsize)


def _alike(chars: NDArray[np.uint8], layout: re.Match[str]) -> NDArray[np.bool_]:
    """Mark the rows that are laid out as the first is: digits where it has digits, else the same.

    An offset may have the other sign.
    """
    is_digit = (chars >= ord("0")) & (chars <= ord("9"))
    same: NDArray[np.bool_] = chars == chars[0]
    fits = np.where(is_digit[0], is_digit, same)
    if layout[9] is not None and layout[9][0] in "+-":
        at = layout.start(9)
        fits[:, at] = (chars[:, at] == ord("+")) | (chars[:, at] == ord("-"))
    every: NDArray[np.bool_] = np.logical_and.reduce(fits, axis=1)
    return every


def _digits(chars: NDArray[np.uint8], start: int, end: int) -> IntColumn:
    """Read the number between two places of every row."""
    powers = 10 ** np.arange(end - start - 1, -1, -1, dtype=np.int64)
    read: IntColumn = (chars[:, start:end].astype(np.int64) - ord("0")) @ powers
    return read


def _local_ms(chars: NDArray[np.uint8], layout: re.Match[str]) -> IntColumn:
    """Read days and times by the clock that they show."""

    def field(number: int) -> IntColumn:
        if layout[number] is None:
            return np.zeros(len(chars), np.int64)
        return _digits(chars, *layout.span(number))

    year, month, day = field(1), field(3), field(4)
    hour, minute, second = field(5), field(6), field(7)
    leaps = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    lengths = _DAYS_OF_MONTH[np.where(month <= 12, month, 0)] - np.where(leaps | (month != 2), 0, 1)
    _refuse((day < 1) | (day > lengths), lambda _: "there is no such day")
    _refuse((hour > 23) | (minute > 59) | (second > 59), lambda _: "there is no such time")
    days = _days(year, month, day)
    ms: IntColumn = days * DAY_MS + hour * HOUR_MS + minute * MINUTE_MS + second * 1000
    if layout[8] is None:
        return ms
    digits = len(layout[8])
    fraction = field(8) * 10 ** max(3 - digits, 0)
    whole, rest = np.divmod(fraction, 10 ** max(digits - 3, 0))
    _refuse(rest != 0, lambda _: "it is no whole millisecond")
    exact: IntColumn = ms + whole
    return exact


def _days(year: IntColumn, month: IntColumn, day: IntColumn) -> IntColumn:
    """Count days from 1970-01-01."""
    months = (year - 1970) * 12 + month - 1
    firsts: IntColumn = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    days: IntColumn = firsts + day - 1
    return days


def _offset_ms(chars: NDArray[np.uint8], layout: re.Match[str]) -> IntColumn:
    """Read the offsets from UTC, such as -05:00, -0500 and -05."""
    start, end = layout.span(9)
    if layout[9][0] not in "+-":
        return np.zeros(len(chars), np.int64)
    hours = _digits(chars, start + 1, start + 3)
    minutes = np.zeros(len(chars), np.int64)
    if end > start + 3:
        minutes = _digits(chars, end - 2, end)
    _refuse((hours > 14) | (minutes > 59), lambda _: "there is no such offset")
    return (hours * HOUR_MS + minutes * MINUTE_MS) * np.where(chars[:, start] == ord("-"), -1, 1)
