"""The planner: what is missing, all of it and nothing else, in the fewest calls."""

from bisect import bisect_left
from itertools import pairwise
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from backfill.core.coverage import Span, Spans
from backfill.core.pages import BaseAggregates
from backfill.core.plan import Limits, PlannedRange, missing_spans, plan_ranges, wanted_span
from backfill.core.timeframe import Timeframe
from tests.property.oracle import LENGTH_MIN, Case, cases, inside, instants, slot_runs, slots_in

DAYS_PER_BAR = {"d1": 1, "w1": 7, "mn1": 31}


class Planned(NamedTuple):
    case: Case
    coverage: Spans
    wanted: Span | None
    frontier: int
    page_size: int
    missing: Spans
    ranges: tuple[PlannedRange, ...]


def base_of(case: Case) -> Case:
    """The aggregates that a page counts: minutes or days."""
    timeframe = Timeframe.m1 if case.timeframe.is_intraday else Timeframe.d1
    return case._replace(timeframe=timeframe)


def base_per_bar(case: Case) -> int:
    return (LENGTH_MIN | DAYS_PER_BAR)[case.timeframe]


@st.composite
def plans(draw: st.DrawFn, most_holes: int = 8) -> Planned:
    case = draw(cases())
    coverage = draw(slot_runs(case, most=most_holes - 1))
    start, frontier = draw(instants(case)), draw(instants(case))
    if start > frontier:
        start, frontier = frontier, start
    limits = Limits(window_ms=draw(st.none() | instants(case)))
    wanted = wanted_span(case.grid, start, None, frontier, limits)
    missing = missing_spans(case.grid, wanted, coverage)
    page_size = base_per_bar(case) + draw(st.sampled_from((0, 1, 2, 5, 40, 400, 4_000, 50_000)))
    ranges = plan_ranges(case.calendar, case.timeframe, missing, BaseAggregates(page_size))
    return Planned(case, coverage, wanted, frontier, page_size, missing, ranges)


@given(plans())
def test_the_claims_are_the_final_wanted_slots_that_are_not_covered(plan: Planned) -> None:
    claims = Spans.union(span for planned in plan.ranges for span in planned.claims)
    expected = [
        slot
        for slot in plan.case.slots
        if plan.wanted and plan.wanted.start_ms <= slot.start and slot.end <= plan.wanted.end_ms
        if not inside(slot, plan.coverage)
    ]
    assert slots_in(plan.case, claims) == expected
    assert all(slot.end <= plan.frontier for slot in expected)


@given(plans())
def test_a_request_begins_and_ends_with_a_missing_slot_and_stays_in_what_is_wanted(
    plan: Planned,
) -> None:
    for planned in plan.ranges:
        asked = slots_in(plan.case, planned.span)
        assert planned.slots == len(asked)
        assert (asked[0].start, asked[-1].end) == planned.span
        assert inside(asked[0], plan.missing)
        assert inside(asked[-1], plan.missing)
        assert slots_in(plan.case, planned.claims) == [
            slot for slot in asked if inside(slot, plan.missing)
        ]


@given(plans())
def test_requests_come_newest_first_and_do_not_overlap(plan: Planned) -> None:
    for newer, older in pairwise(plan.ranges):
        assert older.span.end_ms <= newer.span.start_ms


def partitions(holes: list[Span]) -> list[list[list[Span]]]:
    """Every way to cut the holes, in order, into requests."""
    if not holes:
        return [[]]
    return [
        [holes[:first], *rest]
        for first in range(1, len(holes) + 1)
        for rest in partitions(holes[first:])
    ]


@st.composite
def near_holes(draw: st.DrawFn, case: Case) -> Spans:
    """Up to eight holes of a few slots, a few slots apart."""
    slots = case.slots
    at = draw(st.integers(0, len(slots) - 1))
    holes = []
    for apart, more in draw(
        st.lists(st.tuples(st.integers(1, 40), st.integers(0, 20)), min_size=2, max_size=8)
    ):
        if at + more >= len(slots):
            break
        holes.append((slots[at].start, slots[at + more].end))
        at += more + 1 + apart
    return Spans.of(*holes)


