"""A file proves the same, however it is cut into pages, and from whichever end it goes."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Final

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.cells import BadRow
from backfill.core.checks import Reason
from backfill.core.coverage import Spans
from backfill.core.empty import EmptyReason
from backfill.core.file_pages import FilePage, Pager, Survey, read_page
from backfill.core.filed import Key, Rows
from backfill.core.paging import Chunk
from backfill.core.precision import EXACT
from backfill.core.series import Series, Source, Symbol
from backfill.core.timeframe import Timeframe
from backfill.errors import BadAnswer
from tests.calendars import calendar

XNYS: Final = calendar("XNYS")
SOURCE: Final = Source("import", "kaggle", "raw")
APPLE: Final = Symbol(1, "AAPL", "stock", "XNYS")
NOW_MS: Final = int(datetime(2024, 12, 1, tzinfo=UTC).timestamp() * 1000)
FIRST, LAST = date(2024, 11, 25), date(2024, 12, 2)
"""Thanksgiving's week: a holiday, and a half day behind it."""


def bars(ts_ms: list[int], closes: list[float] | None = None) -> Bars:
    count = len(ts_ms)
    price = np.full(count, 10.0)
    close = price if closes is None else np.array(closes)
    nan = np.full(count, np.nan)
    stamps = np.array(ts_ms, np.int64)
    ones = np.full(count, 100.0)
    return Bars(stamps, price, price + 5, price - 5, close, ones, nan, np.full(count, -1))


def pages(timeframe: Timeframe, parts: list[Bars]) -> Iterator[FilePage]:
    key, survey = Key("AAPL", timeframe), Survey()
    for part in parts:
        survey.add(Rows(key, part, np.arange(len(part))))
    pager = Pager(XNYS, timeframe, survey.extents[key])
    for part in parts:
        pager.add(part)
        page = pager.page()
        if page is not None:
            yield page
    assert pager.waiting == 0


def read(timeframe: Timeframe, page: FilePage, covers: Spans) -> Chunk:
    series = Series(APPLE, timeframe)
    return read_page(series, SOURCE, XNYS, page, covers, NOW_MS, NOW_MS, EXACT)


def proven(timeframe: Timeframe, chunks: list[Chunk]) -> tuple[object, ...]:
    """All that chunks bring to the tables, in order of time; what is empty slot by slot.

    The store joins what is empty on both sides of closed hours.
    """
    slots = XNYS.regular_grid(timeframe).slots((XNYS.midnight(FIRST), XNYS.midnight(LAST)))
    stamps = np.concatenate([chunk.bars.ts_ms for chunk in chunks])
    empty = {
        reason: slots[
            Spans.union(
                span
                for chunk in chunks
                for one in chunk.empty
                if one.reason is reason
                for span in one.slots
            ).holds(slots)
        ].tolist()
        for reason in EmptyReason
    }
    rejected = sorted(
        (int(ts_ms), reason)
        for chunk in chunks
        for ts_ms, reason in zip(chunk.rejected.ts_ms, chunk.reasons, strict=True)
    )
    claims = Spans.union(span for chunk in chunks for span in chunk.claims)
    return sorted(stamps.tolist()), claims, empty, rejected


@st.composite
def files(draw: st.DrawFn) -> tuple[Timeframe, list[int], list[float], list[int]]:
    """A timeframe, stamps on and off its grid in order, closes, and where the file is cut."""
    timeframe = draw(st.sampled_from([Timeframe.m30, Timeframe.h1, Timeframe.d1]))
    grid = XNYS.grid(timeframe)
    slots = grid.slots((XNYS.midnight(FIRST), XNYS.midnight(LAST))).tolist()
    stamps = draw(st.lists(st.sampled_from(slots), min_size=1, max_size=40))
    stamps += draw(st.lists(st.sampled_from([slots[0] + 7, slots[-1] + 7]), max_size=2))
    if timeframe is Timeframe.d1:  # the open names the day as well
        opens = dict(zip(XNYS.midnight_ms.tolist(), XNYS.open_ms.tolist(), strict=True))
        stamps = [one for one in stamps if one in opens] or slots[:1]
        stamps += [opens[one] for one in stamps[:2]]
    stamps.sort()
    closes = draw(
        st.lists(st.sampled_from([10.0, 11.0]), min_size=len(stamps), max_size=len(stamps))
    )
    cuts = draw(st.lists(st.integers(0, len(stamps)), max_size=6))
    return timeframe, stamps, closes, sorted(cuts)


