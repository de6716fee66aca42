"""Dates and depths as users write them."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

from backfill.core.dataclass import dataclass
from backfill.core.timeframe import Timeframe
from backfill.errors import UsageError

if TYPE_CHECKING:
    from backfill.core.calendar import Calendar

EARLIEST_DAY: Final = date(1900, 1, 1)
"""The first day that a range, a depth or a clock may name: no calendar is kept from before."""
LATEST_DAY: Final = date(2199, 12, 31)
"""The last day that a clock may show."""

_BOUNDS: Final = (
    "a date (2024-07-03), a timestamp (2024-07-03T13:30:00Z) or a length back (1y, 6mo, 30d)"
)
_LENGTH: Final = re.compile(r"(\d+)\s*(d|w|mo|y)")
_LAST_DAY: Final = date.max - timedelta(days=1)
_DAYS: Final = {"d": 1, "w": 7, "mo": 31, "y": 365}


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range: a date names a session, an aware datetime an instant.

    Raises
    ------
    UsageError
        If it lies before all that calendars know. A range may end as late as it likes.
    """

    at: date | datetime

    def __post_init__(self) -> None:
        """See that it can be meant."""
        _refuse_before_all(self.day, str(self.at))

    @property
    def day(self) -> date:
        """The day that it lies on, by UTC for an instant."""
        return self.at.date() if isinstance(self.at, datetime) else self.at

    def is_after(self, last: "Bound") -> bool:
        """Whether no range can begin with this bound and end with that one."""
        if isinstance(self.at, datetime) and isinstance(last.at, datetime):
            return self.at > last.at
        return self.day > last.day

    def start_ms(self, calendar: "Calendar", timeframe: Timeframe) -> int:
        """Where a range of bars begins that begins with it, in epoch ms."""
        if isinstance(self.at, datetime):
            return _ms(self.at)
        return calendar.begins(self.at, timeframe)

    def end_ms(self, calendar: "Calendar", timeframe: Timeframe) -> int:
        """Where a range of bars ends that ends with it, in epoch ms: a session is in it whole."""
        if isinstance(self.at, datetime):
            return _ms(self.at)
        return calendar.begins(min(self.at, _LAST_DAY) + timedelta(days=1), timeframe)


def parse_bound(text: str, today: date) -> Bound:
    """Read ``2024-07-03``, ``2024-07-03T13:30:00Z``, or a length back from today such as ``1y``.

    Raises
    ------
    UsageError
        If it is none of them, or a timestamp without a time zone.
    """
    if _LENGTH.fullmatch(text.strip()):
        return Bound(parse_since(text, today))
    try:
        return Bound(date.fromisoformat(text))
    except ValueError:
        return Bound(_instant(text, _BOUNDS))


def parse_day(text: str) -> date:
    """Read ``2024-07-03``.

    Raises
    ------
    UsageError
        If it is no date.
    """
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"{text!r} is not a date such as 2024-07-03") from None


def parse_instant(text: str) -> datetime:
    """Read a timestamp with a time zone; a date is its midnight UTC.

    Raises
    ------
    UsageError
        If it is neither.
    """
    return _instant(text, "a date (2024-07-03) or a timestamp (2024-07-03T13:30:00Z)")


def _instant(text: str, forms: str) -> datetime:
    """Read a timestamp, or a date as its midnight; ``forms`` is what may stand there."""
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not {forms}") from None
    raise UsageError(f"{text!r} has no time zone; write 2024-07-03T13:30:00Z")


def parse_clock(text: str) -> datetime:
    """Read an instant that a clock may show, as `parse_instant` does.

    Raises
    ------
    UsageError
        If it is none, or in a year that no calendar is kept for.
    """
    return checked_clock(parse_instant(text))


def checked_clock(at: datetime) -> datetime:
    """Return what a clock shows, if a calendar is kept for its year.

    Raises
    ------
    UsageError
        If none is.
    """
    _refuse_before_all(at.date(), str(at))
    if at.date() > LATEST_DAY:
        raise UsageError(f"'{at}' is after {LATEST_DAY}, where the calendars end")
    return at


def parse_since(text: str, today: date) -> date:
    """Read how deep to go: a date, or a length back from today such as ``2y``, ``6mo``, ``30d``.

    Raises
    ------
    UsageError
        If it is neither, or before all that calendars know.
    """
    match = _LENGTH.fullmatch(text.strip())
    try:
        if match:
            day = today - timedelta(days=int(match[1]) * _DAYS[match[2]])
        else:
            day = date.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is not a date (2020-01-01) or a length (2y, 6mo, 30d)"
        ) from None
    _refuse_before_all(day, text)
    return day


def _refuse_before_all(day: date, text: str) -> None:
    if day < EARLIEST_DAY:
        raise UsageError(f"{text!r} is before {EARLIEST_DAY}, where the calendars begin")


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
