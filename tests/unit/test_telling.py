"""How long messages are waited for."""

from hypothesis import given
from hypothesis import strategies as st

from backfill.notify.telling import AT_THE_END, USUAL, Patience


def seconds(of: Patience) -> float:
    """How long telling takes at most: the database has its time thrice."""
    return 3 * of.database_s + of.look_s + of.delivery_s


@given(st.floats(-1e3, 1e3))
def test_it_ends_as_soon_behind_a_deadline_wherever_it_begins(left_s: float) -> None:
    bounded = seconds(USUAL.within(left_s))
    assert bounded <= seconds(AT_THE_END) + max(left_s, 0.0) + 1e-6
    assert bounded <= seconds(USUAL)


def test_long_before_a_deadline_and_behind_it_nothing_is_between() -> None:
    assert USUAL.within(1e3) == USUAL
    assert USUAL.within(-1e3) == AT_THE_END
