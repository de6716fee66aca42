"""What a verification asks for and tells: pages that are surely one call, and every difference."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.compare import Kind, compare
from backfill.core.coverage import Spans
from backfill.core.pages import BaseAggregates
from backfill.core.plan import one_page_spans, plan_ranges
from tests.property.oracle import LENGTH_MIN, Case, cases, slot_runs
from tests.property.test_plan import DAYS_PER_BAR

Row = tuple[Any, ...]


@given(st.data(), cases())
def test_covered_slots_are_cut_into_pages_of_one_call_each(data: st.DataObject, case: Case) -> None:
    covered = case.grid.inside(data.draw(slot_runs(case, most=6)))
    per_bar = (LENGTH_MIN | DAYS_PER_BAR)[case.timeframe]
    page_size = per_bar + data.draw(st.sampled_from((1, 2, 40, 400, 50_000)))
    law = BaseAggregates(page_size)
    spans = one_page_spans(case.calendar, case.timeframe, covered, law)
    asked = [slot for span in spans for slot in case.grid.slots(span).tolist()]
    assert asked == [slot for span in covered for slot in case.grid.slots(span).tolist()]
    for span in spans:
        [planned] = plan_ranges(case.calendar, case.timeframe, Spans.of(span), law)
        # A page of one slot may be exactly full, and then a second one is looked for.
        assert planned.calls_max == 1 or planned.slots == 1
        assert planned.span == span


def rows() -> st.SearchStrategy[dict[int, Row]]:
    values = st.tuples(
        *(st.sampled_from((1.0, 2.0)) for _ in range(5)),
        st.sampled_from((None, 1.5)),
        st.sampled_from((None, 7)),
    )
    return st.dictionaries(st.integers(0, 12), values)


def as_bars(rows: dict[int, Row]) -> Bars:
    return Bars.of([(ts, *rows[ts]) for ts in sorted(rows)])


@given(rows(), rows(), st.sets(st.integers(0, 12)))
def test_every_slot_that_differs_is_told_with_its_kind_and_no_other(
    stored: dict[int, Row], provided: dict[int, Row], rejected: set[int]
) -> None:
    names = ("open", "high", "low", "close", "volume", "vwap", "trade_count")
    expected = {}
    for ts in sorted(stored.keys() | provided.keys()):
        mine, theirs = stored.get(ts), provided.get(ts)
        if mine == theirs:
            continue
        if mine is not None and theirs is not None:
            kind = Kind.changed
        elif mine is None:
            kind = Kind.not_stored
        else:
            kind = Kind.rejected if ts in rejected else Kind.gone
        expected[ts] = (
            kind,
            dict(zip(names, mine, strict=True)) if mine else None,
            dict(zip(names, theirs, strict=True)) if theirs else None,
        )
    found = compare(as_bars(stored), as_bars(provided), np.array(sorted(rejected), np.int64))
    assert {one.ts_ms: (one.kind, one.stored, one.provided) for one in found} == expected
    assert [one.ts_ms for one in found] == sorted(expected)
