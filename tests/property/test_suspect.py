"""Suspect sessions against a walk through them, one by one; requests that go back for nothing."""

from functools import reduce
from operator import or_
from statistics import median

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.coverage import Spans
from backfill.core.empty import EmptyReason, EmptySlots
from backfill.core.pages import BaseAggregates
from backfill.core.plan import plan_ranges, reach_back
from backfill.core.suspect import Doubt, too_few
from backfill.core.timeframe import Timeframe
from tests.property.oracle import Case, cases, slot_runs, slots_in

CASES = cases(tuple(one for one in Timeframe if one is not Timeframe.m1))
HALF_DAY = 210
DAY = 390


@st.composite
def weeks(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Slots answered for, and bars held, of sessions: some half, open, or nearly empty."""
    number = draw(st.integers(1, 60))
    slots = draw(
        st.lists(st.sampled_from((0, 30, HALF_DAY, DAY, DAY)), min_size=number, max_size=number)
    )
    usual = draw(st.sampled_from((15, 80, 380)))
    bars = [
        min(of, usual * of // DAY * draw(st.sampled_from((0, 1, 4, 10, 10, 10))) // 10)
        for of in slots
    ]
    return slots, bars


@given(weeks())
def test_a_session_is_suspect_by_the_median_of_its_twenty_nearest_scaled_to_its_length(
    one: tuple[list[int], list[int]],
) -> None:
    slots, bars = one
    known = [at for at, of in enumerate(slots) if of]
    expected = []
    for at in range(len(slots)):
        place = known.index(at) if at in known else -1
        first = max(0, min(place - 10, len(known) - 21))
        near = [other for other in known[first : first + 21] if other != at]
        scaled = median(bars[o] / slots[o] for o in near) * slots[at] if near and slots[at] else 0
        expected.append(scaled >= 20 and bars[at] * 5 < scaled)
    found = too_few(np.array(slots), np.array(bars), np.arange(len(slots)))
    assert found.tolist() == expected


@given(CASES, st.data())
def test_doubts_about_two_parts_are_the_doubt_about_both(one: Case, data: st.DataObject) -> None:
    present = data.draw(st.lists(st.sampled_from(one.slots)), label="present")
    days = sorted({slot.session for slot in one.slots})
    cut_ms = one.calendar.midnight(data.draw(st.sampled_from(days), label="cut"))
    here = np.array(sorted({slot.start for slot in present}), np.int64)
    whole = Spans.of((one.slots[0].start, one.slots[-1].end))
    parts = (whole & Spans.of((-(2**62), cut_ms)), whole & Spans.of((cut_ms, 2**62)))

    def doubt(asked: Spans) -> Doubt | None:
        held = Spans.of(*((slot.start, slot.end) for slot in present))
        return Doubt.about(one.calendar, one.timeframe, asked - held, asked, here)

    both = [found for part in parts if (found := doubt(part)) is not None]
    expected = doubt(whole)
    if not one.timeframe.is_intraday or expected is None:
        assert both == []
        return
    found = reduce(or_, both)
    for name in ("sessions", "thin", "emptied"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist()


@given(CASES, st.data())
def test_what_is_asked_again_takes_no_call_more_and_loses_nothing_of_what_is_due(
    one: Case, data: st.DataObject
) -> None:
    missing = data.draw(slot_runs(one, most=3), label="missing")
    again = data.draw(slot_runs(one, most=4), label="again")
    size = data.draw(st.integers(2000, 60_000), label="page size")
    law = BaseAggregates(size)
    planned = plan_ranges(one.calendar, one.timeframe, missing, law)
    reaching = reach_back(one.calendar, one.timeframe, planned, again, law)
    assert [(a.calls, a.calls_max) for a in reaching] == [(b.calls, b.calls_max) for b in planned]
    for before, after in zip(planned, reaching, strict=True):
        assert not before.claims - after.claims
        assert not after.claims - before.claims - again
        assert after.span.start_ms <= before.span.start_ms
        assert after.span.end_ms == before.span.end_ms
    if planned and planned[0].calls_max == 1 and size >= 50_000:
        hull = one.grid.count((one.slots[0].start, planned[0].span.end_ms))
        if hull * one.timeframe.most_base < size:
            back = [slot for slot in slots_in(one, again) if slot.end <= planned[0].span.end_ms]
            assert all(reaching[0].claims.covers(slot.start, slot.end) for slot in back)


def test_what_a_suspect_session_lacks_is_unconfirmed_and_the_rest_stays() -> None:
    days = Case("XNYS", "Thanksgiving", Timeframe.m5).calendar
    grid = days.regular_grid(Timeframe.m5)
    first, second = ((s, e) for (s, e), _ in grid.blocks((0, 2**62))[:2])
    month = days.day_of(first[0]).replace(day=1)
    slots = Spans.of((first[0], first[0] + 600_000), (second[0], second[1]))
    empty = [EmptySlots(month, EmptyReason.no_trades, slots)]
    doubt = Doubt.about(days, Timeframe.m5, slots, Spans.of(first, second), np.empty(0, np.int64))
    assert doubt is not None
    found = doubt.unconfirmed(empty, Spans.of(second))
    assert [(one.reason, one.slots) for one in found] == [
        (EmptyReason.no_trades, Spans.of((first[0], first[0] + 600_000))),
        (EmptyReason.unconfirmed, Spans.of(second)),
    ]
