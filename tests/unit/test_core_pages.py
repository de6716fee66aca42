"""What pages hold: the bars that fill empty slots, the newest only, and what a range costs."""

from datetime import UTC, datetime
from typing import Final

import numpy as np
import pytest

from backfill.core.bars import NO_COUNT, Bars
from backfill.core.coverage import Span, Spans
from backfill.core.empty import EmptyReason
from backfill.core.pages import (
    NewestOnly,
    reach_ms,
)
from backfill.core.paging import Chunk, Paging
from backfill.core.plan import PlannedRange
from backfill.core.series import Series, Source, Symbol
from backfill.core.timeframe import HOUR_MS, Timeframe
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
