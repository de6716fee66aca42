"""A few days that everyone knows, by the clock that hangs in the exchange."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from backfill.core.calendar import Calendar
from backfill.core.grid import Grid
from backfill.core.timeframe import Timeframe
from tests.calendars import calendar

NEW_YORK = ZoneInfo("America/New_York")


def hours(exchange: Calendar, grid: Grid, day: date) -> list[str]:
    """Start of every slot of a day, as the exchange's clock shows it."""
    next_day = date.fromordinal(day.toordinal() + 1)
    starts = grid.slots((exchange.midnight(day), exchange.midnight(next_day)))
    return [f"{datetime.fromtimestamp(at / 1000, exchange.zone):%H:%M}" for at in starts.tolist()]


def regular(name: str, timeframe: str, day: date) -> list[str]:
    exchange = calendar(name)
    return hours(exchange, exchange.regular_grid(Timeframe(timeframe)), day)


def whole(name: str, timeframe: str, day: date) -> list[str]:
    exchange = calendar(name)
    return hours(exchange, exchange.grid(Timeframe(timeframe)), day)


def test_the_hour_that_begins_at_nine_touches_the_open_at_half_past() -> None:
    expected = ["09:00", "10:00", "11:00", "12:00", "13:00", "14:00", "15:00"]
    assert regular("XNYS", "h1", date(2024, 7, 2)) == expected


def test_the_half_day_before_independence_day_ends_at_one() -> None:
    assert regular("XNYS", "h1", date(2024, 7, 3)) == ["09:00", "10:00", "11:00", "12:00"]
    assert regular("XNYS", "m30", date(2024, 7, 3))[-1] == "12:30"
    assert regular("XNYS", "h4", date(2024, 7, 3)) == ["08:00", "12:00"]


@pytest.mark.parametrize("day", [date(2024, 7, 4), date(2023, 11, 23), date(2024, 7, 6)])
def test_a_holiday_and_a_saturday_have_no_slots(day: date) -> None:
    assert [whole("XNYS", timeframe, day) for timeframe in ("m1", "h1", "d1")] == [[], [], []]


@pytest.mark.parametrize(
    "day", [date(2024, 3, 8), date(2024, 3, 11), date(2024, 7, 3), date(2024, 11, 4)]
)
def test_new_york_trades_from_four_to_eight_by_its_own_clock_in_winter_and_summer(
    day: date,
) -> None:
    assert whole("XNYS", "h4", day) == ["04:00", "08:00", "12:00", "16:00"]
    m15 = whole("XNYS", "m15", day)
    assert (m15[0], m15[-1], len(m15)) == ("04:00", "19:45", 64)


def test_london_trades_in_its_regular_session_only() -> None:
    assert whole("XLON", "h1", date(2024, 7, 2)) == [f"{hour:02}:00" for hour in range(8, 17)]
    assert whole("XLON", "h1", date(2024, 12, 24))[-1] == "12:00"


def test_a_crypto_day_has_six_h4_bars_from_midnight_utc() -> None:
    expected = ["00:00", "04:00", "08:00", "12:00", "16:00", "20:00"]
    assert whole("24/7", "h4", date(2024, 3, 10)) == expected


def test_the_week_of_a_clock_change_is_an_hour_shorter_or_longer() -> None:
    exchange = calendar("XNYS")
    weeks = exchange.grid(Timeframe.w1)
    lengths = {
        monday: (weeks.end_of(at) - weeks.start_of(at)) // 3_600_000
        for monday in (date(2024, 3, 4), date(2024, 3, 11), date(2024, 10, 28))
        for at in [weeks.index_from(exchange.midnight(monday))]
    }
    assert list(lengths.values()) == [167, 168, 169]


def test_a_timeframe_without_a_fixed_length_says_so() -> None:
    with pytest.raises(ValueError, match="d1 has no fixed length"):
        _ = Timeframe.d1.length_ms
