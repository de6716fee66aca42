"""One canonical stamp per bar (R3), whatever instant of its day a provider stamps it with."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.calendar import Session, every_day
from backfill.core.timeframe import Timeframe
from tests.calendars import FIRST, LAST, ZONES, calendar, sessions
from tests.property.oracle import Case, cases, instants, wall_ms

EQUITY = ("XNYS", "XLON")
NEW_YORK = ZoneInfo("America/New_York")
equity_session = st.sampled_from(EQUITY).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(sessions(name)))
)


def utc_midnight(day: date) -> int:
    return round(datetime.combine(day, time(), UTC).timestamp() * 1000)


def stamps_that_name(name: str, session: Session) -> list[int]:
    """Midnight UTC, exchange midnight, the open and the close of a session."""
    midnight = wall_ms(ZoneInfo(ZONES[name]), session.day)
    return [utc_midnight(session.day), midnight, session.open_ms, session.close_ms]


def canonical(name: str, timeframe: Timeframe, *stamps: int) -> list[int]:
    return list(calendar(name).canonical(timeframe, np.array(stamps, np.int64)))


def test_where_trade_never_ends_every_day_is_a_session_as_the_library_has_it() -> None:
    assert tuple(every_day(FIRST, LAST)) == sessions("24/7")


@given(equity_session)
def test_every_stamp_of_a_session_becomes_its_midnight(drawn: tuple[str, Session]) -> None:
    name, session = drawn
    midnight = wall_ms(ZoneInfo(ZONES[name]), session.day)
    assert canonical(name, Timeframe.d1, *stamps_that_name(name, session)) == [midnight] * 4


@given(equity_session)
def test_every_stamp_of_a_session_becomes_the_monday_of_its_week(
    drawn: tuple[str, Session],
) -> None:
    name, session = drawn
    monday = session.day
    while monday.strftime("%a") != "Mon":
        monday -= timedelta(days=1)
    expected = wall_ms(ZoneInfo(ZONES[name]), monday)
    assert canonical(name, Timeframe.w1, *stamps_that_name(name, session)) == [expected] * 4


@given(equity_session)
def test_the_sunday_that_a_provider_starts_a_week_with_becomes_monday(
    drawn: tuple[str, Session],
) -> None:
    name, session = drawn
    zone = ZoneInfo(ZONES[name])
    sunday = session.day
    while sunday.strftime("%a") != "Sun":
        sunday -= timedelta(days=1)
    monday = wall_ms(zone, sunday + timedelta(days=1))
    stamps = wall_ms(zone, sunday), utc_midnight(sunday)
    assert canonical(name, Timeframe.w1, *stamps) == [monday] * 2


@given(equity_session)
def test_every_stamp_of_a_session_becomes_the_first_of_its_month(
    drawn: tuple[str, Session],
) -> None:
    name, session = drawn
    first = wall_ms(ZoneInfo(ZONES[name]), date(session.day.year, session.day.month, 1))
    assert canonical(name, Timeframe.mn1, *stamps_that_name(name, session)) == [first] * 4


@given(st.data())
def test_intraday_stamps_and_those_of_pairs_are_left_as_they_came(data: st.DataObject) -> None:
    case = data.draw(cases())
    if case.market not in {"24/7", "FX"} and not case.timeframe.is_intraday:
        case = case._replace(market="24/7")
    stamps = data.draw(st.lists(instants(case), min_size=1, max_size=8))
    assert canonical(case.market, case.timeframe, *stamps) == stamps


@pytest.mark.parametrize(
    "day", [date(2024, 3, 9), date(2024, 3, 10), date(2024, 7, 4), date(2024, 11, 28)]
)
def test_a_daily_stamp_of_a_day_without_a_session_is_not_moved(day: date) -> None:
    stamps = [utc_midnight(day), wall_ms(NEW_YORK, day), wall_ms(NEW_YORK, day, 16 * 60)]
    assert canonical("XNYS", Timeframe.d1, *stamps) == stamps


def test_a_crypto_day_of_another_window_is_never_snapped() -> None:
    other_window = utc_midnight(date(2020, 10, 1)) + 4 * 3_600_000
    assert canonical("24/7", Timeframe.d1, other_window) == [other_window]
    slots, inside = calendar("24/7").grid(Timeframe.d1).floor(np.array([other_window]))
    assert inside.all()
    assert slots[0] != other_window


@given(st.data())
def test_starts_bar_of_an_intraday_timeframe_means_exactly_on_its_grid(
    data: st.DataObject,
) -> None:
    case: Case = data.draw(cases(tuple(t for t in Timeframe if t.is_intraday)))
    stamps = data.draw(st.lists(instants(case), min_size=1, max_size=8))
    starts = {slot.start for slot in case.slots}
    marked = case.calendar.starts_bar(case.timeframe, np.array(stamps, np.int64))
    assert marked.tolist() == [stamp in starts for stamp in stamps]


@given(
    st.sampled_from(tuple(ZONES)),
    st.sampled_from((Timeframe.d1, Timeframe.w1, Timeframe.mn1)),
    st.dates(date(2013, 1, 1), date(2025, 12, 30)),
    st.sampled_from((0, 0, 0, -1, 1, 570, 960)),
    st.booleans(),
)
def test_starts_bar_of_a_day_week_or_month_means_a_midnight_of_a_day_that_may_start_it(
    name: str, timeframe: Timeframe, day: date, minutes: int, in_utc: bool
) -> None:
    zone = ZoneInfo("UTC") if in_utc else ZoneInfo(ZONES[name])
    stamp = wall_ms(zone, day, minutes)
    shown = [datetime.fromtimestamp(stamp / 1000, z) for z in (UTC, ZoneInfo(ZONES[name]))]
    midnights = [moment for moment in shown if (moment.hour, moment.minute) == (0, 0)]
    expected = {
        Timeframe.d1: bool(midnights),
        Timeframe.w1: any(moment.strftime("%a") in {"Sun", "Mon"} for moment in midnights),
        Timeframe.mn1: any(moment.day == 1 for moment in midnights),
    }[timeframe]
    assert calendar(name).starts_bar(timeframe, np.array([stamp])).tolist() == [expected]


@given(st.sampled_from(tuple(ZONES)), st.integers(1_340_000_000_000, 1_760_000_000_000))
def test_the_day_of_an_instant_is_the_one_between_whose_midnights_it_lies(
    name: str, at: int
) -> None:
    exchange = calendar(name)
    day = exchange.day_of(at)
    assert exchange.midnight(day) <= at < exchange.midnight(day + timedelta(days=1))
