"""What one page of a provider's bars holds, and so how many pages a range of slots takes."""

# Over 300 lines: each law stands beside what counts its pages.

from dataclasses import field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from backfill.core.calendar import ALWAYS_OPEN, Calendar
from backfill.core.coverage import Span
from backfill.core.dataclass import dataclass
from backfill.core.grid import Grid
from backfill.core.timeframe import Timeframe

if TYPE_CHECKING:
    from backfill.core.bars import IntColumn

_Count = TypeVar("_Count", int, "IntColumn")

FOREVER_BACK_MS: Final = -(2**62)


class Order(StrEnum):
    """Which end of a range the first page of an answer holds."""

    newest = "newest"
    oldest = "oldest"


class PageLaw(Protocol):
    """What one page holds, by which the planner prices a range."""

    @property
    def most_bars(self) -> int | None:
        """The most bars that one page holds; None where only the range bounds them."""
        ...

    def pages(self, calendar: Calendar, timeframe: Timeframe) -> "Pages":
        """Return what counts the pages of one timeframe."""
        ...

    @property
    def newest_slots(self) -> int | None:
        """How many of the newest slots can be had at all; None for all of them."""
        ...

    def __hash__(self) -> int:
        """Return a hash: plans are kept by it."""
        ...


class Pages(Protocol):
    """Counts the pages that ranges of whole slots of one timeframe take."""

    @property
    def grid(self) -> Grid:
        """The slots."""
        ...

    def begins(self, start_ms: int) -> int:
        """The number of the first thing that counts in a range that begins at an instant."""
        ...

    def ends(self, end_ms: int) -> int:
        """The number of the first thing that no longer counts in one that ends there."""
        ...

    def at_most(self, things: _Count) -> _Count:
        """The pages of so many things if every one of them is there."""
        ...

    def expected(self, span: Span) -> int:
        """The pages that a range probably takes."""
        ...

    def earliest(self, end_ms: int, pages: int) -> int:
        """How far back a range may begin that ends at an instant and takes so many pages."""
        ...

    def windows(self, span: Span) -> list[Span]:
        """Cut a range into what one request may ask for each, newest first."""
        ...

    def one_page_end(self, start_ms: int) -> int:
        """Where a range has to end that begins at an instant and surely fits one page."""
        ...


@dataclass(frozen=True, slots=True)
class BaseAggregates:
    """A page holds ``size`` base aggregates, whatever the bars' own length, and whole bars only.

    They are minutes for an intraday timeframe, days for the others. Pages come newest first, and a
    full one is followed by another.
    """

    size: int

    newest_slots: None = field(default=None, init=False)

    @property
    def most_bars(self) -> int:
        """Base aggregates are bars, at the finest."""
        return self.size

    def fewest(self, timeframe: Timeframe) -> int:
        """Return how many a full page holds at least: one bar more might have had no room."""
        return self.size - (timeframe.most_base - 1)

    def pages(self, calendar: Calendar, timeframe: Timeframe) -> Pages:
        """Return what counts the pages of one timeframe."""
        base = Timeframe.m1 if timeframe.is_intraday else Timeframe.d1
        return _Paged(
            calendar.grid(timeframe),
            calendar.grid(base),
            calendar.regular_grid(base),
            self.fewest(timeframe),
        )


@dataclass(frozen=True, slots=True)
class BarsPerPage:
    """A page holds ``size`` bars of the timeframe that is asked for.

    Where pages come oldest first, a range is cut into requests that surely fit a page each, and
    those go out newest first: all else reads them as if the pages came so.
    """

    size: int
    order: Order = Order.newest
    newest_slots: None = field(default=None, init=False)

    @property
    def most_bars(self) -> int:
        """The size."""
        return self.size

    def pages(self, calendar: Calendar, timeframe: Timeframe) -> Pages:
        """Return what counts the pages of one timeframe."""
        grid = calendar.grid(timeframe)
        if self.order is Order.oldest:
            return _Windows(grid, self.size)
        return _Paged(grid, grid, calendar.regular_grid(timeframe), self.size)


