"""How long a series is silent, and usually is, against a walk over the slots one by one."""

from itertools import groupby

from hypothesis import assume, given
from hypothesis import strategies as st

from backfill.core.coverage import Span, Spans
from backfill.core.freshness import Silence, State, looked_back_from, share_of, state_of
from tests.property.oracle import LENGTH_MIN, Case, Slot, cases, slot_runs, slots_in

FEW = 40
"""Slots of a season that a walk is taken over."""


def regular(case: Case) -> list[Slot]:
    return [slot for slot in case.slots if slot.regular]


def runs(slots: list[Slot], chosen: set[Slot]) -> list[list[Slot]]:
    """The chosen slots that follow one another on the calendar."""
    return [
        list(run) for is_chosen, run in groupby(slots, lambda slot: slot in chosen) if is_chosen
    ]


@given(cases(), st.data())
def test_a_series_may_be_silent_twice_as_long_as_it_was_twice_or_as_long_as_is_confirmed(
    case: Case, data: st.DataObject
) -> None:
    slots = regular(case)
    first = data.draw(st.integers(0, max(0, len(slots) - FEW)), label="first")
    slots = slots[first : first + FEW]
    kinds = st.lists(st.sampled_from(("bar", "empty", "lost")), min_size=len(slots))
    kind = dict(zip(slots, data.draw(kinds, label="kinds"), strict=False))
    bars = [slot for slot in slots if kind[slot] == "bar"]
    assume(bars)
    newest = bars[-1]
    settled = {slot for slot in slots if kind[slot] == "empty"}
    past = [slot for slot in slots if slot < newest]
    after = [slot for slot in slots if slot > newest]

    found = Silence.of(
        case.calendar.regular_grid(case.timeframe),
        case.timeframe,
        Span(newest.start + 1, slots[-1].end),
        Spans.of(*((slot.start, slot.end) for slot in after if slot in settled)),
        # As they are kept: parted over closed hours or not.
        [Span(slot.start, slot.end) for slot in past if slot in settled],
    )

    lengths = sorted(len(run) for run in runs(past, settled))
    twice = 2 * lengths[-2] if len(lengths) > 1 else 0
    usual = max(twice, 15 // LENGTH_MIN.get(case.timeframe, 16))
    unconfirmed = [slot for slot in after if slot not in settled]
    assert found == Silence(len(after), len(unconfirmed), usual)
    is_fresh = not unconfirmed or len(after) <= usual
    state = state_of(bars=len(bars), behind=0, silence=found)
    assert state is (State.fresh if is_fresh else State.silent)


@given(cases(), st.data())
def test_a_provider_that_stands_still_is_noticed_within_a_quarter_of_an_hour_or_a_bar(
    case: Case, data: st.DataObject
) -> None:
    slots = regular(case)
    newest = data.draw(st.sampled_from(slots), label="newest")
    due = data.draw(st.sampled_from(slots), label="last due")
    lost = [slot for slot in slots if newest < slot <= due]
    grid = case.calendar.regular_grid(case.timeframe)
    outage = data.draw(slot_runs(case, most=1), label="an earlier one")
    before = [Span(*span) for span in outage if span.end_ms <= newest.start]

    # Every slot before it holds a bar, but for one outage that was confirmed.
    silence = Silence.of(
        grid,
        case.timeframe,
        Span(newest.start + 1, max(due.end, newest.start + 1)),
        before=before,
    )

    a_moment = 15 // LENGTH_MIN.get(case.timeframe, 16)
    is_silent = state_of(bars=1, behind=0, silence=silence) is State.silent
    assert is_silent == (len(lost) > a_moment)


@given(cases(), st.data())
def test_silences_are_looked_back_for_over_twenty_sessions_or_sixty_longer_bars(
    case: Case, data: st.DataObject
) -> None:
    slots = regular(case)
    newest = data.draw(st.sampled_from(slots), label="newest")
    begins: dict[object, int] = {}
    for slot in slots:
        key = slot.session if case.timeframe in LENGTH_MIN else slot.start
        begins.setdefault(key, slot.start)
    until = [start for start in begins.values() if start <= newest.start]
    back = 20 if case.timeframe in LENGTH_MIN else 60

    grid = case.calendar.regular_grid(case.timeframe)
    found = looked_back_from(grid, case.timeframe, newest.start)

    assert found == until[max(0, len(until) - 1 - back)]


@given(cases(), st.data())
def test_a_share_counts_the_slots_that_are_wanted_and_covered(
    case: Case, data: st.DataObject
) -> None:
    coverage = data.draw(slot_runs(case), label="coverage")
    [wanted, *_] = data.draw(slot_runs(case, most=1), label="wanted") or [None]
    covered, slots = share_of(case.grid, wanted, coverage)
    if wanted is None:
        assert (covered, slots) == (0, 0)
    else:
        assert slots == len(slots_in(case, wanted))
        assert covered == len(slots_in(case, coverage & Spans.of(wanted)))


def test_a_series_without_bars_is_never_fresh_and_who_was_not_asked_is_behind() -> None:
    confirmed = Silence(3, 0, 0)
    assert state_of(bars=0, behind=0, silence=confirmed) is State.empty
    assert state_of(bars=1, behind=1, silence=confirmed) is State.behind
    assert state_of(bars=1, behind=0, silence=confirmed) is State.fresh
