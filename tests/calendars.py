"""Real exchange calendars for the tests, built once from exchange_calendars; that of FX by hand."""

import warnings
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

import exchange_calendars

from backfill.core.calendar import Calendar, Hours, Session

FIRST: Final = date(2012, 1, 1)
LAST: Final = date(2025, 12, 31)
NIGHT: Final = "XNYS, with its night"
"""New York as its tapes plan to report it, a market of its own in these tests."""
ZONES: Final = {
    "XNYS": "America/New_York",
    "24/7": "UTC",
    "XLON": "Europe/London",
    NIGHT: "America/New_York",
    "FX": "America/New_York",
}
MIDNIGHT_MIN: Final = {"FX": -7 * 60}
"""Where a day begins that doesn't at its zone's midnight: minutes from there, by the wall clock."""
EXTENDED: Final = Hours(date.min, date.max, time(4), time(20))
"""What the US tapes report: the hours of every XNYS calendar here, unless a test has others."""
HOURS: Final = {"XNYS": (EXTENDED,), NIGHT: (EXTENDED._replace(night_opens=time(21)),)}


@cache
def sessions(name: str, first: date = FIRST, last: date = LAST) -> tuple[Session, ...]:
    """Sessions of an exchange from ``first`` to ``last``, both inclusive."""
    if (first, last) != (FIRST, LAST):
        return tuple(session for session in sessions(name) if first <= session.day <= last)
    if name == "FX":
        return tuple(_rolls())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # exchange_calendars 4.13 on pandas 3.1
        exchange = name.partition(",")[0]
        schedule = exchange_calendars.get_calendar(
            exchange, start=str(FIRST), end=str(LAST)
        ).schedule
    return tuple(
        Session(day.date(), round(opened.timestamp() * 1000), round(closed.timestamp() * 1000))
        for day, opened, closed in zip(
            schedule.index, schedule["open"], schedule["close"], strict=True
        )
    )


def _rolls() -> Iterator[Session]:
    """From the roll of one evening to that of the next, Christmas and New Year's Day left out."""
    day, zone = FIRST, ZoneInfo(ZONES["FX"])
    while day <= LAST:
        opened, closed = (
            datetime(on.year, on.month, on.day, 17, tzinfo=zone)
            for on in (day - timedelta(days=1), day)
        )
        off = day.strftime("%a") in {"Sat", "Sun"} or day.strftime("%m-%d") in {"12-25", "01-01"}
        if not off:
            yield Session(day, round(opened.timestamp() * 1000), round(closed.timestamp() * 1000))
        day += timedelta(days=1)


@cache
def calendar(name: str, first: date = FIRST, last: date = LAST) -> Calendar:
    """Calendar of an exchange; a short one where a test counts its every slot."""
    exchange, hours = name.partition(",")[0], HOURS.get(name, ())
    return Calendar.of(exchange, ZONES[name], sessions(name, first, last), hours)
