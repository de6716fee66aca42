"""What pages hold: the bars that fill empty slots, the newest only, and what a range costs."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pytest

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.coverage import Span, Spans
from backfill.core.empty import EmptyReason
from backfill.core.pages import BarsPerPage, NewestOnly, Order, reach_ms
from backfill.core.paging import Chunk, Paging
from backfill.core.plan import PlannedRange, plan_ranges
from backfill.core.series import Series, Source, Symbol
from backfill.core.timeframe import DAY_MS, HOUR_MS, Timeframe
from backfill.core.wire import Page
from backfill.core.work import Target, Work
from tests.calendars import calendar

ALWAYS: Final = calendar("24/7")
BITCOIN: Final = Symbol(1, "X:BTCUSD", "crypto", "24/7")
FIRST: Final = round(datetime(2024, 6, 3, tzinfo=UTC).timestamp() * 1000)


def read(volumes: list[float], *, silent_before_ms: int | None = None) -> Chunk:
    """Read the only page of ten hours, whose bars have these volumes."""
    span = Span(FIRST, FIRST + 10 * HOUR_MS)
    series = Series(BITCOIN, Timeframe.h1)
    target = Target(series, Source("p", "f", "raw"), span, Spans.of(span))
    planned = PlannedRange(span, Spans.of(span), 10, 1, 1)
    work = Work(BITCOIN, ALWAYS, Timeframe.h1, (target,), (planned,), fills_empty=True)
    stamps = FIRST + HOUR_MS * np.arange(10 - len(volumes), 10)
    ones = np.ones(len(volumes))
    bars = Bars(
        stamps, ones, ones, ones, ones, np.array(volumes),
        ones * np.nan, np.full(len(volumes), NO_COUNT),
    )  # fmt: skip
    [chunk] = Paging(work, planned, span.end_ms * 2).read(
        Page(bars, None, silent_before_ms=silent_before_ms), None, span.end_ms
    )
    return chunk


def test_a_bar_without_volume_that_fills_a_slot_is_known_to_be_empty_and_no_bar() -> None:
    chunk = read([5, 0, 5, 5, 0, 0, 5, 5, 0, 0])
    assert chunk.bars.ts_ms.tolist() == [FIRST + hour * HOUR_MS for hour in (0, 2, 3, 6, 7)]
    empty = {one.reason: one.slots for one in chunk.empty}
    # Those at the end, too: the provider has answered for them.
    assert empty.keys() == {EmptyReason.no_trades}
    assert sum(span.end_ms - span.start_ms for span in empty[EmptyReason.no_trades]) == 5 * HOUR_MS
    assert chunk.claims.items == (Span(FIRST, FIRST + 10 * HOUR_MS),)


def test_what_only_the_newest_page_could_tell_of_is_not_claimed() -> None:
    third = FIRST + 3 * HOUR_MS
    chunk = read([5] * 7, silent_before_ms=third)
    assert len(chunk.bars) == 7
    assert chunk.claims.items == (Span(third, FIRST + 10 * HOUR_MS),)
    assert chunk.empty == []


@pytest.mark.parametrize(("at", "first"), [(0, 8), (1, 8), (HOUR_MS - 1, 8), (HOUR_MS, 9)])
def test_the_newest_slots_include_the_one_that_forms(at: int, first: int) -> None:
    now_ms = FIRST + 10 * HOUR_MS + at
    reached = reach_ms(NewestOnly(3), ALWAYS, Timeframe.h1, now_ms)
    assert reached == FIRST + first * HOUR_MS


def test_a_session_of_fillers_alone_is_no_session_that_the_provider_lacks() -> None:
    span = Span(FIRST, FIRST + 48 * HOUR_MS)
    series = Series(BITCOIN, Timeframe.h1)
    target = Target(series, Source("p", "f", "raw"), span, Spans.of(span))
    planned = PlannedRange(span, Spans.of(span), 48, 1, 1)
    work = Work(BITCOIN, ALWAYS, Timeframe.h1, (target,), (planned,), fills_empty=True)
    ones = np.ones(48)
    bars = Bars(
        FIRST + HOUR_MS * np.arange(48), ones, ones, ones, ones, ones * 0,
        ones * 0, np.zeros(48, np.int64),
    )  # fmt: skip
    [chunk] = Paging(work, planned, span.end_ms * 2).read(Page(bars, None), None, span.end_ms)
    assert len(chunk.bars) == 0
    assert {one.reason for one in chunk.empty} == {EmptyReason.no_trades}
    assert chunk.claims == Spans.of(span)
    assert chunk.doubt is None


def test_what_the_provider_has_not_got_to_is_not_claimed() -> None:
    span = Span(FIRST, FIRST + 10 * HOUR_MS)
    series = Series(BITCOIN, Timeframe.h1)
    target = Target(series, Source("p", "f", "raw"), span, Spans.of(span))
    planned = PlannedRange(span, Spans.of(span), 10, 1, 1)
    work = Work(BITCOIN, ALWAYS, Timeframe.h1, (target,), (planned,))
    bars = hours(range(7))
    page = Page(bars, None, silent_from_ms=FIRST + 7 * HOUR_MS)
    [chunk] = Paging(work, planned, span.end_ms * 2).read(page, None, span.end_ms)
    assert chunk.claims == Spans.of((FIRST, FIRST + 7 * HOUR_MS))
    assert (len(chunk.bars), chunk.empty) == (7, [])


def hours(numbers: Iterable[int]) -> Bars:
    stamps = FIRST + HOUR_MS * np.array(list(numbers), np.int64)
    ones = np.ones(len(stamps))
    return Bars(stamps, ones, ones, ones, ones, ones, ones * np.nan, np.full(len(stamps), NO_COUNT))


def three_windows(*, answered: bool = False) -> tuple[Work, list[PlannedRange]]:
    """The h1 and h4 of 30 hours, asked for as three windows, newest first.

    A slot of h4 lies over the end of each window.
    """
    span = Span(FIRST, FIRST + 32 * HOUR_MS)
    source = Source("p", "f", "raw")
    held = Spans.of((FIRST + 8 * HOUR_MS, FIRST + 24 * HOUR_MS)) if answered else Spans()
    targets = tuple(
        Target(
            Series(BITCOIN, one),
            replace(source, derived_from=base),
            span,
            Spans.of(span),
            answered=held,
        )
        for one, base in ((Timeframe.h1, None), (Timeframe.h4, Timeframe.h1))
    )
    ranges = plan_ranges(ALWAYS, Timeframe.h1, Spans.of(span), BarsPerPage(11, Order.oldest))
    return Work(BITCOIN, ALWAYS, Timeframe.h1, targets, ranges), list(ranges)


def read_windows(work: Work, ranges: list[PlannedRange]) -> dict[Timeframe, list[Chunk]]:
    """Read the windows: the one in the middle is answered without any bar."""
    found: dict[Timeframe, list[Chunk]] = {Timeframe.h1: [], Timeframe.h4: []}
    paging: Paging | None = None
    for at, planned in enumerate(ranges):
        first, end = ((bound - FIRST) // HOUR_MS for bound in planned.span)
        page = Page(hours([] if at == 1 else range(first, end)), None, unconfirmed=at == 1)
        paging = Paging(work, planned, planned.span.end_ms + DAY_MS, paging)
        for chunk in paging.read(page, None, work.ranges[0].span.end_ms):
            found[chunk.series.timeframe].append(chunk)
    return found


def test_an_unconfirmed_answer_claims_nothing_and_nothing_is_rolled_up_across_it() -> None:
    work, ranges = three_windows()
    assert [(one.span.start_ms - FIRST) // HOUR_MS for one in ranges] == [21, 10, 0]
    found = read_windows(work, ranges)
    newer, silent, older = found[Timeframe.h1]
    assert silent.claims == Spans()
    assert silent.unconfirmed == Spans.of((FIRST + 10 * HOUR_MS, FIRST + 21 * HOUR_MS))
    assert [(one.reason, one.slots) for one in silent.empty] == [
        (EmptyReason.absent, silent.unconfirmed)
    ]
    assert (len(newer.bars), len(older.bars)) == (11, 10)

    newer, silent, older = found[Timeframe.h4]
    assert newer.bars.ts_ms.tolist() == [FIRST + hour * HOUR_MS for hour in (24, 28)]
    # Two hours of each of these slots of h4 are there, and two aren't proven.
    assert silent.unconfirmed == Spans.of((FIRST + 8 * HOUR_MS, FIRST + 24 * HOUR_MS))
    assert older.bars.ts_ms.tolist() == [FIRST, FIRST + 4 * HOUR_MS]
    claimed = Spans.union(span for chunk in found[Timeframe.h4] for span in chunk.claims)
    assert claimed == Spans.of(
        (FIRST, FIRST + 8 * HOUR_MS), (FIRST + 24 * HOUR_MS, FIRST + 32 * HOUR_MS)
    )


def test_an_answer_without_bars_is_believed_when_one_of_another_day_was_like_it() -> None:
    work, ranges = three_windows(answered=True)
    found = read_windows(work, ranges)
    whole = Spans.of((FIRST, FIRST + 32 * HOUR_MS))
    for chunks in found.values():
        assert Spans.union(span for chunk in chunks for span in chunk.claims) == whole
        assert not any(chunk.unconfirmed for chunk in chunks)
    # What there is of the two slots at the ends of the silence is all that they hold.
    stamps = sorted(stamp for chunk in found[Timeframe.h4] for stamp in chunk.bars.ts_ms.tolist())
    assert stamps == [FIRST + hour * HOUR_MS for hour in (0, 4, 8, 20, 24, 28)]
