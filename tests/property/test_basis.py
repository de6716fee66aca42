"""Two answers of the same bars: one factor apart is a split, anything else a correction."""

from dataclasses import replace
from datetime import date
from typing import Final

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.basis import beside, rebased
from backfill.core.coverage import Span, Spans
from backfill.core.timeframe import DAY_MS, Timeframe
from tests.calendars import calendar

XNYS: Final = calendar("XNYS")
FACTORS: Final = st.sampled_from([1.05, 1.5, 2.0, 3.0, 4.0, 10.0, 50.0, 0.5, 0.1, 0.05])
PRICES: Final = ("open", "high", "low", "close")


@st.composite
def series(draw: st.DrawFn) -> Bars:
    """Some bars at prices of five dollars or more, none of them at one price only."""
    closes = draw(st.lists(st.floats(100.0, 900.0), min_size=1, max_size=7))
    return Bars.of(
        [
            (day * DAY_MS, close * 0.99, close * 1.03, close * 0.97, close, 1e6, None, None)
            for day, close in enumerate(closes)
        ]
    )


def times(bars: Bars, factor: float, digits: int = 12) -> Bars:
    """Bars on another basis, rounded as a provider may round what it adjusts."""
    return replace(
        bars, **{name: np.round(getattr(bars, name) * factor, digits) for name in PRICES}
    )


@example(Bars.of([(0, 412.5825, 429.2525, 404.2475, 416.75, 1e6, None, None)]), 50.0, 2)
@given(series(), FACTORS, st.sampled_from([2, 4, 12]))
def test_all_prices_one_factor_apart_are_another_basis_however_they_are_rounded(
    was: Bars, factor: float, digits: int
) -> None:
    now = times(was, 1 / factor, digits)
    found = rebased(was, now)
    assert found is not None
    assert abs(found.factor / factor - 1) < 0.01
    assert rebased(now, now) is None


@given(series(), FACTORS, st.data())
def test_newer_bars_may_be_on_the_new_basis_already(
    was: Bars, factor: float, data: st.DataObject
) -> None:
    at = data.draw(st.integers(1, len(was)))
    older, newer = was.take(slice(0, at)), was.take(slice(at, None))
    now = Bars.concat([times(older, 1 / factor), newer])
    found = rebased(was, now)
    assert found is not None
    assert abs(found.factor / factor - 1) < 0.01


@given(series(), FACTORS, st.sampled_from(PRICES), st.data())
def test_a_bar_that_was_corrected_is_no_other_basis_and_hides_none(
    was: Bars, factor: float, name: str, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(was) - 1))
    prices = getattr(was, name).copy()
    prices[at] *= 1.02
    corrected = replace(was, **{name: prices})
    assert rebased(was, corrected) is None
    if len(was) > 1:
        assert rebased(was, times(corrected, 1 / factor)) is not None


def flat(bars: int) -> Bars:
    return Bars.of([(day * DAY_MS, *[20.0] * 4, 1.0, None, None) for day in range(bars)])


@given(st.integers(1, 7), FACTORS)
def test_bars_at_one_price_leave_it_to_the_bar_before_them_whether_it_was_corrected(
    bars: int, factor: float
) -> None:
    was = flat(bars)
    found = rebased(was, times(was, 1 / factor))
    if factor == 1.05:
        assert found is None  # so little may be a correction
        return
    assert found is not None
    assert not found.is_clear
    assert (found.fits(20.3), found.fits(20.3 / factor)) == (True, False)


@given(st.integers(2, 7), FACTORS)
def test_of_bars_at_one_price_the_oldest_alone_is_taken_for_corrected(
    bars: int, factor: float
) -> None:
    was = flat(bars)
    oldest = times(was.take(slice(1)), 1 / factor)
    assert rebased(was, Bars.concat([oldest, was.take(slice(1, None))])) is None


@given(series(), FACTORS)
def test_one_bar_of_several_leaves_it_to_the_bar_before_it_whether_it_was_corrected(
    was: Bars, factor: float
) -> None:
    now = Bars.concat([times(was.take(slice(1)), 1 / factor), was.take(slice(1, None))])
    found = rebased(was, now)
    assert found is not None
    assert found.is_clear == (len(was) == 1 or factor == 1.05)
    opened = float(was.open[0])
    assert (found.ts_ms, found.was) == (int(was.ts_ms[0]), opened)
    assert (found.fits(opened * 0.99), found.fits(opened / factor * 1.01)) == (True, False)


@given(series(), FACTORS)
def test_bars_that_share_no_slot_tell_nothing(was: Bars, factor: float) -> None:
    other = replace(times(was, factor), ts_ms=was.ts_ms + 100 * DAY_MS)
    assert rebased(was, other) is None


@given(
    st.sampled_from([Timeframe.m15, Timeframe.h1, Timeframe.d1, Timeframe.w1, Timeframe.mn1]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 60)), min_size=1, max_size=5),
)
def test_beside_what_is_missing_lie_whole_covered_slots_and_no_more_than_a_week_of_days(
    timeframe: Timeframe, holes: list[tuple[int, int]]
) -> None:
    grid, begun = XNYS.grid(timeframe), XNYS.midnight(date(2023, 1, 2))
    everything = Spans.of(grid.widen((begun, begun + 460 * DAY_MS)))
    missing = Spans.union(
        grid.widen((begun + day * DAY_MS, begun + (day + days) * DAY_MS)) for day, days in holes
    )
    missing &= everything
    covered = everything - missing
    found = beside(grid, timeframe, missing, covered, newest_ms=None)
    assert not found - covered
    for span in missing:
        if not grid.count(span):
            continue
        last = grid.index_from(span.start_ms) - 1
        if covered.covers(grid.start_of(last), grid.end_of(last)):
            assert found.covers(grid.start_of(last), grid.end_of(last))
    sessions = XNYS.grid(Timeframe.d1)
    longest = {Timeframe.w1: 5, Timeframe.mn1: 23}.get(timeframe, 0)
    for one in found:
        assert sessions.count(Span(one.start_ms, one.end_ms)) <= 2 * max(7, longest) + 1
