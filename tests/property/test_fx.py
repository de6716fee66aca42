"""The week of currencies: from Sunday 17:00 to Friday 17:00 in New York, less two days a year."""

from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from backfill.core.calendar import Calendar, day_begins, trade_date
from backfill.core.fx import fx_sessions
from backfill.core.timeframe import Timeframe
from tests.calendars import FIRST, LAST, sessions

NEW_YORK = ZoneInfo("America/New_York")
WEEK = Calendar.of("FX", "America/New_York", fx_sessions(FIRST, LAST))
INSTANTS = st.integers(1_330_000_000, 1_766_000_000)


def closed(at: datetime) -> bool:
    """Whether nobody trades, by the clock on the wall alone."""
    evening = at.hour >= 17
    date_of = (at.replace(tzinfo=None) + timedelta(days=evening)).date()
    return date_of.strftime("%a") in {"Sat", "Sun"} or f"{date_of:%m-%d}" in {"12-25", "01-01"}


def test_the_sessions_are_those_that_the_clock_on_the_wall_tells() -> None:
    assert tuple(fx_sessions(FIRST, LAST)) == sessions("FX")


@given(INSTANTS)
def test_a_second_has_a_slot_of_every_length_unless_nobody_trades(at_s: int) -> None:
    at = datetime.fromtimestamp(at_s, NEW_YORK)
    for timeframe in (one for one in Timeframe if one.is_intraday or one is Timeframe.d1):
        grid = WEEK.grid(timeframe)
        span = grid.widen((at_s * 1000, at_s * 1000 + 1))
        assert bool(grid.count(span)) is not closed(at)


@given(INSTANTS)
def test_the_evening_is_of_the_trade_date_that_follows_it(at_s: int) -> None:
    at = datetime.fromtimestamp(at_s, NEW_YORK)
    day = (at.replace(tzinfo=None) + timedelta(days=at.hour >= 17)).date()
    assert WEEK.day_of(at_s * 1000) == WEEK.trade_date(at_s * 1000) == day
    assert trade_date("FX", at_s * 1000) == day
    begins_ms = day_begins("FX", day, Timeframe.d1)
    assert begins_ms == WEEK.midnight(day) <= at_s * 1000 < WEEK.midnight(day + timedelta(days=1))


@given(st.sampled_from([one for one in Timeframe if one.is_intraday]), st.dates(FIRST, LAST))
def test_days_are_whole_numbers_of_bars_and_weeks_of_days(timeframe: Timeframe, day: date) -> None:
    span = WEEK.midnight(day), WEEK.midnight(day + timedelta(days=1))
    bars, days = WEEK.grid(timeframe), WEEK.grid(Timeframe.d1)
    assert bars.widen(span) == span
    assert bars.count(span) == days.count(span) * 24 * 3_600_000 // timeframe.length_ms
    monday = day - timedelta(days=day.weekday())
    week = WEEK.midnight(monday), WEEK.midnight(monday + timedelta(days=7))
    assert days.widen(week) == week
    assert WEEK.grid(Timeframe.w1).count(week) == (days.count(week) > 0)


def test_no_session_overlaps_another_and_each_is_a_day_long() -> None:
    listed = sessions("FX")
    assert all(one.close_ms <= other.open_ms for one, other in pairwise(listed))
    assert {one.close_ms - one.open_ms for one in listed} == {24 * 3_600_000}
