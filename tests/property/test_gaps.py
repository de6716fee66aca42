"""Gap finding against a walk through the due slots of the regular session, one by one."""

from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.coverage import Spans
from backfill.core.empty import EmptyReason
from backfill.core.gaps import find_gaps, with_extended_hours
from backfill.core.timeframe import Timeframe
from tests.property.oracle import Case, Slot, cases, slot_runs, slots_in

HELD = (EmptyReason.absent, EmptyReason.quarantined)


class Holes(NamedTuple):
    """What is due of a series, and what became of each slot of it."""

    case: Case
    due: Spans
    stored: set[int]
    settled: Spans
    held: dict[EmptyReason, Spans]


@st.composite
def holes(draw: st.DrawFn) -> Holes:
    case = draw(cases(tuple(t for t in Timeframe if t is not Timeframe.m1)))
    due = draw(slot_runs(case, most=3))
    slots = slots_in(case, due)
    pattern = draw(st.lists(st.sampled_from("bbbbb-sah"), min_size=1, max_size=11))
    fates = {slot: pattern[index % len(pattern)] for index, slot in enumerate(slots)}

    def spans(fate: str) -> Spans:
        return Spans.union((slot.start, slot.end) for slot in slots if fates[slot] == fate)

    return Holes(
        case,
        due,
        {slot.start for slot in slots if fates[slot] == "b"},
        spans("s"),
        dict(zip(HELD, (spans("a"), spans("h")), strict=True)),
    )


def walk(given_holes: Holes) -> list[tuple[list[Slot], EmptyReason | None]]:
    """Runs of missing slots of one reason, with no due or stored regular slot between them."""
    case, due, stored, settled, held = given_holes
    runs: list[tuple[list[Slot], EmptyReason | None]] = []
    last_index = -2
    regular = [slot for slot in case.slots if slot.regular]
    wanted = set(slots_in(case, due))
    for index, slot in enumerate(regular):
        if slot not in wanted or slot.start in stored or settled.covers(slot.start, slot.end):
            continue
        reason = next((one for one in HELD if held[one].covers(slot.start, slot.end)), None)
        if index == last_index + 1 and runs[-1][1] is reason:
            runs[-1][0].append(slot)
        else:
            runs.append(([slot], reason))
        last_index = index
    return runs


@given(holes())
def test_gaps_are_the_runs_of_due_regular_slots_that_nothing_accounts_for(one: Holes) -> None:
    found = find_gaps(
        one.case.calendar.regular_grid(one.case.timeframe),
        one.due,
        np.array(sorted(one.stored), np.int64),
        one.settled,
        one.held,
    )
    expected = walk(one)
    assert [(gap.span.start_ms, gap.span.end_ms, gap.slots, gap.reason) for gap in found] == [
        (run[0].start, run[-1].end, len(run), reason) for run, reason in expected
    ]


@given(cases(tuple(t for t in Timeframe if t.is_intraday and t is not Timeframe.m1)), st.data())
def test_a_gap_at_the_end_of_a_session_is_asked_for_with_the_hours_around_it(
    case: Case, data: st.DataObject
) -> None:
    regular = [slot for slot in case.slots if slot.regular]
    first, last = sorted(
        data.draw(st.integers(0, len(regular) - 1), label=name) for name in ("first", "last")
    )
    span = (regular[first].start, regular[last].end)
    asked = with_extended_hours(case.calendar, case.timeframe, Spans.of(span))
    day_of = {slot.start: slot.session for slot in case.slots}
    begins = first == 0 or day_of[regular[first - 1].start] != day_of[regular[first].start]
    ends = (
        last == len(regular) - 1 or day_of[regular[last + 1].start] != day_of[regular[last].start]
    )
    whole = [
        slot
        for slot in case.slots
        if span[0] <= slot.start < span[1]
        or (begins and slot.session == regular[first].session and slot.start < span[0])
        or (ends and slot.session == regular[last].session and slot.end > span[1])
    ]
    assert set(slots_in(case, asked)) == set(whole)
