"""What decimal columns can hold of a price, by decimal arithmetic."""

from decimal import ROUND_HALF_EVEN, Decimal

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.compare import compare, exactly
from backfill.core.precision import EXACT, Decimals, Precision

PRICES = ("open", "high", "low", "close")
NARROW = Precision((*(Decimals(name, 14, 6) for name in PRICES), Decimals("volume", 18, 2)))


def bar(price: float, volume: float = 1.0) -> Bars:
    return Bars.of([(0, price, price, price, price, volume, None, None)])


@given(st.decimals(Decimal("1e-9"), Decimal("1e6"), places=9))
def test_a_price_is_lost_when_rounding_moves_it_by_more_than_a_millionth(price: Decimal) -> None:
    moved = abs(price.quantize(Decimal("1e-6"), ROUND_HALF_EVEN) - price) / price
    assume(abs(moved - Decimal("1e-6")) > Decimal("1e-12"))
    assert NARROW.loses(bar(float(price))).tolist() == [moved > Decimal("1e-6")]


@given(st.floats(1, 1e20))
def test_what_has_no_room_before_the_point_is_lost(number: float) -> None:
    assert NARROW.loses(bar(number))[0] == (number >= 1e14)
    assert NARROW.loses(bar(1.0, number))[0] == (number >= 1e18)


def test_doubles_lose_nothing() -> None:
    assert not EXACT.loses(bar(1e-9, 1e300)).any()


@given(st.floats(1, 1e6), st.floats(0, 1e6), st.floats(0.011, 10))
def test_what_a_column_rounds_off_is_no_difference_and_more_is(
    price: float, volume: float, more: float
) -> None:
    provided = bar(price, volume)
    held = bar(round(price, 6), round(volume, 2))
    none = np.empty(0, np.int64)
    assert compare(held, provided, none, exactly(NARROW)) == []
    assert len(compare(bar(price, volume + more), provided, none, exactly(NARROW))) == 1
