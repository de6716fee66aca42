"""Whatever a page holds, the plan asks for all that is missing, and for no more than a page has."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from backfill.core.coverage import Span, Spans
from backfill.core.pages import BarsPerPage, BaseAggregates, Files, NewestOnly, Order, PageLaw
from backfill.core.plan import one_page_spans, plan_ranges
from backfill.core.timeframe import Timeframe
from tests.calendars import calendar

LAWS: Final = st.one_of(
    st.builds(BaseAggregates, st.integers(300, 5_000)),
    st.builds(BarsPerPage, st.integers(2, 400), st.sampled_from(Order)),
    st.builds(NewestOnly, st.integers(1, 1_000)),
    st.builds(Files, st.sampled_from((Timeframe.d1, Timeframe.mn1))),
)


@given(
    law=LAWS,
    timeframe=st.sampled_from((Timeframe.m15, Timeframe.h1, Timeframe.d1)),
    holes=st.lists(st.tuples(st.integers(0, 4_000), st.integers(1, 600)), min_size=1, max_size=6),
    name=st.sampled_from(("24/7", "XNYS")),
)
def test_requests_close_all_that_is_missing_and_none_is_larger_than_its_law(
    law: PageLaw, timeframe: Timeframe, holes: list[tuple[int, int]], name: str
) -> None:
    one = calendar(name)
    grid = one.grid(timeframe)
    last = len(grid) - 1
    missing = Spans.union(
        Span(grid.start_of(min(at, last)), grid.end_of(min(at + slots, last)))
        for at, slots in holes
    )
    ranges = plan_ranges(one, timeframe, missing, law)
    claimed = Spans.union(span for planned in ranges for span in planned.claims)
    assert not any(grid.count(span) for span in missing - claimed)
    assert not any(grid.count(span) for span in claimed - missing)
    assert [one.span.end_ms for one in ranges] == sorted(
        (one.span.end_ms for one in ranges), reverse=True
    )
    for planned in ranges:
        assert planned.claims.hull is not None
        assert planned.span.start_ms <= planned.claims.hull.start_ms
        assert planned.calls <= planned.calls_max
        if isinstance(law, BarsPerPage) and law.order is Order.oldest:
            assert planned.slots <= law.size
            assert planned.calls_max == 1
    for span in one_page_spans(one, timeframe, missing, law):
        [alone] = plan_ranges(one, timeframe, Spans.of(span), law)
        assert alone.calls_max == 1
