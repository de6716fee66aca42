"""Where bars break at a listing date: jumps beyond splits, and silence, in every timeframe."""

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.listing import Closes
from backfill.core.rollup import roll_up
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Split
from tests.calendars import calendar

XNYS = calendar("XNYS")
SESSIONS = [date.fromordinal(int(day)) for day in XNYS.day_ordinals]
LISTED = date(2024, 6, 14)  # a Friday: its week and month hold days of before
AT = SESSIONS.index(LISTED)
NEW_YORK = ZoneInfo("America/New_York")
FRAMES = [Timeframe.h1, Timeframe.h4, Timeframe.d1, Timeframe.w1, Timeframe.mn1]

moves = st.lists(st.floats(0.97, 1.03), min_size=100, max_size=100)
factors = st.sampled_from([0.02, 0.1, 0.25, 4.0, 10.0, 33.8])


def bars_of(timeframe: Timeframe, prices: dict[date, float]) -> Bars:
    """One bar a day at noon, or at its midnight, or rolled up to weeks and months."""
    at = time(12) if timeframe.is_intraday else time()
    rows = [
        (round(datetime.combine(day, at, NEW_YORK).timestamp() * 1000), *[price] * 4, 1.0, None, 1)
        for day, price in prices.items()
    ]
    days = Bars.of(rows)
    rolled = timeframe in {Timeframe.w1, Timeframe.mn1}
    return roll_up(days, XNYS.grid(timeframe)) if rolled else days


def walk(moves: list[float], factor: float) -> dict[date, float]:
    """Closes of a hundred sessions around the listing, with a jump on its day."""
    prices, price = {}, 40.0
    for index, move in enumerate(moves, start=AT - 60):
        price *= move * (factor if index == AT else 1.0)
        prices[SESSIONS[index]] = price
    return prices


@pytest.mark.parametrize("timeframe", FRAMES)
@given(moves=moves, factor=factors)
def test_a_listing_cuts_where_the_price_jumps_unless_a_split_of_that_size_is_listed(
    timeframe: Timeframe, moves: list[float], factor: float
) -> None:
    closes = Closes.of(XNYS, timeframe, bars_of(timeframe, walk(moves, factor)))
    split = Split("A", LISTED, factor, 1.0)
    elsewhere = Split("A", LISTED - timedelta(days=70), factor, 1.0)

    assert closes.break_at(LISTED, []) is True
    assert closes.break_at(LISTED, [elsewhere]) is True
    assert closes.break_at(LISTED, [split]) is False
    assert closes.break_at(LISTED, [elsewhere, split]) is False
    [jump] = closes.jumps()
    assert jump.is_explained([split], XNYS)
    assert not jump.is_explained([elsewhere], XNYS)


@pytest.mark.parametrize("timeframe", FRAMES)
@given(moves=moves)
def test_a_listing_cuts_nothing_where_trade_goes_on(
    timeframe: Timeframe, moves: list[float]
) -> None:
    closes = Closes.of(XNYS, timeframe, bars_of(timeframe, walk(moves, 1.0)))

    assert closes.break_at(LISTED, []) is False
    assert closes.jumps() == []


@pytest.mark.parametrize("timeframe", [Timeframe.h1, Timeframe.d1])
@given(moves=moves, silent=st.integers(0, 30))
def test_a_listing_cuts_after_ten_silent_sessions_and_not_after_nine(
    timeframe: Timeframe, moves: list[float], silent: int
) -> None:
    prices = walk(moves, 1.0)
    for day in SESSIONS[AT - silent : AT]:
        del prices[day]

    closes = Closes.of(XNYS, timeframe, bars_of(timeframe, prices))

    assert closes.break_at(LISTED, []) is (silent >= 10)


def test_bars_of_one_side_alone_tell_nothing_and_bars_of_no_sense_are_not_looked_at() -> None:
    prices = walk([1.0] * 100, 10.0)
    before = {day: price for day, price in prices.items() if day < LISTED}
    after = {day: price for day, price in prices.items() if day >= LISTED}
    for part in (before, after, {}):
        assert (
            Closes.of(XNYS, Timeframe.d1, bars_of(Timeframe.d1, part)).break_at(LISTED, []) is None
        )
    nonsense = bars_of(Timeframe.d1, {LISTED: np.nan, LISTED + timedelta(days=3): -1.0})
    assert Closes.of(XNYS, Timeframe.d1, nonsense).jumps() == []
