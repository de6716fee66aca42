"""What a verification asks for and tells: pages that are surely one call, and every difference."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.compare import Kind, compare
from backfill.core.coverage import Spans
from backfill.core.pages import BaseAggregates
from backfill.core.plan import one_page_spans, plan_ranges
from backfill.core.tolerance import USUAL, Tolerances
from backfill.errors import UsageError
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


NAMES = ("open", "high", "low", "close", "volume", "vwap", "trade_count")


@given(rows(), rows(), st.tuples(*(st.sampled_from((None, 0.0, 0.4, 0.5)) for _ in NAMES)))
def test_a_field_agrees_up_to_its_share_and_is_counted_where_both_tell_it(
    stored: dict[int, Row], provided: dict[int, Row], shares: tuple[float | None, ...]
) -> None:
    """The values drawn are equal, half of each other, or not told."""
    tolerances = Tolerances(dict(zip(NAMES, shares, strict=True)))
    both = sorted(stored.keys() & provided.keys())
    apart = {
        (ts, name): abs(mine - theirs) / max(mine, theirs)
        for ts in both
        for name, mine, theirs in zip(NAMES, stored[ts], provided[ts], strict=True)
        if mine is not None and theirs is not None
    }
    far = {
        (ts, name)
        for (ts, name), share in apart.items()
        if (most := tolerances.shares[name]) is not None and share > most
    }
    mine, theirs = as_bars(stored), as_bars(provided)
    found = compare(mine, theirs, np.empty(0, np.int64), tolerances.alike)
    assert {one.ts_ms for one in found if one.kind is Kind.changed} == {ts for ts, _ in far}
    assert {one.ts_ms for one in found if one.kind is not Kind.changed} == (
        stored.keys() ^ provided.keys()
    )
    told = tolerances.apart(mine, theirs)
    assert told.keys() == {name for name, share in tolerances.shares.items() if share is not None}
    for name, one in told.items():
        each = {ts: share for (ts, of), share in apart.items() if of == name}
        assert one.compared == len(each)
        assert one.differ == sum(of == name for _, of in far)
        assert one.largest == max(each.values(), default=0.0)
        assert one.largest_ms is None or each[one.largest_ms] == one.largest


def test_a_tolerance_is_a_percentage_of_a_field_or_none_at_all() -> None:
    shares = Tolerances.parse(["close=0.5%", "volume = any", "close=2%"]).shares
    assert dict(shares) == {**USUAL.shares, "close": 0.02, "volume": None}
    for wrong in ("volume", "volume=5", "volume=-1%", "volume=100%", "volume=nan%", "size=1%", ""):
        with pytest.raises(UsageError, match="--tolerance"):
            Tolerances.parse([wrong])
