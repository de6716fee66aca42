"""Known-empty slots against a walk through the regular session's slots, one by one."""

from datetime import date
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.coverage import Spans
from backfill.core.empty import EmptyReason, EmptySlots, empty_slots
from backfill.core.timeframe import Timeframe
from tests.property.oracle import Case, Slot, cases, slot_runs, slots_in

Answer = tuple[Case, Spans, set[int], set[int]]


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Claims, the starts of the bars that came, and of those rejected; sessions may miss whole."""
    case = draw(cases(tuple(t for t in Timeframe if t is not Timeframe.m1)))
    claims = draw(slot_runs(case, most=4))
    claimed = slots_in(case, claims)
    days = sorted({slot.session for slot in claimed})
    away = set(draw(st.lists(st.sampled_from(days), max_size=6))) if days else set()
    at_hand = [slot.start for slot in claimed if slot.session not in away]
    pattern = draw(st.lists(st.sampled_from("pppq-"), min_size=1, max_size=7))
    fates = [pattern[index % len(pattern)] for index in range(len(at_hand))]
    present = {start for start, fate in zip(at_hand, fates, strict=True) if fate == "p"}
    rejected = {start for start, fate in zip(at_hand, fates, strict=True) if fate == "q"}
    return case, claims, present, rejected


def found_in(answer: Answer) -> list[EmptySlots]:
    case, claims, present, rejected = answer
    columns = [np.array(sorted(starts), np.int64) for starts in (present, rejected)]
    return empty_slots(case.calendar, case.timeframe, claims, columns[0], columns[1])


def expected_in(answer: Answer) -> list[tuple[Slot, EmptyReason]]:
    case, claims, present, rejected = answer
    came = {slot.session for slot in case.slots if slot.start in present | rejected}
    expected = []
    for slot in slots_in(case, claims):
        if not slot.regular or slot.start in present:
            continue
        reason = EmptyReason.no_trades if slot.session in came else EmptyReason.absent
        expected.append((slot, EmptyReason.quarantined if slot.start in rejected else reason))
    return expected


@given(answers())
def test_each_empty_slot_of_the_regular_session_is_held_for_its_reason_and_no_other(
    answer: Answer,
) -> None:
    case, found = answer[0], found_in(answer)
    for reason in EmptyReason:
        spans = Spans.union(
            span for entry in found if entry.reason is reason for span in entry.slots
        )
        held = [slot for slot in slots_in(case, spans) if slot.regular]
        assert held == [slot for slot, why in expected_in(answer) if why is reason]


@given(answers())
def test_every_entry_lies_in_its_month_by_exchange_time(answer: Answer) -> None:
    case = answer[0]
    for entry in found_in(answer):
        assert entry.month.day == 1
        months = {
            case.calendar.day_of(slot.start).replace(day=1)
            for slot in slots_in(case, entry.slots)
            if slot.regular
        }
        assert months == {entry.month}


@given(answers())
def test_neighbours_of_one_reason_and_month_are_one_span_over_closed_hours(
    answer: Answer,
) -> None:
    case, claims, _, _ = answer
    found, reasons = found_in(answer), dict(expected_in(answer))
    spans = [span for entry in found for span in entry.slots]
    regular = [slot for slot in case.slots if slot.regular]
    assert {span.start_ms for span in spans} <= {slot.start for slot in regular}
    assert {span.end_ms for span in spans} <= {slot.end for slot in regular}
    for one, other in pairwise(regular):
        same_claim = claims.covers(one.start, other.end)
        same_month = _month(case, one) == _month(case, other)
        if one in reasons and reasons[one] is reasons.get(other) and same_claim and same_month:
            assert any(s <= one.start and other.end <= e for s, e in spans)


def _month(case: Case, slot: Slot) -> date:
    return case.calendar.day_of(slot.start).replace(day=1)


def test_nothing_claimed_leaves_nothing_empty() -> None:
    case = Case("XNYS", "Thanksgiving", Timeframe.h1)
    assert found_in((case, Spans(), set(), set())) == []
