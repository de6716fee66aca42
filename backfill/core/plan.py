"""The planner: from what is wanted and what is covered to the requests still to be made."""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from typing import Final

from backfill.core.calendar import Calendar
from backfill.core.coverage import Span, Spans
from backfill.core.dataclass import dataclass
from backfill.core.grid import Grid
from backfill.core.pages import PageLaw, Pages
from backfill.core.terms import Settling
from backfill.core.timeframe import Timeframe

_ALIKE: Final = 256
"""Most symbols of a watchlist want and lack the same: as many answers are kept."""


@dataclass(frozen=True, slots=True)
class PlannedRange:
    """One request for bars: it asks for ``span`` and closes ``claims``, the missing part of it.

    Both are whole slots. ``slots`` counts those asked for; ``calls`` is how many pages are
    expected, ``calls_max`` how many it takes when every slot was traded. ``file`` is the period of
    which a file of the provider's archive is read; None where it is asked by calls.
    """

    span: Span
    claims: Spans
    slots: int
    calls: int
    calls_max: int
    file: Timeframe | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what a series may want, in epoch ms; None where there is none.

    ``listed_ms`` and ``delisted_ms`` bound the symbol's life, ``window_ms`` is the first instant
    that the plan may read.
    """

    listed_ms: int | None = None
    delisted_ms: int | None = None
    window_ms: int | None = None


def frontier_ms(calendar: Calendar, timeframe: Timeframe, settling: Settling, now_ms: int) -> int:
    """Return the instant up to which bars are final: a slot is final if it ends by then.

    On an end-of-day plan intraday bars become final with their session's d1: not those of the night
    that follows, which is the next session's.
    """
    daily = now_ms - settling.daily_ms
    if not timeframe.is_intraday:
        return daily
    if not settling.end_of_day:
        return now_ms - settling.intraday_ms
    days = calendar.lists.next_midnight_ms
    done = bisect_right(days, daily)
    ended = days[done - 1] if done else calendar.lists.midnight_ms[0]
    return ended - calendar.evening_ms


def next_final_ms(
    calendar: Calendar, timeframe: Timeframe, settling: Settling, after_ms: int
) -> int | None:
    """Return the first instant after another at which one more bar is final.

    None if the calendar ends before. By `frontier_ms` nothing changes until then.
    """
    frontier = frontier_ms(calendar, timeframe, settling, after_ms)
    if timeframe.is_intraday and settling.end_of_day:
        days = calendar.lists.next_midnight_ms
        nth = bisect_right(days, after_ms - settling.daily_ms)
        return days[nth] + settling.daily_ms if nth < len(days) else None
    grid = calendar.grid(timeframe)
    nth = grid.index_from(frontier)
    if nth and grid.end_of(nth - 1) > frontier:
        nth -= 1
    if nth == len(grid):
        return None
    delay = settling.intraday_ms if timeframe.is_intraday else settling.daily_ms
    return grid.end_of(nth) + delay


def final_days_end(calendar: Calendar, day_final_ms: int) -> int:
    """Return where the trading day after the last final one begins, night included, in epoch ms."""
    following = bisect_right(calendar.lists.next_midnight_ms, day_final_ms)
    days = calendar.lists.midnight_ms
    ends = days[following] if following < len(days) else calendar.lists.next_midnight_ms[-1]
    return ends - calendar.evening_ms


def final_session(calendar: Calendar, settling: Settling, now_ms: int) -> date:
    """Return the newest session whose d1 is final."""
    frontier = frontier_ms(calendar, Timeframe.d1, settling, now_ms)
    return date.fromordinal(
        calendar.lists.day_ordinals[bisect_right(calendar.lists.next_midnight_ms, frontier) - 1]
    )


@lru_cache(_ALIKE)
def wanted_span(
    grid: Grid, start_ms: int, end_ms: int | None, frontier: int, limits: Limits
) -> Span | None:
    """Return what a series should hold: whole slots from ``start_ms`` to the last final one.

    Clamped to the symbol's life, widened to whole slots, narrowed to those inside the plan's
    window. ``end_ms`` bounds it earlier, if given. None when no slot is left.
    """
    start = max(start_ms, limits.listed_ms if limits.listed_ms is not None else start_ms)
    ends = (frontier, end_ms, limits.delisted_ms)
    end = min(bound for bound in ends if bound is not None)
    if start >= end:
        return None
    wide = grid.widen((start, end))
    first = wide.start_ms if limits.window_ms is None else max(wide.start_ms, limits.window_ms)
    return grid.narrow((first, min(wide.end_ms, frontier)))


def missing_spans(grid: Grid, wanted: Span | None, coverage: Spans) -> Spans:
    """Return the wanted spans that are not covered, on whole slots, and hold a slot at all."""
    if wanted is None:
        return Spans()
    holes = Spans((wanted,)) - coverage
    if holes.items in {(), (wanted,)}:
        return holes  # whole slots already
    whole = Spans.union(grid.widen(hole) for hole in holes) & Spans((wanted,))
    return Spans(tuple(span for span in whole if grid.count(span)))


@lru_cache(_ALIKE)
def plan_ranges(
    calendar: Calendar, timeframe: Timeframe, missing: Spans, law: PageLaw
) -> tuple[PlannedRange, ...]:
    """Return the requests that close ``missing`` in the fewest calls, newest first.

    Neighbouring holes are joined into one request where that saves a call, although it asks again
    for what lies between them.
    """
    pages = law.pages(calendar, timeframe)
    holes = tuple(hole for hole in missing if pages.grid.narrow(hole))
    return tuple(
        request for joined in _joined(pages, holes) for request in _requests(pages, joined)
    )


def _joined(pages: Pages, holes: tuple[Span, ...]) -> list[tuple[Span, ...]]:
    """Return the holes that share a request, for every request, newest first."""
    if len(holes) < 2:
        return [holes] if holes else []
    import numpy as np

    # calls[n] and slots[n] are the least that close the first n holes; starts[n] is where the last
    # of those requests begins. For each n every beginning is tried at once, as a column.
    calls, slots, starts = np.zeros((3, len(holes) + 1), np.int64)
    index = pages.grid.index_from
    before = np.array(
        [(pages.begins(hole.start_ms), index(hole.start_ms)) for hole in holes], np.int64
    ).T
    for last, hole in enumerate(holes):
        ends = np.array((pages.ends(hole.end_ms), index(hole.end_ms)))
        things, own = ends[:, None] - before[:, : last + 1]
        total_calls = calls[: last + 1] + pages.at_most(things)
        total_slots = slots[: last + 1] + own
        first = np.lexsort((total_slots, total_calls))[0]
        calls[last + 1], slots[last + 1] = total_calls[first], total_slots[first]
        starts[last + 1] = first
    groups = []
    end = len(holes)
    while end:
        first = int(starts[end])
        groups.append(holes[first:end])
        end = first
    return groups


def reach_back(
    calendar: Calendar,
    timeframe: Timeframe,
    ranges: tuple[PlannedRange, ...],
    again: Spans,
    law: PageLaw,
) -> tuple[PlannedRange, ...]:
    """Return requests that go back over what is to be asked again, where that takes no call more.

    What lies beyond their reach, or is newer than they are, is left for another day.
    """
    if not again or not ranges:
        return ranges
    pages = law.pages(calendar, timeframe)
    return tuple(_reaching(pages, planned, again) for planned in ranges)


def _reaching(pages: Pages, planned: PlannedRange, again: Spans) -> PlannedRange:
    reach = Span(pages.earliest(planned.span.end_ms, planned.calls_max), planned.span.end_ms)
    holes = planned.claims | pages.grid.inside(again & Spans.of(reach))
    if holes == planned.claims:
        return planned
    reaching, *more = _requests(pages, holes.items)
    same = (reaching.calls, reaching.calls_max) == (planned.calls, planned.calls_max)
    return reaching if same and not more else planned


def newest_first(ranges: Iterable[PlannedRange]) -> list[PlannedRange]:
    """Return requests in the order of their ends, the newest first."""
    return sorted(ranges, key=lambda one: one.span.end_ms, reverse=True)


def one_page_spans(
    calendar: Calendar, timeframe: Timeframe, spans: Spans, law: PageLaw
) -> list[Span]:
    """Cut spans into whole slots that surely fit one page each, oldest first."""
    pages = law.pages(calendar, timeframe)
    grid = pages.grid
    cut: list[Span] = []
    for span in grid.inside(spans):
        first, end = grid.index_from(span.start_ms), grid.index_from(span.end_ms)
        while first < end:
            fitting = grid.index_from(pages.one_page_end(grid.start_of(first)))
            upto = min(end, max(fitting, first + 1))
            cut.append(Span(grid.start_of(first), grid.end_of(upto - 1)))
            first = upto
    return cut


def _requests(pages: Pages, holes: tuple[Span, ...]) -> list[PlannedRange]:
    """Return the requests for holes that are asked for together, newest first."""
    grid = pages.grid
    hull = (holes[0].start_ms, holes[-1].end_ms)
    span = grid.narrow(hull) or Span(*hull)
    claims = Spans(holes)
    windows = pages.windows(span)
    if len(windows) == 1:
        return [_request(pages, span, claims)]
    parts = ((window, grid.inside(claims & Spans.of(window))) for window in windows)
    return [_request(pages, window, part) for window, part in parts if part]


def _request(pages: Pages, span: Span, claims: Spans) -> PlannedRange:
    return PlannedRange(
        span=span,
        claims=claims,
        slots=pages.grid.count(span),
        calls=pages.expected(span),
        calls_max=pages.at_most(pages.ends(span.end_ms) - pages.begins(span.start_ms)),
    )
