"""Dates, instants and lengths as users write them."""

from datetime import UTC, date, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.calendar import Calendar
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound, parse_bound, parse_clock, parse_instant, parse_since
from backfill.errors import UsageError

NEW_YORK: Final = Calendar.of("XNYS", "America/New_York", [])
TODAY: Final = date(2024, 11, 12)
ALWAYS: Final = Calendar.of("24/7", "UTC", [])


def bound(text: str) -> Bound:
    """An end of a range as it is read today."""
    return parse_bound(text, TODAY)


def at(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")


@pytest.mark.parametrize(
    ("day", "start", "end"),
    [
        ("2024-07-03", "2024-07-03T04:00Z", "2024-07-04T04:00Z"),
        ("2024-01-03", "2024-01-03T05:00Z", "2024-01-04T05:00Z"),
        ("2024-03-10", "2024-03-10T05:00Z", "2024-03-11T04:00Z"),  # 23 hours
        ("2024-11-03", "2024-11-03T04:00Z", "2024-11-04T05:00Z"),  # 25 hours
        ("2024-02-29", "2024-02-29T05:00Z", "2024-03-01T05:00Z"),
        ("2024-12-31", "2024-12-31T05:00Z", "2025-01-01T05:00Z"),
    ],
)
def test_a_date_names_a_whole_day_of_the_exchange_at_either_end(
    day: str, start: str, end: str
) -> None:
    read = bound(day)
    assert (
        at(read.start_ms(NEW_YORK, Timeframe.d1)),
        at(read.end_ms(NEW_YORK, Timeframe.d1)),
    ) == (start, end)


def test_of_bars_within_a_day_the_evening_before_is_a_part_of_it() -> None:
    # Both ends are at 20:00 in New York, also after either change of its clock.
    for day, start, end in (
        ("2024-07-03", "2024-07-03T00:00Z", "2024-07-04T00:00Z"),
        ("2024-03-11", "2024-03-11T00:00Z", "2024-03-12T00:00Z"),
        ("2024-11-04", "2024-11-04T01:00Z", "2024-11-05T01:00Z"),
    ):
        read = bound(day)
        assert at(read.start_ms(NEW_YORK, Timeframe.m1)) == start
        assert at(read.end_ms(NEW_YORK, Timeframe.h4)) == end


def test_a_date_names_a_whole_utc_day_for_crypto() -> None:
    read = bound("2024-07-03")
    assert at(read.start_ms(ALWAYS, Timeframe.m1)) == "2024-07-03T00:00Z"
    assert at(read.end_ms(ALWAYS, Timeframe.m1)) == "2024-07-04T00:00Z"


@pytest.mark.parametrize(
    "text", ["2024-07-03T13:30:00Z", "2024-07-03T09:30-04:00", "2024-07-03 15:30:00+02:00"]
)
def test_an_instant_is_itself_at_either_end_whatever_the_calendar(text: str) -> None:
    read = bound(text)
    for calendar in (NEW_YORK, ALWAYS):
        assert at(read.start_ms(calendar, Timeframe.d1)) == "2024-07-03T13:30Z"
        assert at(read.end_ms(calendar, Timeframe.d1)) == "2024-07-03T13:30Z"


def test_the_last_day_there_is_ends_somewhere() -> None:
    assert at(bound("9999-12-31").end_ms(NEW_YORK, Timeframe.d1)) == "9999-12-31T05:00Z"


@pytest.mark.parametrize(
    "text",
    ["2024-07-03T13:30", "2024-07-03T13:30:00", "2024-07-03 13", "20240703T133000", "2024W27T13"],
)
def test_a_timestamp_needs_a_time_zone(text: str) -> None:
    for parse in (bound, parse_instant):
        with pytest.raises(UsageError, match="has no time zone"):
            parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "today",
        "2024-13-01",
        "2024-02-30",
        "2023-02-29",
        "03/07/2024",
        "1720000000",
        "1720000000000",
        "2024-07-03T25:00Z",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        "10000-01-01",
        "2024-07-03T13:30:00Z; DROP TABLE ohlc_bars",
    ],
)
def test_what_is_neither_a_date_nor_a_timestamp_is_a_usage_error(text: str) -> None:
    for parse in (bound, parse_instant):
        with pytest.raises(UsageError, match="2024-07-03T13:30:00Z"):
            parse(text)


def test_as_an_instant_a_date_is_its_midnight_utc() -> None:
    assert parse_instant("2024-07-03") == datetime(2024, 7, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "last", "after"),
    [
        ("2024-07-03", "2024-07-03", False),
        ("2024-07-04", "2024-07-03", True),
        ("2024-07-03T13:30Z", "2024-07-03T13:29Z", True),
        ("2024-07-03T13:30Z", "2024-07-03T13:30Z", False),
        ("2024-07-03T13:30Z", "2024-07-03", False),
        ("2024-07-03", "2024-07-02T23:59Z", True),
    ],
)
def test_a_range_that_ends_before_it_begins_is_noticed(
    first: str, last: str, *, after: bool
) -> None:
    assert bound(first).is_after(bound(last)) == after


@given(
    st.text(max_size=30) | st.from_regex(r"\d{4}-?\d\d-?\d\d([T ]\d\d:?\d\d(Z|[+-]\d\d:?\d\d)?)?")
)
def test_whatever_is_written_is_read_or_refused_with_a_usage_error(text: str) -> None:
    try:
        read = bound(text)
    except UsageError:
        return
    assert isinstance(read, Bound)
    assert read.start_ms(NEW_YORK, Timeframe.d1) <= read.end_ms(NEW_YORK, Timeframe.d1)


@pytest.mark.parametrize("text", ["30d", " 4 w", "2y"])
def test_an_end_of_a_range_may_be_a_length_back_from_today(text: str) -> None:
    assert bound(text).at == parse_since(text, TODAY)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2020-01-01", date(2020, 1, 1)),
        (" 2020-01-01 ", date(2020, 1, 1)),
        ("0d", date(2024, 3, 1)),
        ("1d", date(2024, 2, 29)),
        ("2w", date(2024, 2, 16)),
        ("1y", date(2023, 3, 2)),
        ("2 y", date(2022, 3, 2)),
        ("1mo", date(2024, 1, 30)),
    ],
)
def test_how_deep_is_a_date_or_a_length_back_from_today(text: str, day: date) -> None:
    assert parse_since(text, date(2024, 3, 1)) == day


@pytest.mark.parametrize(
    "text",
    ["", "2", "y", "-2y", "2.5y", "2Y", "2m", "2h", "2y6mo", "9" * 30 + "y", "3000y", "2020-01"],
)
def test_what_is_neither_a_date_nor_a_length_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="2y, 6mo, 30d"):
        parse_since(text, date(2024, 3, 1))


@pytest.mark.parametrize("text", ["1600-01-01", "1899-12-31", "0001-01-01T00:00:00Z"])
def test_what_is_before_all_calendars_is_a_usage_error(text: str) -> None:
    for parse in (bound, parse_clock):
        with pytest.raises(UsageError, match="before 1900-01-01"):
            parse(text)


@pytest.mark.parametrize("text", ["1600-01-01", "1000y", "130y"])
def test_a_depth_before_all_calendars_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="before 1900-01-01"):
        parse_since(text, date(2026, 1, 1))


def test_a_clock_has_an_end_and_a_range_has_none() -> None:
    assert bound("9999-12-31").at == date(9999, 12, 31)
    with pytest.raises(UsageError, match="after 2199-12-31"):
        parse_clock("2200-01-01")
    assert parse_clock("2199-12-31").year == 2199
