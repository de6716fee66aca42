"""However an answer is cut into pages, what it proves and brings is what one page would."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core import paging
from backfill.core.bars import Bars
from backfill.core.checks import Reason
from backfill.core.coverage import Span, Spans
from backfill.core.empty import EmptyReason
from backfill.core.joining import joined, may_join
from backfill.core.paging import Chunk, Paging
from backfill.core.plan import PlannedRange
from backfill.core.rollup import roll_up
from backfill.core.series import Series, Source, Symbol
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Page, Request
from backfill.core.work import Target, Work
from backfill.errors import BadAnswer
from tests.calendars import sessions
from tests.conftest import SHARED
from tests.property.oracle import HOUR_MS, SEASONS, Case, Slot, cases, slots_in, wall_ms
from tests.property.test_checks import LONG_AFTER, TS, VOLUME, Row, good_rows, row_at, rows_of

SYMBOL = Symbol(1, "AAPL", "stock", "XNYS")
LADDERS = [
    (timeframe, (timeframe,)) for timeframe in Timeframe
] + [
    (Timeframe.h1, (Timeframe.h4,)),
    (Timeframe.h1, (Timeframe.h1, Timeframe.h4)),
    (Timeframe.m15, (Timeframe.m30, Timeframe.h1)),
    (Timeframe.d1, (Timeframe.d1, Timeframe.w1)),
]  # fmt: skip

Held = dict[Timeframe, tuple[dict[int, Row], Spans, dict[EmptyReason, Spans]]]


def work_for(case: Case, timeframes: Iterable[Timeframe], span: Span) -> Work:
    targets = tuple(
        Target(
            Series(SYMBOL, one),
            Source("massive", "sip", "raw", None if one is case.timeframe else case.timeframe),
            span,
            Spans.of(span),
        )
        for one in timeframes
    )
    planned = PlannedRange(span, Spans.of(span), case.grid.count(span), 1, 1)
    return Work(SYMBOL, case.calendar, case.timeframe, targets, (planned,))


def read(work: Work, pages: list[list[Row]]) -> list[list[Chunk]]:
    """Read pages, the last of which has no next, long after all of it was final."""
    reader = Paging(work, work.ranges[0], LONG_AFTER)
    following = [Request("next") for _ in pages[1:]] + [None]
    return [
        reader.read(Page(Bars.of(list(rows)), after), None, LONG_AFTER)
        for rows, after in zip(pages, following, strict=True)
    ]


def stored(read_pages: list[list[Chunk]]) -> Held:
    """What a table would hold: the later page counts, for bars and for what is known empty."""
    held: Held = {}
    for chunk in (chunk for chunks in read_pages for chunk in chunks):
        assert len(chunk.rejected) == 0
        bars, claims, empty = held.get(chunk.series.timeframe, ({}, Spans(), {}))
        assert not claims & chunk.claims, "a range is claimed twice"
        bars |= {int(row[0] or 0): row for row in rows_of(chunk.bars)}
        for reason in EmptyReason:
            noted = Spans.union(
                span for one in chunk.empty if one.reason is reason for span in one.slots
            )
            empty[reason] = (empty.get(reason, Spans()) - chunk.claims) | noted
        # As the tables have it: over closed hours two empty slots are one span.
        untraded = empty[EmptyReason.no_trades]
        for (start_ms, end_ms), beyond_ms in ((one.hours, one.beyond_ms) for one in chunk.joints):
            here_ms = end_ms if beyond_ms < start_ms else start_ms - 1
            if all(untraded.covers(ms, ms + 1) for ms in (here_ms, beyond_ms)):
                empty[EmptyReason.no_trades] |= Spans.of((start_ms, end_ms))
        held[chunk.series.timeframe] = bars, claims | chunk.claims, empty
    return held


def together(read_pages: list[list[Chunk]]) -> list[list[Chunk]]:
    """What pages bring if all are written together that may be."""
    groups: list[list[list[Chunk]]] = []
    for chunks in read_pages:
        if groups and may_join(groups[-1][-1], chunks):
            groups[-1].append(chunks)
        else:
            groups.append([chunks])
    return [joined(group) for group in groups]


def stamps_of(case: Case, slot: Slot) -> list[int]:
    """Every stamp that a provider may give the bar of a slot."""
    if case.timeframe.is_intraday or case.market in {"24/7", "FX"}:
        return [slot.start]
    days = [slot.session]
    if case.timeframe is Timeframe.w1:
        days.append(slot.session - timedelta(days=1))
    found = [wall_ms(case.zone, day) for day in days]
    found += [
        round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000) for day in days
    ]
    for session in sessions(case.market, *SEASONS[case.season]):
        if slot.start <= session.open_ms < slot.end:
            found += [session.open_ms, session.close_ms]
            break
    return found


@st.composite
def answers(
    draw: st.DrawFn, base: Timeframe, timeframes: tuple[Timeframe, ...]
) -> tuple[Case, Work, list[tuple[Slot, Row]]]:
    """Work for some whole slots of every target, and the bars of it, newest first.

    Single slots and a whole session may lack a bar; never two of three in a row, since few bars
    that all start a coarser one are refused.
    """
    case = draw(cases((base,)))
    coarsest = max(timeframes, key=list(Timeframe).index)
    wide = case._replace(timeframe=coarsest).slots
    first = draw(st.integers(0, len(wide) - 1))
    last = wide[min(len(wide) - 1, first + draw(st.integers(0, 7)))]
    span = Span(wide[first].start, last.end)
    slots = slots_in(case, span)
    every, offset = draw(st.integers(3, 9)), draw(st.integers(0, 20))
    lost = draw(st.none() | st.sampled_from(slots))
    present = [
        slot
        for index, slot in enumerate(slots)
        if index % every != offset and not (lost and slot.session == lost.session)
    ]
    rows = draw(good_rows(tuple(present)))
    bars = list(zip(present, rows, strict=True))[::-1]
    return case, work_for(case, timeframes, span), bars


@st.composite
def cut(draw: st.DrawFn, case: Case, bars: list[tuple[Slot, Row]]) -> list[list[Row]]:
    """Cut bars into pages that may begin with bars of the page before, in no order, doubled."""
    cuts = draw(st.lists(st.integers(0, len(bars)), max_size=4).map(sorted))
    bounds = list(dict.fromkeys((0, *cuts, len(bars))))
    parts = [bars[start:end] for start, end in pairwise(bounds)] or [bars]
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), [])
    pages: list[list[Row]] = []
    before: list[tuple[Slot, Row]] = []
    for part in parts:
        again = draw(st.integers(0, 3) | st.just(len(before)))
        page = before[len(before) - min(again, len(before)) :] + part
        doubled = draw(st.lists(st.sampled_from(page), max_size=3)) if page else []
        pages.append(
            [
                (draw(st.sampled_from(stamps_of(case, slot))), *row[1:])
                for slot, row in draw(st.permutations(page + doubled))
            ]
        )
        before = page or before
    return pages


@pytest.mark.parametrize(("base", "timeframes"), LADDERS, ids=str)
@SHARED
@given(data=st.data())
def test_pages_however_cut_give_what_one_page_gives(
    base: Timeframe, timeframes: tuple[Timeframe, ...], data: st.DataObject
) -> None:
    case, work, bars = data.draw(answers(base, timeframes))
    whole = stored(read(work, [[row for _, row in bars]]))
    if base in timeframes:
        assert whole[base][0] == {
            int(row[0] or 0): row for row in rows_of(Bars.of([row for _, row in bars]))
        }
    for timeframe in timeframes:
        assert whole[timeframe][1] == Spans.of(work.ranges[0].span)
    pages = read(work, data.draw(cut(case, bars)))
    assert stored(pages) == stored(together(pages)) == whole
    if base in timeframes:
        for chunks in (*pages, *together(pages)):
            assert_rolled_up_of_its_bars_and_those_at_the_seam(case, chunks)


def assert_rolled_up_of_its_bars_and_those_at_the_seam(case: Case, chunks: list[Chunk]) -> None:
    [fine] = (one for one in chunks if one.series.timeframe is case.timeframe)
    of = Bars.concat([fine.bars, fine.seam])
    for one in (one for one in chunks if one is not fine):
        made = of.take(one.claims.holds(of.ts_ms))
        grid = case.calendar.grid(one.series.timeframe)
        assert roll_up(made, grid).equals(one.bars.take(one.claims.holds(one.bars.ts_ms)))


DAYS = Case("XNYS", "Thanksgiving", Timeframe.d1)
SPAN = Span(DAYS.slots[0].start, DAYS.slots[-1].end)
NEWEST_FIRST = [row_at(slot.start) for slot in DAYS.slots][::-1]


def days() -> Paging:
    work = work_for(DAYS, (Timeframe.d1,), SPAN)
    return Paging(work, work.ranges[0], LONG_AFTER)


def page_of(*rows: Row) -> Page:
    """A page that another one follows."""
    return Page(Bars.of(list(rows)), Request("next"))


def read_one(reader: Paging, page: Page) -> Chunk:
    [chunk] = reader.read(page, None, LONG_AFTER)
    return chunk


def test_the_first_page_of_a_range_is_held_against_the_oldest_bar_of_the_one_that_follows() -> None:
    newest, older = NEWEST_FIRST[:4], NEWEST_FIRST[4:]
    cut_ms = int(newest[-1][TS] or 0)
    spans = Span(cut_ms, SPAN.end_ms), Span(SPAN.start_ms, cut_ms)
    following, before = (work_for(DAYS, (Timeframe.d1,), span) for span in spans)
    newer = Paging(following, following.ranges[0], LONG_AFTER)
    newer.read(Page(Bars.of(list(newest)), None), None, LONG_AFTER)
    reader = Paging(before, before.ranges[0], LONG_AFTER, newer)
    assert reader.oldest.ts_ms.tolist() == [cut_ms]
    tenfold = [
        (row[TS], *(10 * (price or 0) for price in row[1:VOLUME]), *row[VOLUME:]) for row in older
    ]
    [jump] = reader.jumps(Page(Bars.of(tenfold), None), reader.oldest)
    assert jump.first_end_ms <= cut_ms < jump.second_end_ms


def test_a_bar_that_another_page_tells_differently_refuses_it_wherever_it_stands() -> None:
    for at in range(4):
        reader = days()
        read_one(reader, page_of(*NEWEST_FIRST[:4]))
        other = (*NEWEST_FIRST[at][:VOLUME], 6.0, None, None)
        with pytest.raises(BadAnswer, match="differently of one bar"):
            reader.read(page_of(other, *NEWEST_FIRST[4:6]), None, LONG_AFTER)


def test_a_rejected_bar_that_comes_again_is_rejected_once_and_its_slot_stays_known() -> None:
    bad = [(*row[:VOLUME], -1.0, None, None) for row in NEWEST_FIRST]
    reader = days()
    chunks = [
        read_one(reader, page_of(NEWEST_FIRST[0], bad[1], bad[2])),
        read_one(reader, page_of(bad[1], bad[2], NEWEST_FIRST[3])),
        read_one(reader, Page(Bars.of([NEWEST_FIRST[3], *NEWEST_FIRST[4:]]), None)),
    ]
    assert [chunk.reasons for chunk in chunks] == [(Reason.volume,) * 2, (), ()]
    known = Spans.union(
        span
        for chunk in chunks
        for one in chunk.empty
        if one.reason is EmptyReason.quarantined
        for span in one.slots
    )
    assert known == Spans.of((int(bad[2][TS] or 0), int(NEWEST_FIRST[0][TS] or 0)))


def test_two_copies_that_conflict_may_come_again_and_a_third_that_differs_may_not() -> None:
    one, other, third = (
        (*NEWEST_FIRST[1][:VOLUME], volume, None, None) for volume in (5.0, 6.0, 7.0)
    )
    newest, older = NEWEST_FIRST[0], NEWEST_FIRST[2:]
    reader = days()
    assert read_one(reader, page_of(newest, one, other, older[0])).reasons == (Reason.conflict,) * 2
    assert read_one(reader, page_of(other, *older[:2])).reasons == ()
    with pytest.raises(BadAnswer, match="differently of one bar"):
        reader.read(page_of(third, *older[1:3]), None, LONG_AFTER)


def test_pages_that_bring_nothing_new_are_idle_and_the_third_in_a_row_is_refused() -> None:
    reader = days()
    same = page_of(*NEWEST_FIRST[:4])
    first = read_one(reader, same)
    for _ in range(2):
        again = read_one(reader, same)
        assert (len(again.bars), again.claims, again.empty, again.reasons) == (0, Spans(), [], ())
    with pytest.raises(BadAnswer, match="reach no further back"):
        reader.read(same, None, LONG_AFTER)
    assert first.claims == Spans.of((DAYS.slots[-3].start, SPAN.end_ms))


def test_what_was_neither_asked_for_nor_in_the_page_before_is_still_rejected() -> None:
    reader = days()
    read_one(reader, page_of(*NEWEST_FIRST[:4]))
    read_one(reader, page_of(*NEWEST_FIRST[4:8]))
    stray = NEWEST_FIRST[0]  # of the page before the one before
    found = read_one(reader, page_of(stray, *NEWEST_FIRST[7:9]))
    assert rows_of(found.rejected) == rows_of(Bars.of([stray]))
    assert found.reasons == (Reason.outside_range,)


def test_of_a_page_only_its_oldest_bars_are_kept_in_memory_and_all_of_it_is_known_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paging, "_REMEMBERED", 3)
    reader = days()
    read_one(reader, page_of(*NEWEST_FIRST[:5]))
    for kept in (reader._before, reader._edge):
        assert len(kept) <= 3
        assert kept.ts_ms.base is None, "a view holds the whole page"
    again = read_one(reader, page_of(*NEWEST_FIRST[:7]))
    assert (again.reasons, len(again.bars)) == ((), 2)
    found = read_one(reader, page_of(NEWEST_FIRST[3], *NEWEST_FIRST[6:9]))
    assert found.reasons == (Reason.outside_range,), "it doesn't reach back over the page before"


def test_the_bar_at_the_edge_is_known_again_after_a_page_of_nothing_but_strays() -> None:
    reader = days()
    stray = row_at(DAYS.slots[0].start - 24 * HOUR_MS * 30)
    chunks = [
        read_one(reader, page_of(*NEWEST_FIRST[:4])),
        read_one(reader, page_of(stray)),
        read_one(reader, page_of(*NEWEST_FIRST[3:6])),
    ]
    stamps = [stamp for chunk in chunks for stamp in chunk.bars.ts_ms.tolist()]
    assert sorted(stamps) == [slot.start for slot in DAYS.slots[-5:]]


def test_a_follow_up_page_in_another_unit_is_refused_as_such() -> None:
    reader = days()
    read_one(reader, page_of(*NEWEST_FIRST[:4]))
    micro = [(int(row[TS] or 0) * 1000, *row[1:]) for row in NEWEST_FIRST[4:6]]
    with pytest.raises(BadAnswer, match="milliseconds"):
        reader.read(page_of(*micro), None, LONG_AFTER)
