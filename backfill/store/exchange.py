"""The sessions of a calendar: what exchange_calendars says of an exchange, our own of pairs.

The library can't build some calendars at all, or not for every year, and with pandas 3.1 it loses
the special Saturdays that it lists itself. None of that may end a run, or take from the table what
is there.
"""

import warnings
from collections.abc import Iterator
from dataclasses import field
from datetime import date, datetime, timedelta
from typing import Any, Final, TypeAlias

from backfill.core.calendar import ALWAYS_OPEN, FX, every_day
from backfill.core.dataclass import dataclass
from backfill.core.fx import fx_sessions
from backfill.store.times import to_time

Row: TypeAlias = tuple[date, datetime, datetime]
"""A session: its day, and when it opens and closes."""

# No library is loaded for what no exchange keeps.
_OURS: Final = {ALWAYS_OPEN: every_day, FX: fx_sessions}
_RETRIES: Final = tuple(timedelta(days=days) for days in (3650, 1825, 730, 365, 60))
"""How long before its end a calendar is tried that can't be built from where it should begin."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The sessions that the library lists from one day to another, both inclusive.

    ``reach`` is None where it lists nothing, ``rows`` are its sessions. ``lost`` are days that it
    names as special sessions and doesn't list; ``problem`` says in one line what is less than was
    asked for, if anything is.
    """

    reach: tuple[date, date] | None = None
    rows: list[Row] = field(default_factory=list)
    lost: list[date] = field(default_factory=list)
    problem: str | None = None


def list_sessions(name: str, first: date, last: date) -> Listing:
    """Return an exchange's sessions from one day to another, or as far as the library reaches."""
    if (own := _OURS.get(name)) is not None:
        sessions = own(first, last)
        return Listing(
            (first, last),
            [(day, to_time(opens), to_time(closes)) for day, opens, closes in sessions],
        )
    problems: list[str] = []
    for start, end in _ranges(name, first, last):
        built = _built(name, start, end)
        if isinstance(built, str):
            problems = problems or [f"exchange_calendars can't build {name}: {built}"]
            continue
        if problems:
            problems.append(f"it lists the sessions from {start} to {end} only")
        lost = _lost(built)
        if lost:
            named = ", ".join(str(day) for day in lost[-3:])
            problems.append(
                f"{name} lacks {len(lost)} special session(s) that it names itself, such as {named}"
            )
        schedule = built.schedule
        return Listing(
            reach=(start, end),
            rows=[
                (day.date(), opens_at.to_pydatetime(), closes_at.to_pydatetime())
                for day, opens_at, closes_at in zip(
                    schedule.index, schedule["open"], schedule["close"], strict=True
                )
            ],
            lost=lost,
            problem="; ".join(problems) or None,
        )
    return Listing(problem="; ".join(problems))


def _ranges(name: str, first: date, last: date) -> Iterator[tuple[date, date]]:
    """The ranges to try, each only if the one before it can't be built."""
    yield first, last
    usual = _built(name, None, None)
    if not isinstance(usual, str):
        lower, upper = usual.bound_min(), usual.bound_max()
        first = first if lower is None else max(first, lower.date())
        last = last if upper is None else min(last, upper.date())
        if first < last:
            yield first, last
    for length in _RETRIES:
        if last - length > first:
            yield last - length, last


def _built(name: str, first: date | None, last: date | None) -> Any:
    """Return a calendar of the library, or in one line why there is none."""
    import exchange_calendars
    from exchange_calendars.errors import CalendarError

    with warnings.catch_warnings():
        # exchange_calendars 4.13 reads Series.values, which pandas 3.1 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return exchange_calendars.get_calendar(name, start=first, end=last)
        except (
            *(CalendarError, NotImplementedError, AttributeError),
            *(ValueError, TypeError, LookupError, ArithmeticError),
        ) as error:
            return " ".join(str(error).split())[:200] or type(error).__name__


def _lost(calendar: Any) -> list[date]:
    """Return the days off that the library makes sessions of, and that its schedule lacks."""
    sessions = {day.date() for day in calendar.schedule.index}
    closed = {str(day)[:10] for day in calendar.adhoc_holidays}
    if not sessions:
        return []
    first, last = min(sessions), max(sessions)
    found = []
    for start, end, weekmask in getattr(calendar, "special_weekmasks", None) or ():
        day = first if start is None else max(start.date(), first)
        while day <= min(last if end is None else end.date(), last):
            at = day.weekday()
            special = weekmask[at] == "1" and calendar.weekmask[at] == "0"
            if special and day not in sessions and str(day) not in closed:
                found.append(day)
            day += timedelta(days=1)
    return found
