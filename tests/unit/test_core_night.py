"""The night: whose it is, where it is closed, and what its trade date decides."""

from dataclasses import replace
from datetime import date, datetime, time, timedelta

import numpy as np
import pytest

from backfill.core.bars import Bars
from backfill.core.calendar import Calendar, Hours, Night
from backfill.core.checks import check_page
from backfill.core.coverage import Span, Spans
from backfill.core.plan import frontier_ms, wanted_span
from backfill.core.planning import by_name
from backfill.core.series import Alias, Series, Symbol
from backfill.core.splits import basis_ends
from backfill.core.target import life_of
from backfill.core.terms import Quota, Settling, Terms
from backfill.core.timeframe import Timeframe
from tests.calendars import EXTENDED, HOURS, NIGHT, calendar, sessions

BY_NIGHT = calendar(NIGHT)
DROPPED = Calendar.of("XNYS", "America/New_York", sessions(NIGHT), HOURS[NIGHT], Night.drop)
INTRADAY = [timeframe for timeframe in Timeframe if timeframe.is_intraday]
SYMBOL = Symbol(1, "AAPL", "stock", "XNYS")
TERMS = Terms(
    "end of day",
    Quota(),
    Settling(intraday_ms=60_000, daily_ms=3_600_000, end_of_day=True),
    depth=None,
    earliest=date(2003, 9, 10),
)


def new_york(text: str) -> int:
    """Return an instant by the clock in New York, in epoch ms."""
    return int(datetime.fromisoformat(text).replace(tzinfo=BY_NIGHT.zone).timestamp() * 1000)


def clock(ts_ms: int) -> str:
    return f"{datetime.fromtimestamp(ts_ms / 1000, BY_NIGHT.zone):%a %d %H:%M}"


def trading(exchange: Calendar, timeframe: Timeframe, first: str, until: str) -> list[str]:
    """The starts of the slots between two instants, as the exchange's clock shows them."""
    slots = exchange.grid(timeframe).slots((new_york(first), new_york(until)))
    return [clock(at) for at in slots.tolist()]


def with_hours(*hours: Hours, night: Night = Night.keep) -> Calendar:
    return Calendar.of("XNYS", "America/New_York", sessions(NIGHT), hours, night)


def test_a_week_runs_from_sunday_at_nine_to_friday_at_eight_with_a_pause_of_an_hour() -> None:
    hours = trading(BY_NIGHT, Timeframe.h1, "2024-07-14 00:00", "2024-07-21 00:00")
    open_hours = 5 * 23
    assert (hours[0], hours[-1], len(hours)) == ("Sun 14 21:00", "Fri 19 19:00", open_hours)
    assert not [hour for hour in hours if hour.endswith(" 20:00")]


@pytest.mark.parametrize("sunday", ["2024-03-10", "2024-11-03"])
def test_four_hours_count_from_midnight_on_the_sunday_of_a_clock_change_too(sunday: str) -> None:
    day = datetime.fromisoformat(sunday)
    until = f"{day + timedelta(days=2):%Y-%m-%d} 00:00"
    found = trading(BY_NIGHT, Timeframe.h4, f"{sunday} 00:00", until)
    assert [hour[-5:] for hour in found] == [
        *("20:00", "00:00", "04:00", "08:00", "12:00", "16:00"),
        "20:00",
    ]


@pytest.mark.parametrize("timeframe", INTRADAY)
def test_no_bar_holds_both_sides_of_the_pause(timeframe: Timeframe) -> None:
    # Three years, with six changes of the clock: every bar lies between a 20:00 and the next.
    grid = BY_NIGHT.grid(timeframe)
    starts = grid.slots((new_york("2022-01-01 00:00"), new_york("2025-01-01 00:00")))
    lasts = starts + timeframe.length_ms - 1
    assert np.array_equal(BY_NIGHT.session_of(starts), BY_NIGHT.session_of(lasts))
    assert (np.diff(starts) >= timeframe.length_ms).all()


def test_a_night_before_a_holiday_is_closed_and_one_after_it_is_open() -> None:
    # Thursday the 4th of July is a holiday, and so is Monday the 2nd of September.
    thursday = trading(BY_NIGHT, Timeframe.h1, "2024-07-03 20:00", "2024-07-05 00:00")
    assert thursday == ["Thu 04 21:00", "Thu 04 22:00", "Thu 04 23:00"]
    labour_day = trading(BY_NIGHT, Timeframe.h1, "2024-08-30 20:00", "2024-09-03 00:00")
    assert labour_day == ["Mon 02 21:00", "Mon 02 22:00", "Mon 02 23:00"]


