"""What is left of a run is never nothing while something is, and more of it takes no less."""

import math
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from backfill.core.estimate import (
    LaneLeft,
    Left,
    Met,
    Pace,
    Streams,
    eased,
    quota_s,
    seconds_left,
)
from backfill.core.terms import Quota, Window

SECONDS = st.floats(0, 1e4)
WINDOWS = st.builds(Window, st.integers(1, 200), st.sampled_from([1.0, 3.0, 60.0, 3600.0, 86400.0]))
QUOTAS = st.lists(WINDOWS, max_size=3).map(lambda windows: Quota(tuple(windows)))
AGES = st.lists(SECONDS, max_size=300).map(lambda ages: sorted(ages, reverse=True))
STREAMS = st.lists(
    st.builds(
        Streams, st.integers(0, 40), st.integers(1, 30), st.integers(0, 10**6), st.booleans()
    ),
    max_size=5,
)
LEFTS = st.builds(
    Left,
    streams=STREAMS.map(tuple),
    met=st.builds(Met, *[st.integers(0, 40)] * 6),
    days=st.integers(0, 30),
    lists=st.integers(0, 3),
    unwritten=st.integers(0, 10**6),
)
LANES = st.builds(
    LaneLeft,
    left=LEFTS,
    pace=st.builds(Pace, st.floats(0, 30), st.floats(0, 30), st.floats(0, 0.01), st.floats(0, 1)),
    quota=QUOTAS,
    workers=st.integers(1, 8),
    ages_s=AGES,
    sent=st.integers(0, 6),
    turned_s=st.lists(SECONDS, max_size=6),
    pause_s=SECONDS,
)


@given(LANES)
def test_it_is_never_0_while_anything_is_left_nor_negative(lane: LaneLeft) -> None:
    left_s = seconds_left([lane])
    assert left_s >= 1 if lane.left.anything else left_s == 0
    assert math.isfinite(left_s)


@given(LANES, st.integers(1, 20), st.integers(1, 50), st.booleans())
def test_more_work_takes_no_less(lane: LaneLeft, calls: int, number: int, begun: bool) -> None:
    more = (*lane.left.streams, Streams(calls, number, 9, begun))
    assert seconds_left([replace(lane, left=replace(lane.left, streams=more))]) >= (
        seconds_left([lane]) * (1 - 1e-9)
    )
    for grown in (
        replace(lane.left, days=lane.left.days + number),
        replace(lane.left, lists=lane.left.lists + 1),
        replace(lane.left, unwritten=lane.left.unwritten + number),
    ):
        assert seconds_left([replace(lane, left=grown)]) >= seconds_left([lane]) * (1 - 1e-9)


@given(st.lists(LANES, min_size=1, max_size=3), LANES)
def test_another_lane_takes_no_less(lanes: list[LaneLeft], other: LaneLeft) -> None:
    assert seconds_left([*lanes, other]) >= seconds_left(lanes) * (1 - 1e-9)


@given(QUOTAS, AGES, st.integers(1, 500))
def test_a_quota_lets_more_calls_go_no_sooner(quota: Quota, ages: list[float], calls: int) -> None:
    assert quota_s(quota, ages, calls + 1) >= quota_s(quota, ages, calls) - 1e-9


@given(WINDOWS, AGES, st.integers(1, 400))
def test_one_window_is_kept_to_the_call(window: Window, ages: list[float], calls: int) -> None:
    """Against an oracle that lets them go one by one."""
    counted = [-age for age in ages if age < window.held_s]
    assume(len(counted) <= window.limit)
    at = 0.0
    for _ in range(calls):
        if len(counted) >= window.limit:
            at = max(at, counted[-window.limit] + window.held_s)
        counted.append(at)
    assert math.isclose(quota_s(Quota((window,)), ages, calls), at, rel_tol=1e-9, abs_tol=1e-6)


@given(st.floats(1, 1e5), st.floats(0, 60), st.floats(1, 1e5))
def test_what_is_shown_counts_down_and_comes_to_what_is_estimated(
    shown_s: float, passed_s: float, estimate_s: float
) -> None:
    now_s = eased(shown_s, passed_s, estimate_s)
    assert now_s >= 1
    assert min(shown_s - passed_s, estimate_s) * (1 - 1e-9) <= now_s
    assert now_s <= max(shown_s - passed_s, estimate_s) * (1 + 1e-9)


def test_nothing_is_shown_once_nothing_is_left() -> None:
    assert eased(17.0, 0.25, 0.0) == 0


def test_it_shrinks_when_tickers_prove_unknown() -> None:
    """Half of those that were met ended after one of ten calls: others will, too."""
    quota = Quota.parse("5/60s")
    planned = Left(streams=(Streams(10, 20),))
    met = Met(streams=10, planned=100, wanted=55, answered=10, used=10, lookups=5)
    known = replace(planned, met=met)
    before, after = (seconds_left([LaneLeft(left, Pace(), quota, 6)]) for left in (planned, known))
    assert after < 0.75 * before