@given(st.data())
def test_no_other_way_to_join_the_holes_takes_fewer_calls_or_as_few_for_less(
    data: st.DataObject,
) -> None:
    case = data.draw(cases())
    holes = list(data.draw(near_holes(case)))
    page_size = base_per_bar(case) + data.draw(st.integers(0, 100) | st.integers(100, 10_000))

    def ranges_of(missing: Spans) -> tuple[PlannedRange, ...]:
        return plan_ranges(case.calendar, case.timeframe, missing, BaseAggregates(page_size))

    alone = {
        (first, last): ranges_of(Spans.of((first.start_ms, last.end_ms)))[0]
        for at, first in enumerate(holes)
        for last in holes[at:]
    }
    costs = []
    for cut in partitions(holes):
        joined = [alone[group[0], group[-1]] for group in cut]
        costs.append((sum(one.calls_max for one in joined), sum(one.slots for one in joined)))
    planned = ranges_of(Spans.of(*holes))
    assert (sum(r.calls_max for r in planned), sum(r.slots for r in planned)) == min(costs)


def pages_served(case: Case, span: Span, page_size: int) -> int:
    """Pages of a provider whose every aggregate traded and who cuts pages at whole bars."""
    aggregates = [slot.start for slot in slots_in(base_of(case), span)]
    bars = [
        bisect_left(aggregates, slot.end) - bisect_left(aggregates, slot.start)
        for slot in slots_in(case, span)
    ]
    pages, filled = 1, 0
    for size in bars:
        if filled + size > page_size:
            pages, filled = pages + 1, 0
        filled += size
    return pages + (filled == page_size)


@settings(max_examples=60)
@given(plans(most_holes=3))
def test_a_provider_never_needs_more_pages_than_calls_max(plan: Planned) -> None:
    for planned in plan.ranges:
        served = pages_served(plan.case, planned.span, plan.page_size)
        assert served <= planned.calls_max
        assert base_per_bar(plan.case) > 1 or served == planned.calls_max


@given(plans())
def test_expected_calls_never_exceed_calls_max_and_meet_it_when_a_page_surely_holds_all(
    plan: Planned,
) -> None:
    for planned in plan.ranges:
        assert 1 <= planned.calls <= planned.calls_max
        aggregates = len(slots_in(base_of(plan.case), planned.span))
        if aggregates + base_per_bar(plan.case) <= plan.page_size:
            assert (planned.calls, planned.calls_max) == (1, 1)


@given(cases(), st.sampled_from((1_000, 50_000)))
def test_nothing_missing_plans_nothing(case: Case, page_size: int) -> None:
    wanted = Span(case.slots[0].start, case.slots[-1].end)
    covered = Spans.of(wanted)
    missing = missing_spans(case.grid, wanted, covered)
    assert plan_ranges(case.calendar, case.timeframe, missing, BaseAggregates(page_size)) == ()


@given(cases(tuple(t for t in Timeframe if t.is_intraday)))
@example(Case("XNYS", "Thanksgiving", Timeframe.m1))
def test_closed_hours_alone_are_never_asked_for(case: Case) -> None:
    overnight = Spans.of(
        *((one.end, other.start) for one, other in pairwise(case.slots) if one.end < other.start)
    )
    assert plan_ranges(case.calendar, case.timeframe, overnight, BaseAggregates(50_000)) == ()


@settings(max_examples=5)
@given(st.sampled_from((10, 500, 50_000)), st.integers(2, 4))
def test_two_thousand_holes_are_planned_whole(page_size: int, apart: int) -> None:
    case = Case("XNYS", "half day and Independence Day", Timeframe.m1)
    holes = case.slots[: 2_000 * apart : apart]
    missing = Spans.of(*((slot.start, slot.end) for slot in holes))
    ranges = plan_ranges(case.calendar, case.timeframe, missing, BaseAggregates(page_size))
    claims = Spans.union(span for planned in ranges for span in planned.claims)
    assert claims == missing
    assert len(missing) == 2_000
    in_one_request = (2_000 * apart - apart + 1) // page_size + 1
    assert sum(planned.calls_max for planned in ranges) <= min(2_000, in_one_request)