def test_before_its_date_a_night_is_off_the_grid() -> None:
    opened = EXTENDED._replace(first=date(2024, 7, 16), night_opens=time(21))
    exchange = with_hours(EXTENDED, opened)
    found = trading(exchange, Timeframe.h1, "2024-07-14 20:00", "2024-07-16 04:00")
    assert [hour for hour in found if not "04:00" <= hour[-5:] < "20:00"] == [
        *("Mon 15 21:00", "Mon 15 22:00", "Mon 15 23:00"),
        *("Tue 16 00:00", "Tue 16 01:00", "Tue 16 02:00", "Tue 16 03:00"),
    ]
    assert found[0] == "Mon 15 04:00"


def test_hours_set_by_hand_open_and_close_a_single_night() -> None:
    tuesday, wednesday = date(2024, 7, 16), date(2024, 7, 17)
    night = EXTENDED._replace(night_opens=time(21))
    closed = with_hours(night, EXTENDED._replace(first=tuesday, last=tuesday, manual=True))
    found = trading(closed, Timeframe.h4, "2024-07-15 20:00", "2024-07-17 00:00")
    assert [hour[4:] for hour in found] == [
        "16 04:00",
        "16 08:00",
        "16 12:00",
        "16 16:00",
        "16 20:00",
    ]
    # The later first day goes before the others only among rows of one kind.
    later = night._replace(first=wednesday)
    opened = with_hours(later, EXTENDED._replace(manual=True), night._replace(last=tuesday))
    assert not trading(opened, Timeframe.h4, "2024-07-15 20:00", "2024-07-16 04:00")


@pytest.mark.parametrize("timeframe", INTRADAY)
def test_the_night_of_a_feed_that_has_nothing_else_is_its_session_kept_or_dropped(
    timeframe: Timeframe,
) -> None:
    boats = with_hours(Hours(date.min, date.max, time(4), time(4), time(20)))
    found = trading(boats, Timeframe.h1, "2024-07-15 12:00", "2024-07-16 12:00")
    assert (found[0], found[-1], len(found)) == ("Mon 15 20:00", "Tue 16 03:00", 8)
    slots, own = boats.grid(timeframe), boats.regular_grid(timeframe)
    assert (slots.starts.tolist(), slots.counts.tolist()) == (
        own.starts.tolist(),
        own.counts.tolist(),
    )
    dropped = with_hours(Hours(date.min, date.max, time(4), time(4), time(20)), night=Night.drop)
    assert dropped.grid(timeframe).starts.tolist() == own.starts.tolist()
    assert not dropped.drops(timeframe, own.starts).any()
    assert len(boats.grid(Timeframe.d1)) == len(boats)


@pytest.mark.parametrize("timeframe", INTRADAY)
def test_a_night_is_no_part_of_what_can_be_a_gap(timeframe: Timeframe) -> None:
    by_day = calendar("XNYS").regular_grid(timeframe)
    by_night = BY_NIGHT.regular_grid(timeframe)
    assert np.array_equal(by_day.starts, by_night.starts)
    assert np.array_equal(by_day.counts, by_night.counts)
    assert not BY_NIGHT.at_night(timeframe, by_night.starts).any()


def test_night_slots_are_told_from_those_of_the_day() -> None:
    found = BY_NIGHT.grid(Timeframe.h1).slots(
        (new_york("2024-07-15 00:00"), new_york("2024-07-16 00:00"))
    )
    night = [clock(at) for at in found[BY_NIGHT.at_night(Timeframe.h1, found)].tolist()]
    assert [hour[-5:] for hour in night] == [
        *("00:00", "01:00", "02:00", "03:00"),
        *("21:00", "22:00", "23:00"),
    ]


@pytest.mark.parametrize("timeframe", INTRADAY)
def test_a_listing_on_tuesday_begins_on_monday_night_and_ends_before_the_night_after_the_last_day(
    timeframe: Timeframe,
) -> None:
    tuesday = date(2024, 7, 16)
    series = Series(replace(SYMBOL, listed_on=tuesday, delisted_on=tuesday), timeframe)
    now = new_york("2024-08-01 00:00")
    wanted = wanted_span(
        BY_NIGHT.grid(timeframe), 0, None, now, life_of(series, BY_NIGHT, TERMS, now)
    )
    assert wanted is not None
    first = "Mon 15 20:00" if timeframe is Timeframe.h4 else "Mon 15 21:00"
    assert (clock(wanted.start_ms), clock(wanted.end_ms)) == (first, "Tue 16 20:00")


def test_on_an_end_of_day_plan_a_night_is_final_with_the_day_that_follows_it() -> None:
    settling = TERMS.settling
    for now, final in (
        ("2024-07-16 00:59", "Fri 12 20:00"),
        ("2024-07-16 01:00", "Mon 15 20:00"),
        ("2024-07-17 00:59", "Mon 15 20:00"),
        ("2024-07-17 01:00", "Tue 16 20:00"),
    ):
        found = frontier_ms(BY_NIGHT, Timeframe.m1, settling, new_york(now))
        assert clock(found) == final


