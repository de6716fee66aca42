"""What is final, and what a series should hold: DESIGN.md's words, one slot at a time."""

from datetime import timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from backfill.core.coverage import Span, Spans
from backfill.core.plan import Limits, frontier_ms, missing_spans, next_final_ms, wanted_span
from backfill.core.terms import Settling
from backfill.core.timeframe import Timeframe
from tests.calendars import MIDNIGHT_MIN
from tests.property.oracle import (
    Case,
    Slot,
    cases,
    inside,
    instants,
    slot_runs,
    slots_in,
    wall_ms,
)

settlings = st.builds(
    Settling,
    st.sampled_from((0, 60_000, 900_000)),
    st.sampled_from((0, 3_600_000, 4 * 3_600_000)),
    st.booleans(),
)
SETTLED = Settling(0, 0)


def final_at(case: Case, slot: Slot, settling: Settling) -> int:
    """When a slot has ended and settled, or, on an end-of-day plan, its day has."""
    if not case.timeframe.is_intraday:
        return slot.end + settling.daily_ms
    if not settling.end_of_day:
        return slot.end + settling.intraday_ms
    begins = MIDNIGHT_MIN.get(case.market, 0)
    return wall_ms(case.zone, slot.session + timedelta(days=1), begins) + settling.daily_ms


def is_final(case: Case, slot: Slot, settling: Settling, now: int) -> bool:
    return final_at(case, slot, settling) <= now


@given(st.data())
def test_the_frontier_parts_the_final_slots_from_the_others(data: st.DataObject) -> None:
    case = data.draw(cases())
    settling, now = data.draw(settlings), data.draw(instants(case))
    now += data.draw(st.sampled_from((0, settling.intraday_ms, settling.daily_ms)))
    frontier = frontier_ms(case.calendar, case.timeframe, settling, now)
    final = [slot for slot in case.slots if is_final(case, slot, settling, now)]
    assert [slot for slot in case.slots if slot.end <= frontier] == final


@given(st.data())
def test_on_an_end_of_day_plan_intraday_bars_are_due_when_their_day_is(
    data: st.DataObject,
) -> None:
    case = data.draw(cases((Timeframe.m15, Timeframe.h1)))
    now, settling = data.draw(instants(case)), Settling(60_000, 3_600_000, end_of_day=True)
    daily = case._replace(timeframe=Timeframe.d1)
    by_frontier = {
        timeframe: frontier_ms(case.calendar, timeframe, settling, now)
        for timeframe in (case.timeframe, Timeframe.d1)
    }
    days = {slot.session for slot in daily.slots if slot.end <= by_frontier[Timeframe.d1]}
    due = {slot.session for slot in case.slots if slot.end <= by_frontier[case.timeframe]}
    assert due == days


@given(st.data())
def test_wanted_is_every_final_slot_from_the_start_on_within_life_and_window(
    data: st.DataObject,
) -> None:
    case = data.draw(cases())
    bounds = data.draw(st.lists(instants(case), min_size=6, max_size=6))
    if data.draw(st.sampled_from((True, True, False))):  # three at either side, so some is wanted
        bounds.sort()
        bounds = data.draw(st.permutations(bounds[:3])) + data.draw(st.permutations(bounds[3:]))
    start, frontier = bounds[0], bounds[3]
    listed, window, end, delisted = (
        data.draw(st.sampled_from((bound, bound, None))) for bound in (*bounds[1:3], *bounds[4:])
    )
    limits = Limits(listed, delisted, window)
    lower = max(bound for bound in (start, limits.listed_ms) if bound is not None)
    upper = min(bound for bound in (end, limits.delisted_ms, frontier) if bound is not None)
    expected = [
        slot
        for slot in case.slots
        if lower < upper
        if slot.start < upper and slot.end > lower
        if slot.start >= (case.reach[0] if window is None else window) and slot.end <= frontier
    ]
    wanted = wanted_span(case.grid, start, end, frontier, limits)
    assert wanted == (Span(expected[0].start, expected[-1].end) if expected else None)


@given(st.data())
def test_a_wanted_span_never_holds_a_future_bar(data: st.DataObject) -> None:
    case = data.draw(cases())
    now, settling = data.draw(instants(case)), data.draw(settlings)
    frontier = frontier_ms(case.calendar, case.timeframe, settling, now)
    wanted = wanted_span(case.grid, case.reach[0], None, frontier, Limits())
    assert wanted is None or wanted.end_ms <= now


@given(st.data())
def test_missing_holds_the_wanted_slots_that_are_not_covered(data: st.DataObject) -> None:
    case = data.draw(cases())
    coverage = data.draw(slot_runs(case))
    first, last = sorted(data.draw(st.tuples(*[st.sampled_from(range(len(case.slots)))] * 2)))
    wanted = Span(case.slots[first].start, case.slots[last].end)
    missing = missing_spans(case.grid, wanted, coverage)
    expected = [slot for slot in case.slots[first : last + 1] if not inside(slot, coverage)]
    assert slots_in(case, missing) == expected
    assert not missing & coverage
    assert all(slots_in(case, span) for span in missing)
    assert not missing - Spans.of(wanted)


@given(st.data())
def test_a_slot_that_is_covered_in_part_is_missing_whole(data: st.DataObject) -> None:
    case = data.draw(cases())
    slot = data.draw(st.sampled_from(case.slots))
    cut = data.draw(st.integers(slot.start + 1, slot.end - 1))
    wanted = Span(case.slots[0].start, case.slots[-1].end)
    half = data.draw(st.sampled_from(((wanted.start_ms, cut), (cut, wanted.end_ms))))
    missing = missing_spans(case.grid, wanted, Spans.of(half))
    assume(missing)
    assert missing.covers(slot.start, slot.end)


@given(cases())
def test_closed_hours_between_covered_slots_are_not_missing(case: Case) -> None:
    wanted = Span(case.slots[0].start, case.slots[-1].end)
    coverage = Spans.of(*((slot.start, slot.end) for slot in case.slots))
    assert not missing_spans(case.grid, wanted, coverage)


def test_nothing_wanted_is_nothing_missing() -> None:
    case = Case("XNYS", "Thanksgiving", Timeframe.d1)
    assert not missing_spans(case.grid, None, Spans.of(case.reach))


@given(st.data())
def test_the_next_final_bar_is_the_first_of_all_that_become_final_later(
    data: st.DataObject,
) -> None:
    case = data.draw(cases())
    settling, now = data.draw(settlings), data.draw(instants(case))
    now += data.draw(st.sampled_from((0, settling.intraday_ms, settling.daily_ms)))
    later = [moment for slot in case.slots if (moment := final_at(case, slot, settling)) > now]

    found = next_final_ms(case.calendar, case.timeframe, settling, now)

    assert found == min(later, default=None)
