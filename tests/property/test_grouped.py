"""Grouped days: the fewest calls that bring every missed session, and whose bars they bring."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import combinations
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from backfill.core.bars import Bars
from backfill.core.checks import Reason
from backfill.core.coverage import Span, Spans
from backfill.core.empty import EmptyReason
from backfill.core.grouped import group
from backfill.core.grouped_day import read_day
from backfill.core.pages import BaseAggregates
from backfill.core.planning import requests
from backfill.core.series import Alias, Series, Source, Symbol
from backfill.core.timeframe import DAY_MS, Timeframe
from backfill.core.wire import GroupedDay
from backfill.core.work import Target, Work
from backfill.errors import NotEntitled
from tests.calendars import calendar

NEW_YORK: Final = calendar("XNYS", date(2024, 6, 24), date(2024, 7, 12))
DAYS: Final = NEW_YORK.grid(Timeframe.d1)
SESSIONS: Final = [Span(DAYS.start_of(at), DAYS.end_of(at)) for at in range(len(DAYS))][-7:]
NEWEST: Final = SESSIONS[-1]
SOURCE: Final = Source("massive", "sip", "raw")
WANTED: Final = Span(DAYS.start_of(0), NEWEST.end_ms)


def piece(missed: Iterable[Span], number: int = 1, page_size: int = 50_000) -> Work:
    """The work for one loaded symbol that misses some sessions."""
    symbol = Symbol(number, f"S{number}", "stock", "XNYS", confirmed=True)
    missing = Spans.union(missed)
    target = Target(Series(symbol, Timeframe.d1), SOURCE, WANTED, missing, is_loaded=True)
    ranges = requests(symbol, NEW_YORK, Timeframe.d1, missing, BaseAggregates(page_size))
    return Work(symbol, NEW_YORK, Timeframe.d1, (target,), ranges)


def calls(work: Work) -> int:
    return sum(planned.calls for planned in work.ranges)


def cost(work: list[Work], sessions: Iterable[Span]) -> int:
    """The calls that all the work takes, with some sessions asked for grouped."""
    chosen = Spans.union(sessions)
    grouped = len(set(sessions))
    return grouped + sum(calls(one) for one in work if one.targets[0].missing - chosen)


@st.composite
def tails(draw: st.DrawFn) -> list[Work]:
    """Series that all lack the newest sessions, more or fewer of them."""
    lengths = draw(st.lists(st.integers(1, len(SESSIONS)), max_size=10))
    return [piece(SESSIONS[-length:], number) for number, length in enumerate(lengths, 1)]


@st.composite
def holes(draw: st.DrawFn) -> list[Work]:
    """Series that lack any sessions, some of them in more than one call."""
    missed = draw(st.lists(st.sets(st.sampled_from(SESSIONS), min_size=1), max_size=10))
    page_size = draw(st.sampled_from((1, 3, 50_000)))
    return [piece(one, number, page_size) for number, one in enumerate(missed, 1)]


@given(tails())
def test_no_set_of_sessions_takes_fewer_calls_where_the_newest_are_missed(work: list[Work]) -> None:
    found = group(work)
    least = min(
        cost(work, chosen)
        for size in range(len(SESSIONS) + 1)
        for chosen in combinations(SESSIONS, size)
    )
    assert cost(work, found.sessions) == least


@given(holes())
def test_no_run_of_newest_sessions_takes_fewer_calls_whatever_is_missed(work: list[Work]) -> None:
    found = group(work)
    runs = [SESSIONS[-size:] if size else [] for size in range(len(SESSIONS) + 1)]
    assert cost(work, found.sessions) <= min(cost(work, chosen) for chosen in runs)
    assert cost(work, found.sessions) <= sum(map(calls, work))


@given(holes())
def test_each_session_serves_work_that_needs_no_other_call(work: list[Work]) -> None:
    found = group(work)
    chosen = Spans.union(found.sessions)
    assert list(found.sessions) == sorted(set(found.sessions), reverse=True)
    for one in found.work:
        assert one.is_closed({one.series[0]: chosen})
    for session in found.sessions:
        assert any(one.targets[0].missing.covers(*session) for one in found.work)


def test_a_day_of_two_symbols_is_worth_a_grouped_call_and_of_one_it_is_not() -> None:
    two = [piece([NEWEST], 1), piece([NEWEST], 2)]
    assert group(two).sessions == (NEWEST,)
    assert group(two[:1]).sessions == ()
    # Where it saves nothing, no further session is taken.
    assert group([*two, piece(SESSIONS[-2:], 3)]).sessions == (NEWEST,)


def test_a_call_that_names_few_symbols_is_priced_a_batch_each() -> None:
    five = [piece([NEWEST], number) for number in range(5)]
    found = group(five, most=3)
    assert (found.calls, [len(one) for one in found.batches]) == (2, [3, 2])
    assert [one for batch in found.batches for one in batch] == list(found.work)
    assert (group(five).calls, len(group(five).batches)) == (1, 1)
    assert group(five, most=1).calls == 0  # which saves nothing


def changed(one: Work, **changes: object) -> Work:
    """The same work of a symbol that is otherwise."""
    return replace(one, symbol=replace(one.symbol, **changes))  # type: ignore[arg-type]


def with_target(one: Work, **changes: object) -> Work:
    """The same work, with a target that is otherwise."""
    return replace(one, targets=(replace(one.targets[0], **changes),))  # type: ignore[arg-type]


def test_what_needs_an_answer_of_its_own_never_joins() -> None:
    newest, before = NEW_YORK.day_of(NEWEST.start_ms), NEW_YORK.day_of(SESSIONS[-2].start_ms)
    plain = [piece([NEWEST], 1), piece([NEWEST], 2)]
    third = piece([NEWEST], 3)
    assert len(group([*plain, third]).work) == 3
    for other in (
        changed(third, confirmed=False),
        changed(third, asset_type="crypto"),
        changed(third, calendar="XLON"),
        changed(third, aliases=(Alias("OLD", date(2020, 1, 1), date(2024, 8, 1)),)),
        with_target(third, is_loaded=False),
        with_target(third, refusal=NotEntitled("refused before")),
        with_target(third, replaces=Source("another", "sip", "raw")),
        with_target(third, missing=Spans()),
        with_target(third, series=Series(third.symbol, Timeframe.w1)),
    ):
        assert list(group([*plain, other]).work) == plain
    # The name of the day is what counts.
    renamed = changed(third, aliases=(Alias("OLD", date(2020, 1, 1), newest),))
    assert len(group([*plain, renamed]).work) == 3
    older = changed(piece(SESSIONS[-2:], 3), aliases=(Alias("OLD", before, newest),))
    assert list(group([*plain, older]).work) == plain


def test_a_week_joins_only_if_all_its_days_are_the_series_own() -> None:
    weeks = NEW_YORK.grid(Timeframe.w1)
    [week] = [weeks.widen(NEWEST)]
    week = Span(week.start_ms, NEWEST.end_ms)
    plain = [piece([NEWEST], 1), piece([NEWEST], 2)]
    third = piece([NEWEST], 3)
    coarser = Target(
        Series(third.symbol, Timeframe.w1), replace(SOURCE, derived_from=Timeframe.d1),
        week, Spans.of(week),
    )  # fmt: skip
    both = replace(third, targets=(*third.targets, coarser))
    assert list(group([*plain, both]).work) == [*plain, both]
    assert not both.is_closed({both.series[0]: Spans.of(NEWEST)})
    since_friday = replace(third.targets[0], wanted=NEWEST)
    short = replace(third, targets=(since_friday, coarser))
    assert list(group([*plain, short]).work) == plain


def test_closed_hours_before_an_answered_session_are_nothing_and_a_piece_of_a_week_is_not() -> None:
    closed = Span(SESSIONS[-2].end_ms - 1, NEWEST.end_ms)
    work = piece([closed])
    answered = {work.series[0]: Spans.of(NEWEST)}
    assert work.is_closed(answered)
    derived = replace(SOURCE, derived_from=Timeframe.d1)
    weeks = Target(Series(work.symbol, Timeframe.w1), derived, WANTED, Spans.of(NEWEST))
    assert not replace(work, targets=(*work.targets, weeks)).is_closed(answered)


CLOSE: Final = int(NEW_YORK.close_ms[-1])


def row(ts_ms: int, close: float = 2.0, volume: float = 10.0) -> tuple[float | int | None, ...]:
    return (ts_ms, 1.5, 2.5, 1.0, close, volume, None, 3)


def day_of(*rows: tuple[str, tuple[float | int | None, ...]]) -> GroupedDay:
    return GroupedDay([ticker for ticker, _ in rows], Bars.of([bar for _, bar in rows]))


FINAL: Final = NEWEST.end_ms + 3_600_000


@given(st.sampled_from([NEWEST.start_ms, int(NEW_YORK.open_ms[-1]), CLOSE, NEWEST.end_ms - 1]))
def test_each_series_gets_its_own_bar_on_the_sessions_start_wherever_it_is_stamped(
    stamp: int,
) -> None:
    work = [piece([NEWEST], 1), piece(SESSIONS[-2:], 2), piece([SESSIONS[-2]], 3)]
    day = day_of(("S2", row(stamp, 2.25)), ("S3", row(stamp)), ("S1", row(stamp)), ("X", row(7)))
    first, second = read_day(work, NEWEST, day, FINAL, FINAL)
    for chunk, one, close in ((first, work[0], 2.0), (second, work[1], 2.25)):
        assert chunk.series == one.targets[0].series
        assert chunk.bars.equals(Bars.of([row(NEWEST.start_ms, close)]))
        assert chunk.claims == Spans.of(NEWEST)
        assert (len(chunk.rejected), chunk.empty) == (0, [])


def test_a_series_that_is_not_in_the_answer_or_on_another_day_gets_nothing() -> None:
    work = [piece([NEWEST], 1)]
    midnight_utc = round(datetime(2024, 7, 12, tzinfo=UTC).timestamp() * 1000)
    assert midnight_utc < NEWEST.start_ms
    assert len(read_day(work, NEWEST, day_of(("S1", row(midnight_utc))), FINAL, FINAL)) == 1
    for stamp in (NEWEST.start_ms - 1, CLOSE - DAY_MS, NEWEST.end_ms, CLOSE // 1000, CLOSE * 1000):
        assert read_day(work, NEWEST, day_of(("S1", row(stamp))), FINAL, FINAL) == []
    assert read_day(work, NEWEST, day_of(("S2", row(CLOSE))), FINAL, FINAL) == []
    assert read_day(work, NEWEST, GroupedDay([], Bars.empty()), FINAL, FINAL) == []


def test_a_bar_that_fails_a_check_closes_its_slot_and_its_neighbour_is_stored() -> None:
    work = [piece([NEWEST], 1), piece([NEWEST], 2), piece([NEWEST], 3)]
    day = day_of(
        ("S1", row(CLOSE, volume=-1.0)),
        *(("S2", row(CLOSE)), ("S2", row(CLOSE))),
        *(("S3", row(CLOSE)), ("S3", row(CLOSE, 2.25))),
    )
    bad, twice, conflict = read_day(work, NEWEST, day, FINAL, FINAL)
    assert (bad.reasons, len(bad.bars), len(bad.rejected)) == ((Reason.volume,), 0, 1)
    assert bad.rejected.ts_ms.tolist() == [CLOSE]
    assert (twice.reasons, len(twice.bars)) == ((), 1)
    assert (conflict.reasons, len(conflict.bars)) == ((Reason.conflict, Reason.conflict), 0)
    for chunk in (bad, conflict):
        assert chunk.claims == Spans.of(NEWEST)
        [empty] = chunk.empty
        assert (empty.reason, empty.slots) == (EmptyReason.quarantined, Spans.of(NEWEST))


def test_an_answer_that_is_not_final_closes_nothing() -> None:
    [chunk] = read_day(
        [piece([NEWEST], 1)], NEWEST, day_of(("S1", row(CLOSE))), FINAL, NEWEST.end_ms - 1
    )
    assert (len(chunk.bars), chunk.claims) == (1, Spans())