def test_a_new_name_holds_from_the_night_before_its_first_day() -> None:
    wednesday = date(2024, 7, 17)
    symbol = replace(SYMBOL, aliases=(Alias("WAS", date(2020, 1, 1), wednesday),))
    asked = Spans.of((new_york("2024-07-15 21:00"), new_york("2024-07-17 20:00")))
    newer, older = by_name(Series(symbol, Timeframe.m1), BY_NIGHT, asked)
    change = new_york("2024-07-16 20:00")
    assert (newer.hull, older.hull) == (
        Span(change, new_york("2024-07-17 20:00")),
        Span(new_york("2024-07-15 21:00"), change),
    )
    names = [symbol.on(BY_NIGHT.trade_date(at)).ticker for at in (change - 1, change + 3_600_000)]
    assert names == ["WAS", "AAPL"]
    days = by_name(Series(symbol, Timeframe.d1), BY_NIGHT, asked)
    assert days[1].hull == Span(new_york("2024-07-15 21:00"), new_york("2024-07-17 00:00"))


def test_a_split_changes_the_basis_from_the_night_before_its_day_on() -> None:
    ends = {
        timeframe: clock(basis_ends(timeframe, date(2024, 7, 17), "XNYS"))
        for timeframe in (Timeframe.m1, Timeframe.h4, Timeframe.d1)
    }
    assert list(ends.values()) == ["Tue 16 20:00", "Tue 16 20:00", "Wed 17 00:00"]


@pytest.mark.parametrize("timeframe", INTRADAY)
def test_a_night_that_is_dropped_is_no_part_of_the_grid_and_is_told_from_strays(
    timeframe: Timeframe,
) -> None:
    by_day = calendar("XNYS").grid(timeframe)
    assert np.array_equal(DROPPED.grid(timeframe).starts, by_day.starts)
    assert np.array_equal(DROPPED.grid(timeframe).counts, by_day.counts)
    by_night = BY_NIGHT.grid(timeframe)
    slots = by_night.starts_of(np.arange(len(by_night), dtype=np.int64))
    _, of_day = by_day.floor(slots)
    assert np.array_equal(DROPPED.at_night(timeframe, slots), ~of_day)
    closed = ["2024-07-03 21:00", "2024-07-13 12:00", "2024-07-15 20:59", "2024-07-19 21:00"]
    hourly = timeframe not in {Timeframe.h4, Timeframe.h1}
    strays = np.array([new_york(at) for at in closed if hourly or not at.endswith("59")])
    assert not DROPPED.at_night(timeframe, strays).any()


def test_bars_of_a_dropped_night_are_counted_good_or_bad_and_the_page_reaches_as_far_back() -> None:
    hours = ["21:00", "22:00", "23:00"], ["03:00", "04:00", "10:00"]
    stamps = [new_york(f"2024-07-{15 + day} {at}") for day in (0, 1) for at in hours[day]]
    sound = (10.0, 11.0, 9.0, 10.5, 100.0, None, None)
    prices = [sound, sound, (-1.0, *sound[1:]), sound, (-1.0, *sound[1:]), sound]
    bars = Bars.of([(at, *values) for at, values in zip(stamps, prices, strict=True)])
    asked = Span(new_york("2024-07-15 21:00"), new_york("2024-07-16 20:00"))
    now = new_york("2024-07-20 12:00")

    dropped = check_page(DROPPED, Timeframe.h1, bars, asked, now)
    kept = check_page(BY_NIGHT, Timeframe.h1, bars, asked, now)

    assert (len(dropped.bars), len(dropped.rejected), dropped.ignored) == (1, 1, 4)
    assert (len(kept.bars), len(kept.rejected), kept.ignored) == (4, 2, 0)
    assert dropped.edge_ms == kept.edge_ms == stamps[0]


def test_the_time_of_a_dropped_night_is_answered_for_with_its_day() -> None:
    tuesday = new_york("2024-07-15 21:00"), new_york("2024-07-16 20:00")
    for asked in (tuesday, (tuesday[0] - 3_600_000, tuesday[1])):
        assert DROPPED.grid(Timeframe.m1).narrow(asked) == tuesday
    later = new_york("2024-07-15 23:00"), tuesday[1]
    assert DROPPED.grid(Timeframe.m1).narrow(later) == later
    assert DROPPED.grid(Timeframe.m1).count(tuesday) == 16 * 60
    ten = new_york("2024-07-16 10:00"), tuesday[1]
    assert DROPPED.grid(Timeframe.m1).narrow(ten) == ten
