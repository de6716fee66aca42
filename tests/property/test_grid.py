"""Every answer of a grid against a list of its slots, read off the wall clock one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.coverage import Span, Spans
from tests.property.oracle import EVERY_CASE, Case, cases, instants, is_short

every_case = pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if is_short(case) else pytest.mark.wide) for case in EVERY_CASE],
    ids=lambda case: f"{case.market}-{case.timeframe}-{case.season}",
)


def touched(case: Case, span: tuple[int, int]) -> list[Span]:
    return [Span(s.start, s.end) for s in case.slots if s.start < span[1] and s.end > span[0]]


@every_case
def test_the_slots_are_those_that_the_wall_clock_shows(case: Case) -> None:
    grid = case.grid
    assert len(grid) == len(case.slots)
    assert grid.slots(case.reach).tolist() == [slot.start for slot in case.slots]
    assert [grid.end_of(index) for index in range(len(grid))] == [slot.end for slot in case.slots]


@every_case
def test_the_regular_slots_are_those_that_touch_the_regular_session(case: Case) -> None:
    grid = case.calendar.regular_grid(case.timeframe)
    regular = [(slot.start, slot.end) for slot in case.slots if slot.regular]
    assert [(grid.start_of(i), grid.end_of(i)) for i in range(len(grid))] == regular


@given(st.data())
def test_a_slot_is_found_by_its_index_and_its_index_by_any_instant(data: st.DataObject) -> None:
    case = data.draw(cases())
    grid, at = case.grid, data.draw(instants(case))
    index = grid.index_from(at)
    assert index == sum(slot.start < at for slot in case.slots)
    if index < len(case.slots):
        assert grid.start_of(index) == case.slots[index].start


@given(st.data())
def test_count_and_slots_hold_the_starts_within_a_span(data: st.DataObject) -> None:
    case = data.draw(cases())
    span = data.draw(st.tuples(instants(case), instants(case)))
    starts = [slot.start for slot in case.slots if span[0] <= slot.start < span[1]]
    assert case.grid.slots(span).tolist() == starts
    assert case.grid.count(span) == len(starts)


@given(st.data())
def test_the_slots_of_many_spans_are_counted_as_those_of_each_are(data: st.DataObject) -> None:
    case = data.draw(cases())
    bounds = st.tuples(instants(case), instants(case))
    spans = Spans.union(data.draw(st.lists(bounds, max_size=8)))
    bounds_ms = np.array(spans.items, np.int64).reshape(-1, 2)
    assert case.grid.count_all(bounds_ms) == sum(map(case.grid.count, spans))


@given(st.data())
def test_floor_finds_the_slot_around_each_instant_or_says_there_is_none(
    data: st.DataObject,
) -> None:
    case = data.draw(cases())
    asked = data.draw(st.lists(instants(case), min_size=1, max_size=20))
    floors, inside = case.grid.floor(np.array(asked, np.int64))
    for at, floor, is_inside in zip(asked, floors.tolist(), inside.tolist(), strict=True):
        around = touched(case, (at, at + 1))
        assert is_inside is bool(around)
        assert not around or floor == around[0].start_ms


@given(st.data())
def test_widen_grows_to_the_whole_slots_a_span_touches_and_no_further(data: st.DataObject) -> None:
    case = data.draw(cases())
    start, end = sorted(data.draw(st.tuples(instants(case), instants(case))))
    if start == end:
        return
    whole = [*touched(case, (start, end)), Span(start, end)]
    assert case.grid.widen((start, end)) == (
        min(span.start_ms for span in whole),
        max(span.end_ms for span in whole),
    )


@given(st.data())
def test_narrow_shrinks_to_the_whole_slots_inside_a_span(data: st.DataObject) -> None:
    case = data.draw(cases())
    start, end = data.draw(st.tuples(instants(case), instants(case)))
    whole = [slot for slot in case.slots if start <= slot.start and slot.end <= end]
    expected = Span(whole[0].start, whole[-1].end) if whole else None
    assert case.grid.narrow((start, end)) == expected


@given(st.data())
def test_inside_narrows_each_span_of_a_set_by_itself(data: st.DataObject) -> None:
    case = data.draw(cases())
    spans = Spans.of(*data.draw(st.lists(st.tuples(instants(case), instants(case)), max_size=4)))
    whole = [
        slot for slot in case.slots if any(s <= slot.start and slot.end <= e for s, e in spans)
    ]
    kept = case.grid.inside(spans)
    assert [slot for slot in case.slots if kept.covers(slot.start, slot.end)] == whole
    ends = {slot.end for slot in whole}
    starts = {slot.start for slot in whole}
    assert all(start in starts and end in ends for start, end in kept)
