"""What stored bars prove of those outside the regular session, against a walk over every slot."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.coverage import Spans
from backfill.core.extended import gaps_at, lost_parts, unmade_slots
from backfill.core.rollup import roll_up
from backfill.core.timeframe import Timeframe
from tests.property.oracle import Case, Slot, cases

COARSER = (Timeframe.m15, Timeframe.m30, Timeframe.h1, Timeframe.h4)


@dataclass(frozen=True, slots=True)
class Market:
    """Bars of five minutes that were there once, those that are left, and what was made of them."""

    case: Case
    parts: Bars
    left: Bars
    made: dict[Timeframe, Bars]

    def __repr__(self) -> str:
        return f"Market of {self.case!r}, {sorted(self.made)}"

    def bars_of(self, timeframe: Timeframe) -> dict[Slot, int]:
        """In which bar of a coarser timeframe each slot lies."""
        starts = np.array([slot.start for slot in self.case.slots], np.int64)
        bars, _ = self.case.calendar.grid(timeframe).floor(starts)
        return dict(zip(self.case.slots, bars.tolist(), strict=True))


@st.composite
def markets(draw: st.DrawFn) -> Market:
    case = draw(cases((Timeframe.m5,)))
    fates = draw(st.lists(st.sampled_from("bbb-bx"), min_size=3, max_size=17))
    at = [(slot, fates[index % len(fates)]) for index, slot in enumerate(case.slots)]
    traded = [slot for slot, fate in at if fate in "bx"]
    parts = Bars.of(
        [
            (slot.start, 10.0, 11.0, 9.0, 10.5, 0.1 + index % 7, 10.2, 1 + index % 3)
            for index, slot in enumerate(traded)
        ]
    )
    left = parts.take(np.array([fate == "b" for _, fate in at if fate in "bx"], bool))
    frames = draw(st.lists(st.sampled_from(COARSER), min_size=1, unique=True))
    made = {one: roll_up(parts, case.calendar.grid(one)) for one in frames}
    return Market(case, parts, left, made)


@settings(max_examples=30)
@given(markets())
def test_where_a_part_is_lost_beside_the_session_all_that_may_be_it_is_asked_for(
    one: Market,
) -> None:
    calendar = one.case.calendar
    held = set(one.left.ts_ms.tolist())
    lost = set(one.parts.ts_ms.tolist()) - held
    known = [slot for slot in one.case.slots if slot.regular and slot.start in lost]
    gaps = Spans.union((slot.start, slot.end) for slot in known)

    found = lost_parts(calendar, Timeframe.m5, one.left, one.made, gaps)

    # The finest bar tells most: if it lost a part, and none within the session, which is known by
    # itself, it is one of the slots beside the session without a bar.
    bar_of = one.bars_of(min(one.made, key=list(Timeframe).index))
    told = {bar_of[slot] for slot in one.case.slots if slot.start in lost and not slot.regular}
    told -= {bar_of[slot] for slot in known}
    expected = [
        slot.start
        for slot in one.case.slots
        if bar_of[slot] in told and not slot.regular and slot.start not in held
    ]
    assert found.tolist() == expected
    assert sum(gap.slots for gap in gaps_at(calendar, Timeframe.m5, found)) == len(expected)
    assert not len(lost_parts(calendar, Timeframe.m5, one.parts, one.made, Spans()))


@settings(max_examples=30)
@given(markets(), st.integers(2, 5))
def test_a_coarser_bar_is_lacking_where_a_part_is_stored_beside_the_session(
    one: Market, every: int
) -> None:
    calendar = one.case.calendar
    for timeframe, bars in one.made.items():
        stored = bars.ts_ms.tolist()
        kept = bars.ts_ms[::every]
        regular = calendar.regular_grid(timeframe)

        found = unmade_slots(calendar, timeframe, one.parts.ts_ms, kept)

        lacking = sorted(set(stored) - set(kept.tolist()))
        assert found.tolist() == [ms for ms in lacking if not regular.count((ms, ms + 1))]
