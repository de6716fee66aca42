"""Dated names: whatever the changes, each day is asked for under the name it had."""

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.pages import BaseAggregates
from backfill.core.paging import Paging
from backfill.core.planning import plan_work
from backfill.core.series import Alias, Symbol, aliases_of, dated_back
from backfill.core.terms import Quota, Settling, Terms
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.core.wire import DatedName, Page, Request
from backfill.core.work import Demand, Rules, Work
from tests.calendars import calendar
from tests.capable import capable

FIRST, LAST = date(2023, 10, 2), date(2024, 3, 28)
CALENDAR = calendar("XNYS", date(2023, 9, 1), date(2024, 4, 30))
RULES = Rules(
    provider="test",
    can=capable(pages=BaseAggregates(500)),
    adjustment="raw",
    terms=Terms("test", Quota(), Settling(0, 0), None, date(2003, 9, 10)),
    now_ms=CALENDAR.midnight(LAST + timedelta(days=20)),
)
days = st.dates(FIRST - timedelta(days=40), LAST + timedelta(days=20))


@st.composite
def names(draw: st.DrawFn) -> list[DatedName]:
    """Names that a company took on, one after another, on sessions or not."""
    began = sorted(draw(st.sets(days, min_size=1, max_size=4)))
    return [DatedName(f"N{index}", day) for index, day in enumerate(began)]


def renamed(dated: list[DatedName]) -> Symbol:
    ticker = dated[-1].ticker
    return Symbol(1, ticker, "stock", "XNYS", aliases=aliases_of(ticker, reversed(dated)))


def planned(symbol: Symbol, timeframe: Timeframe) -> Work:
    demand = Demand(FIRST, first=Bound(FIRST), last=Bound(LAST))
    [work] = plan_work(symbol, [timeframe], CALENDAR, RULES, demand, {})
    return work


@given(names(), days)
def test_a_symbol_has_on_each_day_the_name_that_it_took_on_last(
    dated: list[DatedName], day: date
) -> None:
    taken = [name.ticker for name in dated if name.since <= day] or [dated[0].ticker]
    assert renamed(dated).on(day).ticker == taken[-1]


@given(names(), st.sampled_from(Timeframe))
def test_no_request_straddles_a_change_and_together_they_ask_for_all_that_is_missing(
    dated: list[DatedName], timeframe: Timeframe
) -> None:
    symbol = renamed(dated)
    work = planned(symbol, timeframe)
    coarse = timeframe in {Timeframe.w1, Timeframe.mn1}
    assert work.base is (Timeframe.d1 if coarse and symbol.aliases else timeframe)
    grid = CALENDAR.grid(work.base)
    asked: list[int] = []
    for one in work.ranges:
        slots = grid.slots(one.span).tolist()
        asked += slots
        for day in {CALENDAR.day_of(start) for start in slots}:
            assert symbol.on(day) == work.asked(one, "raw").symbol
    missing = [start for span in work.targets[0].missing for start in grid.slots(span).tolist()]
    assert sorted(asked) == missing
    starts = [one.span.start_ms for one in work.ranges]
    assert starts == sorted(starts, reverse=True)


@given(names())
def test_the_names_of_somebody_else_tell_nothing(dated: list[DatedName]) -> None:
    assert aliases_of("ANOTHER", dated) == ()


@given(names(), st.integers(-20, 20))
def test_a_change_is_dated_back_by_a_week_at_most_and_never_on(
    dated: list[DatedName], off: int
) -> None:
    aliases = renamed(dated).aliases
    began = dated[-1].since + timedelta(days=off)
    moved = dated_back(aliases, began)
    if aliases and -7 <= off < 0 and began > aliases[-1].valid_from:
        last = aliases[-1]
        assert moved == (*aliases[:-1], Alias(last.ticker, last.valid_from, began))
    else:
        assert moved == aliases


@given(st.integers(0, 60), st.integers(0, 25), st.booleans())
def test_a_page_leaves_a_question_where_it_begins_late_or_is_silent_for_more_than_two_weeks(
    late: int, silent: int, last: bool
) -> None:
    work = planned(Symbol(1, "A", "stock", "XNYS"), Timeframe.d1)
    [whole] = work.ranges
    slots = CALENDAR.grid(Timeframe.d1).slots(whole.span)
    kept = np.concatenate((slots[late:80], slots[80 + silent :]))
    bars = Bars.of([(int(ts), 1.0, 1.0, 1.0, 1.0, 1.0, None, None) for ts in kept])
    page = Page(bars, None if last else Request("/next"))
    pages = Paging(work, whole, RULES.now_ms)

    assert pages.leaves_a_question(page) == ((last and late > 0) or silent > 10)
    since = pages.trades_since(page)
    assert since == CALENDAR.day_of(int(slots[80 + silent] if silent > 10 else slots[late]))


@pytest.mark.parametrize("unit", [1 / 1000, 1000, 1_000_000])
def test_stamps_of_another_unit_tell_no_day(unit: float) -> None:
    work = planned(Symbol(1, "A", "stock", "XNYS"), Timeframe.d1)
    [whole] = work.ranges
    stamps = [int(ts * unit) for ts in CALENDAR.grid(Timeframe.d1).slots(whole.span).tolist()]
    page = Page(Bars.of([(ts, 1.0, 1.0, 1.0, 1.0, 1.0, None, None) for ts in stamps]), None)
    pages = Paging(work, whole, RULES.now_ms)

    pages.leaves_a_question(page)
    assert pages.trades_since(page) is None


def test_a_series_of_a_retired_symbol_or_of_a_ticker_with_a_new_owner_wants_nothing() -> None:
    for symbol in (
        Symbol(1, "A@2024-01-02", "stock", "XNYS", retired_on=date(2024, 2, 1)),
        Symbol(1, "A", "stock", "XNYS", figi="BBG1", successor_figi="BBG2"),
    ):
        work = planned(symbol, Timeframe.d1)
        refusal = work.targets[0].refusal
        assert refusal is not None
        assert (refusal.outcome, work.ranges) == ("source_mismatch", ())
    assert "BBG1" in str(refusal)
    assert "BBG2" in str(refusal)
    assert "backfill symbols retire A" in str(refusal)
