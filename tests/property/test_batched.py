"""Batches: whatever is missing of whom, no piece of work is lost, and every batch fits a page."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from backfill.core.batched import batch, range_of
from backfill.core.capabilities import Capabilities
from backfill.core.coverage import Span, Spans
from backfill.core.pages import BarsPerPage
from backfill.core.planning import plan_work
from backfill.core.precision import EXACT
from backfill.core.series import Progress, Source, Symbol
from backfill.core.terms import UNTOLD, Quota, Terms
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.work import Demand, Mode, Rules, Work
from tests.calendars import calendar

XNYS: Final = calendar("XNYS")
FIRST: Final = date(2024, 7, 8)
NOW_MS: Final = XNYS.midnight(date(2024, 7, 17)) + DAY_MS // 2
SOURCE: Final = Source("many", "sip", "raw")
INTRADAY: Final = frozenset(one for one in Timeframe if one.is_intraday)
TERMS: Final = Terms("all", Quota(), UNTOLD, None, date(2020, 1, 1))


def work_of(number: int, timeframe: Timeframe, back_slots: int, size: int) -> Work | None:
    """A series of which so many of the newest slots are missing, as a run plans it."""
    can = Capabilities("sip", {"stock": INTRADAY}, ("raw",), BarsPerPage(size))
    rules = Rules("many", can, "raw", TERMS, NOW_MS, precision=EXACT)
    symbol = Symbol(number, f"S{number:03}", "stock", "XNYS", confirmed=True)
    grid = XNYS.grid(timeframe)
    due = grid.narrow((XNYS.midnight(FIRST), rules.final_ms(symbol, XNYS, timeframe)))
    assert due is not None
    newest = grid.index_from(due.end_ms)
    covered = Span(due.start_ms, grid.start_of(newest - back_slots))
    known = Progress(
        source=SOURCE,
        coverage=Spans.of(covered),
        oldest_bar_ms=covered.start_ms,
        newest_bar_ms=covered.end_ms - 1,
        wanted_from_ms=covered.start_ms,
    )
    demand = Demand(FIRST, Mode.incremental)
    [work] = plan_work(symbol, [timeframe], XNYS, rules, demand, {(number, timeframe): known})
    return work if work.ranges else None


MISSING: Final = st.lists(
    st.tuples(st.sampled_from([Timeframe.m5, Timeframe.m15, Timeframe.h1]), st.integers(0, 40)),
    max_size=30,
)


@given(missing=MISSING, size=st.integers(10, 400), most=st.integers(1, 12))
def test_every_slot_that_a_batch_is_to_close_is_asked_for_within_one_page(
    missing: list[tuple[Timeframe, int]], size: int, most: int
) -> None:
    every = [work_of(number, *one, size) for number, one in enumerate(missing, 1)]
    work = [one for one in every if one is not None]
    law = BarsPerPage(size)
    found = batch(work, law, most)
    joined = list(found.work)
    assert len(set(joined)) == len(joined)
    assert set(joined) <= set(work)
    for one in found.batches:
        assert 2 <= len(one.work) <= most
        [base] = {piece.base for piece in one.work}
        grid = XNYS.grid(base)
        assert grid.count(one.span) * len(one.work) <= size
        for piece in one.work:
            planned = range_of(piece)
            for span in planned.claims:
                assert one.span.start_ms <= span.start_ms <= span.end_ms <= one.span.end_ms
    # What is left alone is of another timeframe, or there is no room for it beside the others.
    assert found.calls * 2 <= len(joined)


@given(count=st.integers(2, 30), slots=st.integers(1, 12), most=st.integers(2, 12))
def test_alike_series_take_the_fewest_calls_that_hold_them(
    count: int, slots: int, most: int
) -> None:
    size = 96
    work = [work_of(number, Timeframe.m15, slots, size) for number in range(1, count + 1)]
    found = batch([one for one in work if one], BarsPerPage(size), most)
    alone = count - len(found.work)
    # A page that is just full may be followed by another.
    assert found.calls + alone == -(-count // min(most, (size - 1) // slots))


def test_what_a_single_answer_has_to_settle_first_is_asked_for_alone() -> None:
    work = [one for number in range(1, 4) if (one := work_of(number, Timeframe.m15, 4, 100))]
    first, *others = work
    assert len(batch(work, BarsPerPage(100), 9).work) == 3
    symbol = first.symbol
    for doubtful in (
        replace(symbol, confirmed=False),
        replace(symbol, delisted_on=date(2024, 7, 17) + timedelta(days=9)),
        replace(symbol, asset_type="crypto"),
    ):
        assert first.symbol.id not in {
            one.symbol.id
            for one in batch([replace(first, symbol=doubtful), *others], BarsPerPage(100), 9).work
        }
    unloaded = replace(first, targets=(replace(first.targets[0], is_loaded=False),))
    assert unloaded not in batch([unloaded, *others], BarsPerPage(100), 9).work