@dataclass(frozen=True, slots=True)
class ServerSized:
    """A page holds as many bars as the provider likes, whatever was asked for, the newest first.

    ``fewest`` it surely holds, if another one follows it, and ``usual`` as a rule.
    """

    most_bars: int
    fewest: int
    usual: int
    newest_slots: None = field(default=None, init=False)

    def pages(self, calendar: Calendar, timeframe: Timeframe) -> Pages:
        """Return what counts the pages of one timeframe."""
        grid = calendar.grid(timeframe)
        return _Paged(grid, grid, calendar.regular_grid(timeframe), self.fewest, self.usual)


@dataclass(frozen=True, slots=True)
class PerMarket:
    """A page of an exchange's bars holds other than one of a market that never closes."""

    exchange: PageLaw
    always_open: PageLaw
    newest_slots: None = field(default=None, init=False)

    @property
    def most_bars(self) -> int | None:
        """What the larger of the two may hold; None where one has no bound."""
        most = [one.most_bars for one in (self.exchange, self.always_open)]
        return None if None in most else max(one for one in most if one is not None)

    def pages(self, calendar: Calendar, timeframe: Timeframe) -> Pages:
        """Return what counts the pages of one timeframe."""
        law = self.always_open if calendar.name == ALWAYS_OPEN else self.exchange
        return law.pages(calendar, timeframe)


@dataclass(frozen=True, slots=True)
class NewestOnly:
    """The one page there is holds the newest ``newest_slots``, whatever is asked for."""

    newest_slots: int

    @property
    def most_bars(self) -> int:
        """As many as it holds slots."""
        return self.newest_slots

    def pages(self, calendar: Calendar, timeframe: Timeframe) -> Pages:
        """Return what counts the pages of one timeframe."""
        grid = calendar.grid(timeframe)
        return _Paged(grid, grid, grid, capacity=len(grid) + 1)


@dataclass(frozen=True, slots=True)
class Files:
    """A file holds all bars of one ``period``, a day or a month of the calendar."""

    period: Timeframe
    newest_slots: None = field(default=None, init=False)
    most_bars: None = field(default=None, init=False)

    def pages(self, calendar: Calendar, timeframe: Timeframe) -> Pages:
        """Return what counts the files of one timeframe."""
        return _Files(calendar.grid(timeframe), calendar.grid(self.period))


@dataclass(frozen=True, slots=True)
class ByLength:
    """Minutes and hours come by one law, days and longer by another.

    Single ``minutes`` come by a third one, where there is one.
    """

    intraday: PageLaw
    daily: PageLaw
    minutes: PageLaw | None = None
    newest_slots: None = field(default=None, init=False)
    most_bars: None = field(default=None, init=False)

    def pages(self, calendar: Calendar, timeframe: Timeframe) -> Pages:
        """Return what counts the pages of one timeframe."""
        law = self.intraday if timeframe.is_intraday else self.daily
        if timeframe is Timeframe.m1 and self.minutes is not None:
            law = self.minutes
        return law.pages(calendar, timeframe)


@dataclass(frozen=True, slots=True)
class _Paged:
    """Pages that follow one another, the newest first, as many as the answer takes.

    ``things`` are what a page is made of, ``regular`` those that surely trade; a page surely holds
    ``capacity`` of them, and ``usual`` as a rule, where that is more.
    """

    grid: Grid
    things: Grid
    regular: Grid
    capacity: int
    usual: int | None = None

    def begins(self, start_ms: int) -> int:
        return self.things.index_from(start_ms)

    def ends(self, end_ms: int) -> int:
        return self.things.index_from(end_ms)

    def at_most(self, things: _Count) -> _Count:
        # One more is asked for when the last one is full.
        return things // self.capacity + 1

    def expected(self, span: Span) -> int:
        # Between the regular session and every slot of the trading day lies what trades.
        traded = (self.things.count(span) + self.regular.count(span)) // 2
        return traded // (self.usual or self.capacity) + 1

    def earliest(self, end_ms: int, pages: int) -> int:
        first = self.things.index_from(end_ms) - (pages * self.capacity - 1)
        # The first bucket may begin before the calendar does, as a month before its first session.
        return self.things.start_of(first) if first > 0 else self.grid.start_of(0)

    def windows(self, span: Span) -> list[Span]:
        return [span]

    def one_page_end(self, start_ms: int) -> int:
        last = self.things.index_from(start_ms) + self.capacity - 1
        if last >= len(self.things):
            return self.grid.end_of(len(self.grid) - 1)
        fitting = self.grid.narrow((start_ms, self.things.start_of(last)))
        return fitting.end_ms if fitting else start_ms


