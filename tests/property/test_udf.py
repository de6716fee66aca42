"""TradingView's times: a bar is in the range that is asked for by the time that it is told with."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.calendar import ZONES, bar_begins
from backfill.core.timeframe import DAY_MS, MINUTE_MS, Timeframe
from backfill.core.udf import RESOLUTIONS, decimals, span_of, symbol_info, timeframe_of, times_of
from backfill.errors import UsageError

DAYS = st.dates(date(1995, 1, 1), date(2030, 1, 1))
NEAR_S = st.integers(-40 * 86_400, 40 * 86_400)


@given(
    calendar=st.sampled_from(sorted(ZONES)),
    timeframe=st.sampled_from([Timeframe.d1, Timeframe.w1, Timeframe.mn1]),
    day=DAYS,
    from_s=NEAR_S,
    to_s=NEAR_S,
)
def test_a_bar_of_a_day_or_longer_lies_in_a_range_by_the_midnight_of_its_date(
    calendar: str, timeframe: Timeframe, day: date, from_s: int, to_s: int
) -> None:
    ts_ms = bar_begins(calendar, day, timeframe)
    [at_s] = times_of(calendar, timeframe, [ts_ms])
    named = datetime.fromtimestamp(at_s, UTC)
    assert named.time() == datetime.min.time()
    first = {
        Timeframe.d1: day,
        Timeframe.w1: day - timedelta(days=day.weekday()),
        Timeframe.mn1: day.replace(day=1),
    }
    assert named.date() == first[timeframe]
    span = span_of(calendar, timeframe, at_s + from_s, at_s + to_s)
    assert (span.start_ms <= ts_ms < span.end_ms) == (from_s <= 0 < to_s)


@given(minute=st.integers(0, 30_000_000), from_s=NEAR_S, to_s=NEAR_S)
def test_a_shorter_bar_lies_in_a_range_by_its_start(minute: int, from_s: int, to_s: int) -> None:
    ts_ms = (minute + 100_000) * MINUTE_MS
    [at_s] = times_of("XNYS", Timeframe.m1, [ts_ms])
    assert at_s * 1000 == ts_ms
    span = span_of("XNYS", Timeframe.m1, at_s + from_s, at_s + to_s)
    assert (span.start_ms <= ts_ms < span.end_ms) == (from_s <= 0 < to_s)


@given(at_s=st.integers(-(10**15), 10**15), timeframe=st.sampled_from(list(Timeframe)))
def test_any_second_that_is_named_bounds_a_range(at_s: int, timeframe: Timeframe) -> None:
    for calendar in ZONES:
        assert span_of(calendar, timeframe, at_s, at_s).start_ms >= -DAY_MS


@given(prices=st.lists(st.integers(1, 10**9), min_size=1, max_size=5), places=st.integers(0, 8))
def test_prices_are_told_with_as_many_decimals_as_they_have(prices: list[int], places: int) -> None:
    found = decimals([price / 10**places for price in prices])
    assert 2 <= found <= max(2, places)
    assert all(round(price / 10**places, found) == price / 10**places for price in prices)


def test_each_timeframe_has_a_resolution_and_only_stored_ones_are_offered() -> None:
    assert [timeframe_of(name) for name in RESOLUTIONS] == list(Timeframe)
    assert [timeframe_of(name) for name in ("d", "W", "M")] == list(Timeframe)[-3:]
    with pytest.raises(UsageError):
        timeframe_of("7")
    info = symbol_info("EUR/USD", "currency", "FX", [Timeframe.d1, Timeframe.w1], [1.08])
    assert (info["type"], info["session"]) == ("forex", "1700-1700:23456")
    assert (info["has_intraday"], info["has_daily"]) == (False, True)
    assert (info["has_weekly_and_monthly"], info["pricescale"]) == (False, 100)
