"""Roll-ups against a bar built slot by slot, exact where the arithmetic is."""

from math import fsum, isclose

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.rollup import roll_up
from backfill.core.timeframe import Timeframe
from tests.conftest import SHARED
from tests.property.oracle import MARKETS, SEASONS, Case, cases

OHLC = tuple[float, float, float, float]
BaseBar = tuple[int, OHLC, int, float | None, int | None]
LADDER = [(Timeframe.m1, to) for to in ("m5", "m15", "m30", "h1", "h4")] + [
    (Timeframe.h1, "h4"),
    (Timeframe.d1, "w1"),
    (Timeframe.d1, "mn1"),
]
prices = st.lists(st.floats(0.01, 1e5), min_size=4, max_size=4).map(sorted)


@st.composite
def base_bars(draw: st.DrawFn, case: Case) -> list[BaseBar]:
    """Some bars of a stretch of the season, in order; whole volumes, so that sums are exact."""
    first = draw(st.integers(0, len(case.slots) - 1))
    starts = [slot.start for slot in case.slots[first : first + 600]]
    every = draw(st.integers(1, 40))
    chosen = starts[::every][:40]
    complete = draw(st.booleans())
    bars: list[BaseBar] = []
    for start in chosen:
        low, a, b, high = draw(prices)
        vwap = draw(st.floats(low, high) if complete else st.none() | st.floats(low, high))
        count = draw(st.integers(0, 10**6) if complete else st.none() | st.integers(0, 10**6))
        ohlc = draw(st.sampled_from(((a, high, low, b), (b, high, low, a))))
        bars.append((start, ohlc, draw(st.integers(0, 10**9)), vwap, count))
    return bars


def columns(bars: list[BaseBar]) -> Bars:
    return Bars.of([(start, *ohlc, volume, vwap, n) for start, ohlc, volume, vwap, n in bars])


@pytest.mark.parametrize(("base", "to"), LADDER)
@SHARED
@given(data=st.data())
def test_each_slot_with_bars_becomes_the_bar_of_all_of_them(
    base: Timeframe, to: str, data: st.DataObject
) -> None:
    case = data.draw(cases((base,)))
    coarse = case._replace(timeframe=Timeframe(to))
    bars = data.draw(base_bars(case))
    rolled = roll_up(columns(bars), coarse.grid)
    at = 0
    for slot in coarse.slots:
        parts = [bar for bar in bars if slot.start <= bar[0] < slot.end]
        if not parts:
            continue
        assert rolled.ts_ms[at] == slot.start
        ohlc = [part[1] for part in parts]
        assert rolled.open[at] == ohlc[0][0]
        assert rolled.high[at] == max(high for _, high, _, _ in ohlc)
        assert rolled.low[at] == min(low for _, _, low, _ in ohlc)
        assert rolled.close[at] == ohlc[-1][3]
        assert rolled.volume[at] == sum(part[2] for part in parts)
        counts = [part[4] for part in parts if part[4] is not None]
        assert rolled.trade_count[at] == (sum(counts) if len(counts) == len(parts) else -1)
        worth = [part[2] * part[3] for part in parts if part[3] is not None]
        volume = sum(part[2] for part in parts)
        if len(worth) < len(parts) or volume == 0:
            assert np.isnan(rolled.vwap[at])
        else:
            assert isclose(rolled.vwap[at], fsum(worth) / volume, rel_tol=1e-12)
        at += 1
    assert at == len(rolled)


@given(st.data())
def test_rolling_up_in_two_steps_is_rolling_up_in_one(data: st.DataObject) -> None:
    case = data.draw(cases((Timeframe.m1,)))
    base = columns(data.draw(base_bars(case)))
    by_m15, h4 = (case.calendar.grid(Timeframe(to)) for to in ("m15", "h4"))
    once, twice = roll_up(base, h4), roll_up(roll_up(base, by_m15), h4)
    for name in ("ts_ms", "open", "high", "low", "close", "volume", "trade_count"):
        assert getattr(once, name).tolist() == getattr(twice, name).tolist()


def test_a_base_bar_outside_the_grid_belongs_to_no_slot() -> None:
    case = Case("XNYS", "Thanksgiving", Timeframe.h1)
    inside: BaseBar = (case.slots[0].start, (1.0, 2.0, 1.0, 2.0), 5, None, None)
    before: BaseBar = (case.slots[0].start - 3_600_000, (9.0, 9.0, 9.0, 9.0), 5, None, None)
    rolled = roll_up(columns([before, inside]), case.grid)
    assert (rolled.high.tolist(), rolled.volume.tolist()) == ([2.0], [5.0])
    assert len(roll_up(columns([before]), case.grid)) == 0


def test_no_base_bars_roll_up_to_none() -> None:
    assert len(roll_up(Bars.empty(), Case("24/7", "Thanksgiving", Timeframe.w1).grid)) == 0


def test_what_was_stored_before_values_were_bounded_is_rolled_up_without_a_vwap() -> None:
    case = Case(MARKETS[0], next(iter(SEASONS)), Timeframe.m1)
    starts = [slot.start for slot in case.slots[:2]]
    huge = Bars.of([(start, 1e300, 1e300, 1e300, 1e300, 1e150, 1e300, 1) for start in starts])
    rolled = roll_up(huge, case._replace(timeframe=Timeframe.h4).grid)
    assert rolled.high.max() == 1e300
    assert np.isnan(rolled.vwap).all()