@dataclass(frozen=True, slots=True)
class _Windows:
    """Requests of at most ``size`` slots, each of which one page answers."""

    grid: Grid
    size: int

    def begins(self, start_ms: int) -> int:
        return self.grid.index_from(start_ms)

    def ends(self, end_ms: int) -> int:
        return self.grid.index_from(end_ms)

    def at_most(self, things: _Count) -> _Count:
        return -(-things // self.size)

    def expected(self, span: Span) -> int:
        return self.at_most(self.grid.count(span))

    def earliest(self, end_ms: int, pages: int) -> int:
        return self.grid.start_of(max(self.grid.index_from(end_ms) - pages * self.size, 0))

    def windows(self, span: Span) -> list[Span]:
        first, end = self.grid.index_from(span.start_ms), self.grid.index_from(span.end_ms)
        ends = [self.grid.end_of(upto - 1) for upto in range(end, first, -self.size)]
        return _between(span, ends)

    def one_page_end(self, start_ms: int) -> int:
        last = min(self.grid.index_from(start_ms) + self.size, len(self.grid)) - 1
        return self.grid.end_of(last)


@dataclass(frozen=True, slots=True)
class _Files:
    """One request for each period that a range touches."""

    grid: Grid
    periods: Grid

    def begins(self, start_ms: int) -> int:
        # Closed hours before the first slot may be the end of the period before.
        first = self.grid.index_from(start_ms)
        if first < len(self.grid):
            start_ms = self.grid.start_of(first)
        return max(self.periods.index_from(start_ms + 1) - 1, 0)

    def ends(self, end_ms: int) -> int:
        return self.periods.index_from(end_ms)

    def at_most(self, things: _Count) -> _Count:
        return things

    def expected(self, span: Span) -> int:
        return self.ends(span.end_ms) - self.begins(span.start_ms)

    def earliest(self, end_ms: int, pages: int) -> int:
        return self.periods.start_of(max(self.ends(end_ms) - pages, 0))

    def windows(self, span: Span) -> list[Span]:
        # A slot is in the file of the period that it begins in.
        upto = dict.fromkeys(
            self.grid.index_from(min(self.periods.end_of(period), span.end_ms))
            for period in range(self.ends(span.end_ms) - 1, self.begins(span.start_ms) - 1, -1)
        )
        first = self.grid.index_from(span.start_ms)
        return _between(span, [self.grid.end_of(one - 1) for one in upto if one > first])

    def one_page_end(self, start_ms: int) -> int:
        period = self.begins(start_ms)
        upto = self.grid.index_from(self.periods.end_of(period))
        return self.grid.end_of(upto - 1)


def reach_ms(law: PageLaw, calendar: Calendar, timeframe: Timeframe, now_ms: int) -> int:
    """Return the first instant that can be had, in epoch ms; the slot that forms counts, too."""
    if law.newest_slots is None:
        return FOREVER_BACK_MS
    grid = calendar.grid(timeframe)
    first = grid.index_from(now_ms + 1) - law.newest_slots
    return grid.start_of(first) if first > 0 else FOREVER_BACK_MS


def _between(span: Span, ends: list[int]) -> list[Span]:
    """Cut a range at instants, the newest first, so that nothing lies between the parts."""
    bounds = [*ends, span.start_ms]
    return [Span(start, end) for end, start in pairwise(bounds)]
