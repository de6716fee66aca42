"""When bars become due, and what a series should hold, on days that everyone knows."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from backfill.core.coverage import Span
from backfill.core.plan import Limits, frontier_ms, wanted_span
from backfill.core.terms import Settling
from backfill.core.timeframe import Timeframe
from tests.calendars import calendar

XNYS = calendar("XNYS")
MASSIVE = Settling(60_000, 3_600_000)
FREE = Settling(60_000, 3_600_000, end_of_day=True)


def new_york(text: str) -> int:
    at = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York"))
    return round(at.timestamp() * 1000)


def wanted(
    timeframe: Timeframe, now: str, settling: Settling = MASSIVE, limits: Limits | None = None
) -> Span | None:
    frontier = frontier_ms(XNYS, timeframe, settling, new_york(now))
    start = new_york("2024-01-02")
    return wanted_span(XNYS.grid(timeframe), start, None, frontier, limits or Limits())


def last_wanted(timeframe: Timeframe, now: str, settling: Settling = MASSIVE) -> str:
    """Start of the last wanted bar, as New York's clock shows it."""
    span = wanted(timeframe, now, settling)
    assert span
    starts = XNYS.grid(timeframe).slots(span)
    return f"{datetime.fromtimestamp(starts[-1] / 1000, XNYS.zone):%a %d %H:%M}"


@pytest.mark.parametrize(
    ("timeframe", "now", "last"),
    [
        ("m15", "2024-07-02 10:15:59", "Tue 02 09:45"),
        ("m15", "2024-07-02 10:16:00", "Tue 02 10:00"),
        ("d1", "2024-07-03 00:59:59", "Mon 01 00:00"),
        ("d1", "2024-07-03 01:00:00", "Tue 02 00:00"),
        ("d1", "2024-07-07 12:00:00", "Fri 05 00:00"),
        ("w1", "2024-07-07 23:59:59", "Mon 24 00:00"),
        ("w1", "2024-07-08 01:00:00", "Mon 01 00:00"),
        ("mn1", "2024-07-01 00:59:59", "Wed 01 00:00"),
        ("mn1", "2024-07-01 01:00:00", "Sat 01 00:00"),
        ("m1", "2024-03-10 12:00:00", "Fri 08 19:59"),
        ("h1", "2024-11-03 12:00:00", "Fri 01 19:00"),
        ("w1", "2024-03-11 01:00:00", "Mon 04 00:00"),
    ],
)
def test_a_bar_is_due_once_it_has_ended_and_settled(timeframe: str, now: str, last: str) -> None:
    assert last_wanted(Timeframe(timeframe), now) == last


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2024-07-02 17:00:00", "Mon 01 19:45"),
        ("2024-07-03 00:59:59", "Mon 01 19:45"),
        ("2024-07-03 01:00:00", "Tue 02 19:45"),
        ("2024-07-05 12:00:00", "Wed 03 19:45"),
        ("2024-07-07 12:00:00", "Fri 05 19:45"),
    ],
)
def test_on_an_end_of_day_plan_a_quarter_hour_is_due_with_its_day(now: str, last: str) -> None:
    assert last_wanted(Timeframe.m15, now, FREE) == last


@pytest.mark.parametrize(
    ("timeframe", "first"),
    [("d1", "2024-07-03"), ("w1", "2024-07-01"), ("mn1", "2024-07-01"), ("h1", "2024-07-03 04:00")],
)
def test_a_listing_in_midweek_widens_to_the_bar_that_holds_it(timeframe: str, first: str) -> None:
    limits = Limits(listed_ms=new_york("2024-07-03"))
    span = wanted(Timeframe(timeframe), "2024-09-30 12:00", limits=limits)
    assert span is not None
    assert span.start_ms == new_york(first)


@pytest.mark.parametrize(
    ("timeframe", "first"),
    [("d1", "2024-07-03"), ("w1", "2024-07-08"), ("mn1", "2024-08-01"), ("h1", "2024-07-03 04:00")],
)
def test_a_window_that_opens_in_midweek_narrows_to_the_bars_inside_it(
    timeframe: str, first: str
) -> None:
    limits = Limits(listed_ms=new_york("2024-07-03"), window_ms=new_york("2024-07-03"))
    span = wanted(Timeframe(timeframe), "2024-09-30 12:00", limits=limits)
    assert span is not None
    assert span.start_ms == new_york(first)


def test_a_delisting_in_midweek_keeps_the_whole_week() -> None:
    limits = Limits(delisted_ms=new_york("2024-07-03"))
    span = wanted(Timeframe.w1, "2024-09-30 12:00", limits=limits)
    assert span is not None
    assert span.end_ms == new_york("2024-07-08")


@pytest.mark.parametrize(
    "limits",
    [
        Limits(listed_ms=new_york("2024-10-01")),
        Limits(delisted_ms=new_york("2023-06-01")),
        Limits(window_ms=new_york("2024-10-01")),
    ],
    ids=["listed later", "delisted before", "window later"],
)
def test_nothing_is_wanted_outside_life_and_window(limits: Limits) -> None:
    assert wanted(Timeframe.d1, "2024-09-30 12:00", limits=limits) is None


def test_a_crypto_week_is_due_on_any_monday_in_utc() -> None:
    crypto = calendar("24/7")
    weeks = crypto.grid(Timeframe.w1)
    monday = round(datetime(2024, 3, 11, 1, tzinfo=UTC).timestamp() * 1000)
    start = crypto.midnight(date(2024, 1, 1))
    due = [
        wanted_span(weeks, start, None, frontier_ms(crypto, Timeframe.w1, MASSIVE, now), Limits())
        for now in (monday - 1, monday)
    ]
    assert due == [
        Span(start, crypto.midnight(date(2024, 3, 4))),
        Span(start, crypto.midnight(date(2024, 3, 11))),
    ]
