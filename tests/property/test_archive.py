"""Files and calls together bring all that is missing, each slot by one of them."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from backfill.core.archive import Archive, FilesOrCalls, Period, Use
from backfill.core.coverage import Span, Spans
from backfill.core.pages import BarsPerPage, BaseAggregates, Order, PageLaw
from backfill.core.plan import plan_ranges
from backfill.core.planning import requests
from backfill.core.series import unregistered
from backfill.core.timeframe import DAY_MS, Timeframe
from tests.calendars import calendar

ARCHIVE: Final = Archive(
    timeframes=frozenset({Timeframe.m15, Timeframe.h1}),
    periods=(Period(Timeframe.mn1, 7 * DAY_MS), Period(Timeframe.d1, DAY_MS)),
    requests=2,
    bar_bytes=40,
    call_bar_bytes=170,
)
CRYPTO: Final = calendar("24/7")
LAWS: Final = st.sampled_from((BarsPerPage(300, Order.oldest), BaseAggregates(2_000)))
TIMEFRAMES: Final = st.sampled_from((Timeframe.m15, Timeframe.h1))
HOLES: Final = st.lists(
    st.tuples(st.integers(0, 9_000), st.integers(1, 4_000)), min_size=1, max_size=5
)


def missing_of(timeframe: Timeframe, holes: list[tuple[int, int]]) -> Spans:
    grid = CRYPTO.grid(timeframe)
    last = len(grid) - 1
    return Spans.union(
        Span(grid.start_of(min(at, last)), grid.end_of(min(at + slots, last)))
        for at, slots in holes
    )


@given(
    law=LAWS,
    timeframe=TIMEFRAMES,
    holes=HOLES,
    use=st.sampled_from(Use),
    age_days=st.integers(0, 90),
)
def test_what_files_bring_no_call_is_made_for_and_calls_bring_the_rest(
    law: PageLaw, timeframe: Timeframe, holes: list[tuple[int, int]], use: Use, age_days: int
) -> None:
    missing = missing_of(timeframe, holes)
    assert missing.hull is not None
    now_ms = missing.hull.end_ms + age_days * DAY_MS
    files = FilesOrCalls(ARCHIVE, use, now_ms)
    symbol = unregistered("BTC/USDT")
    ranges = requests(symbol, CRYPTO, timeframe, missing, law, files=files)
    claims = [one.claims for one in ranges]
    assert Spans.union(span for one in claims for span in one) == missing
    assert sum(CRYPTO.grid(timeframe).count(span) for one in claims for span in one) == sum(
        CRYPTO.grid(timeframe).count(span) for span in missing
    )
    assert [one.span.end_ms for one in ranges] == sorted(
        (one.span.end_ms for one in ranges), reverse=True
    )
    for one in ranges:
        if one.file is None:
            continue
        [period] = [kind for kind in ARCHIVE.periods if kind.length is one.file]
        whole = CRYPTO.grid(one.file).widen(one.span)
        assert whole.start_ms <= one.span.start_ms
        assert one.span.end_ms <= whole.end_ms <= now_ms - period.ready_ms
        assert CRYPTO.grid(one.file).count(whole) == 1
        if use is Use.auto:
            calls = plan_ranges(CRYPTO, timeframe, one.claims, law)
            assert one.calls < sum(other.calls for other in calls)
    read = [one for one in ranges if one.file is not None]
    if use is Use.never:
        assert not read
    if use is Use.always:
        days = ARCHIVE.periods[1]
        left = missing - Spans.union(span for one in read for span in one.claims)
        for span in left:
            day = CRYPTO.grid(Timeframe.d1).widen((span.start_ms, span.start_ms + 1))
            assert day.end_ms > now_ms - days.ready_ms


@given(law=LAWS, timeframe=TIMEFRAMES, holes=HOLES)
def test_where_files_are_missing_others_and_calls_bring_the_same_within_what_was_planned(
    law: PageLaw, timeframe: Timeframe, holes: list[tuple[int, int]]
) -> None:
    missing = missing_of(timeframe, holes)
    assert missing.hull is not None
    files = FilesOrCalls(ARCHIVE, Use.always, missing.hull.end_ms + 90 * DAY_MS)
    for planned in files.ranges(CRYPTO, timeframe, missing, law):
        days = files.instead(CRYPTO, timeframe, planned, law)
        assert {one.file for one in days} == {Timeframe.d1}
        spent = ARCHIVE.requests
        for day in days:
            calls = files.instead(CRYPTO, timeframe, day, law)
            assert {one.file for one in calls} == {None}
            spent += ARCHIVE.requests + sum(one.calls_max for one in calls)
            assert Spans.union(span for one in calls for span in one.claims) == day.claims
        assert Spans.union(span for one in days for span in one.claims) == planned.claims
        assert spent == planned.calls_max
