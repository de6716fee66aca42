"""A strip against a walk through the slots, one by one: a column shows the worst that is in it."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from backfill.core.coverage import Span, Spans
from backfill.core.grid import Grid
from backfill.core.timeframe import Timeframe
from backfill.report.drawing import STACKED, mix, strip
from backfill.report.facts import Cell
from backfill.report.strips import Axis, Lot, cells, mixed
from tests.property.oracle import Case, Slot, cases

WORST: Final = {
    "b": Cell.stored, "e": Cell.empty, "n": Cell.uncovered, "u": Cell.unconfirmed,
    "q": Cell.quarantined, "g": Cell.gap, "x": Cell.nothing,
}  # fmt: skip
RANK: Final = ["x", "b", "n", "u", "q", "g"]
COARSE: Final = tuple(t for t in Timeframe if t not in {Timeframe.m1, Timeframe.m5})


class Fates:
    """What became of each regular slot of a case, and the lot that says so in spans."""

    def __init__(self, case: Case, pattern: list[str]) -> None:
        self.case = case
        self.slots: list[Slot] = [slot for slot in case.slots if slot.regular]
        # Fates in runs of one to nine slots, of which some reach over columns.
        runs = [fate for index, fate in enumerate(pattern) for _ in range(1 + index * 7 % 9)]
        self.fates = [runs[index % len(runs)] for index in range(len(self.slots))]

    def spans(self, *fates: str) -> Spans:
        held = zip(self.slots, self.fates, strict=True)
        return Spans.union((slot.start, slot.end) for slot, fate in held if fate in fates)

    @property
    def lot(self) -> Lot:
        holes = {WORST[one]: self.spans(one).items for one in "uqg"}
        return Lot(self.spans(*"benuqg"), self.spans("n"), self.spans("e"), holes)

    def expected(self, axis: Axis, place: int) -> set[Cell]:
        """What a column may show; the neighbours decide where it has no slot."""
        begins, ends = axis.column(place)
        here = [
            fate
            for slot, fate in zip(self.slots, self.fates, strict=True)
            if begins <= slot.start < ends
        ]
        if not here:
            return set(Cell)
        if all(fate == "e" for fate in here):
            return {Cell.empty}
        return {WORST[max((fate.replace("e", "b") for fate in here), key=RANK.index)]}


def regular(case: Case) -> Grid:
    return case.calendar.regular_grid(case.timeframe)


@given(cases(COARSE), st.lists(st.sampled_from("bbenuqgx"), min_size=1, max_size=9), st.data())
def test_each_column_shows_the_worst_of_its_slots(
    case: Case, pattern: list[str], data: st.DataObject
) -> None:
    fates = Fates(case, pattern)
    columns = data.draw(st.integers(1, 12) | st.integers(1, 120))
    axis = Axis.over(Span(*case.reach), columns, regular(case))
    shown = cells(axis, fates.lot)
    assert len(shown) == columns
    for place, sign in enumerate(shown):
        assert Cell(sign) in fates.expected(axis, place), (place, shown)


@given(cases(COARSE), st.data())
def test_a_hole_of_one_slot_shows_however_many_slots_share_its_column(
    case: Case, data: st.DataObject
) -> None:
    slots = [slot for slot in case.slots if slot.regular]
    lost = data.draw(st.sampled_from(slots))
    axis = Axis.over(Span(*case.reach), data.draw(st.integers(1, 120)), regular(case))
    hole = Span(lost.start, lost.end)
    shown = cells(axis, Lot(Spans.of(case.reach), Spans(), Spans(), {Cell.gap: [hole]}))
    place = (lost.start - axis.start_ms) // axis.width_ms
    assert shown[place] == Cell.gap
    has_slot = [bool(number) for number in axis.slots]
    marked = [at for at, sign in enumerate(shown) if sign == Cell.gap and has_slot[at]]
    assert marked == [place]


STRIPS: Final = st.lists(st.text("seungq.", min_size=7, max_size=7), min_size=1, max_size=9)


@given(STRIPS)
def test_a_mix_counts_every_series_that_shows_something_in_a_column(strips: list[str]) -> None:
    for place, counts in enumerate(mixed(strips, 7)):
        shown = [one[place] for one in strips if one[place] != Cell.nothing]
        assert counts == {sign: shown.count(sign) for sign in set(shown)}


@given(STRIPS)
def test_every_state_of_a_strip_is_drawn_by_a_shape_of_its_own(strips: list[str]) -> None:
    for one in strips:
        drawn = dict(strip(one))
        assert set(drawn) == {Cell(sign).name for sign in one} - {"nothing"}
        assert len(set(drawn.values())) == len(drawn)
    mixes = dict(mix(mixed(strips, 7)))
    assert set(mixes) <= {cell.name for cell in STACKED}
    assert set(mixes) == {Cell(sign).name for one in strips for sign in one} - {"nothing"}
