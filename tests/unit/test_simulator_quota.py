import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.simulator.quota import SlidingWindows

MOMENTS = st.lists(st.integers(0, 400).map(lambda step: step / 16), min_size=1, max_size=200)


@given(steps=MOMENTS, costs=st.lists(st.integers(1, 3), min_size=200, max_size=200))
def test_no_window_ever_holds_more_than_it_may(steps: list[float], costs: list[int]) -> None:
    quota = SlidingWindows.parse("3/10s,7/1m")
    now = 0.0
    admitted: list[tuple[float, int]] = []
    for step, cost in zip(steps, costs, strict=False):
        now += step
        if quota.admit(now, cost) == 0:
            admitted.append((now, cost))
            assert quota.used(now) == sum(held for at, held in admitted if now - 10 < at)
    for end, _ in admitted:
        assert sum(cost for at, cost in admitted if end - 10 < at <= end) <= 3
        assert sum(cost for at, cost in admitted if end - 60 < at <= end) <= 7


@given(steps=MOMENTS, cost=st.integers(1, 3))
def test_a_refused_call_is_admitted_after_just_the_wait_it_was_told(
    steps: list[float], cost: int
) -> None:
    quota = SlidingWindows.parse("3/10s,7/1m")
    now = 0.0
    for step in steps:
        now += step
        wait = quota.admit(now, cost)
        if wait > 0:
            assert quota.admit(now + wait - 1 / 1024, cost) > 0
            assert quota.admit(now + wait, cost) == 0
            now += wait


def test_unlimited_admits_everything() -> None:
    quota = SlidingWindows.parse("unlimited")
    assert [quota.admit(0.0) for _ in range(1000)] == [0.0] * 1000


@pytest.mark.parametrize("text", ["", "5", "5/60", "0/60s", "5/0s", "5/60s,", "five/60s"])
def test_a_malformed_quota_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a list of windows"):
        SlidingWindows.parse(text)