@given(files(), st.booleans(), st.booleans())
def test_cuts_and_direction_change_nothing_of_what_a_file_proves(
    file: tuple[Timeframe, list[int], list[float], list[int]], descending: bool, covered: bool
) -> None:
    timeframe, stamps, closes, cuts = file
    whole = bars(stamps, closes)
    covers = Spans()
    if covered:
        span = XNYS.midnight(FIRST), XNYS.midnight(date(2024, 11, 30))
        covers = XNYS.grid(timeframe).inside(Spans.of(span))
    try:
        once = [read(timeframe, page, covers) for page in pages(timeframe, [whole])]
    except BadAnswer:
        reject()  # by chance each of a few bars begins a longer one
    ordered = whole.take(slice(None, None, -1)) if descending else whole
    bounds = [0, *cuts, len(stamps)]
    parts = [ordered.take(slice(*pair)) for pair in pairwise(bounds) if pair[0] < pair[1]]
    try:
        found = [read(timeframe, page, covers) for page in pages(timeframe, parts)]
    except BadAnswer:
        reject()

    assert proven(timeframe, found) == proven(timeframe, once)
    assert Spans.union(span for chunk in found for span in chunk.claims) == covers
    kept = [slot for chunk in found for slot in chunk.bars.ts_ms.tolist()]
    assert len(kept) == len(set(kept))


def test_two_bars_of_one_slot_are_both_rejected_though_a_page_ends_between_them() -> None:
    start = XNYS.midnight(date(2024, 11, 25)) + 10 * 3_600_000
    parts = [bars([start, start + 60_000], [10, 10]), bars([start + 60_000], [11])]
    chunks = [read(Timeframe.m1, page, Spans()) for page in pages(Timeframe.m1, parts)]
    assert [chunk.bars.ts_ms.tolist() for chunk in chunks] == [[start], []]
    assert chunks[1].reasons == (Reason.conflict, Reason.conflict)


def test_a_file_out_of_order_is_refused_by_the_line_where_it_turns() -> None:
    survey = Survey()
    with pytest.raises(BadRow, match="goes back in time") as bad:
        survey.add(Rows(Key("AAPL", Timeframe.d1), bars([1, 2, 2, 1]), np.array([2, 3, 4, 5])))
    assert bad.value.row == 5


def test_the_midnight_of_another_zone_names_no_day_of_new_york() -> None:
    berlin = int(datetime(2024, 11, 25, 23, tzinfo=UTC).timestamp() * 1000)
    [page] = pages(Timeframe.d1, [bars([berlin])])
    with pytest.raises(BadAnswer, match="midnight neither in UTC nor at the exchange"):
        read(Timeframe.d1, page, Spans())


def test_a_sunday_names_no_week_and_any_day_of_one_but_that_does() -> None:
    [page] = pages(Timeframe.w1, [bars([at(24)])])  # as pandas ends the week of the 18th
    with pytest.raises(BadAnswer, match="is a Sunday"):
        read(Timeframe.w1, page, Spans())
    for day in (18, 22):
        [page] = pages(Timeframe.w1, [bars([at(day)])])
        chunk = read(Timeframe.w1, page, Spans())
        assert chunk.bars.ts_ms.tolist() == [XNYS.midnight(date(2024, 11, 18))]


def at(day: int) -> int:
    return int(datetime(2024, 11, day, tzinfo=UTC).timestamp() * 1000)
