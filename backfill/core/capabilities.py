"""What a provider can be asked for, as values that the planner asks."""

from collections.abc import Mapping
from dataclasses import field
from datetime import date, timedelta
from typing import Final

from backfill.core.archive import Archive
from backfill.core.calendar import Calendar
from backfill.core.dataclass import dataclass
from backfill.core.pages import PageLaw, reach_ms
from backfill.core.timeframe import Timeframe
from backfill.errors import NotEntitled

ALL: Final = frozenset(Timeframe)
_SUMS: Final = frozenset({"crypto", "fx"})
"""The asset types of which a day is the sum of its minutes."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider has.

    Parameters
    ----------
    feed
        Which of its feeds the bars are of.
    daily_feed
        The same of d1 and longer, where these are of another.
    native
        The timeframes that it serves of each asset type, as bars in our sense; another asset type
        it has no bars of. The others are rolled up here.
    adjustments
        Adjustments that bars can be asked for, the default first.
    daily_adjustments
        The same of d1 and longer, where a provider adjusts them otherwise than minutes and hours.
    pages
        What a page holds.
    fills_empty
        Whether it sends a bar without volume for a slot in which nobody traded. Such a bar is no
        bar: its slot is known to be empty.
    doubts_empty
        Whether it marks answers without any bar as unconfirmed. What they were asked for is not
        asked for again that day.
    insists
        Whether what was answered so is asked for once more at once.
    cost
        What a request for bars takes from the quota, in the provider's unit.
    refuses_places
        Whether it refuses whoever calls from some countries. Then one call is sent first, and the
        others once it is answered: they would all be refused.
    at_once
        How many calls it is sent at once at most; None for no bound of its own.
    reach
        How far back bars of a native timeframe can be had at all, whatever the plan: so long before
        now, or from a day on. Of one that isn't named, as far as the plan reads.
    archive
        The files that it has beside calls; None where it has none.
    """

    feed: str
    native: Mapping[str, frozenset[Timeframe]]
    adjustments: tuple[str, ...]
    pages: PageLaw
    fills_empty: bool = False
    doubts_empty: bool = False
    cost: int = 1
    refuses_places: bool = False
    daily_adjustments: tuple[str, ...] = ()
    insists: bool = True
    daily_feed: str = ""
    at_once: int | None = None
    reach: Mapping[Timeframe, timedelta | date] = field(default_factory=dict)
    archive: Archive | None = None

    @property
    def may_lack_vwap(self) -> bool:
        """Whether bars of one slot come with a vwap as well as without, out of a file."""
        return self.archive is not None and self.archive.lacks_vwap

    @property
    def common_adjustments(self) -> tuple[str, ...]:
        """The adjustments that bars of every timeframe can be asked for, the default first."""
        daily = self.daily_adjustments or self.adjustments
        return tuple(one for one in self.adjustments if one in daily)

    def adjustment_of(self, timeframe: Timeframe, wanted: str) -> str:
        """Return how bars of a timeframe are adjusted: as wanted, or else as they are.

        What is rolled up is adjusted as what it is made of.

        >>> from backfill.core.pages import NewestOnly
        >>> can = Capabilities("f", {}, ("raw",), NewestOnly(9), daily_adjustments=("split",))
        >>> can.adjustment_of(Timeframe.h1, "raw"), can.adjustment_of(Timeframe.w1, "raw")
        ('raw', 'split')
        """
        offered = self.adjustments
        if self.daily_adjustments and not timeframe.is_intraday:
            offered = self.daily_adjustments
        return wanted if wanted in offered else offered[0]

    def feed_of(self, timeframe: Timeframe) -> str:
        """Return which feed the bars of a timeframe are of."""
        return self.feed if timeframe.is_intraday else self.daily_feed or self.feed

    @property
    def derives_for_less(self) -> bool:
        """Whether the finest of several timeframes serves the others too, at no call more.

        Where only the newest bars can be had, those of the finest reach back the least.
        """
        native = frozenset[Timeframe]().union(*self.native.values())
        reaches = {self.reach.get(one) for one in native if one.is_intraday}
        return self.pages.newest_slots is None and len(reaches) < 2

    def begins_ms(self, calendar: Calendar, timeframe: Timeframe, now_ms: int) -> int:
        """Return the first instant of which bars of a timeframe can be had, in epoch ms.

        So long before now is a window that recedes: it is kept a day's margin from.
        """
        begins_ms = reach_ms(self.pages, calendar, timeframe, now_ms)
        match self.reach.get(timeframe):
            case timedelta() as depth:
                first = calendar.day_of(now_ms) - depth + timedelta(days=1)
            case date() as first:
                pass
            case _:
                return begins_ms
        return max(begins_ms, calendar.begins(first, timeframe))

    def base_of(self, asset_type: str, timeframe: Timeframe) -> Timeframe:
        """Return the timeframe to fetch for one that stands alone: itself, or a finer one.

        Minutes and hours are rolled up from the coarsest of these that is native, weeks and months
        from days. A stock's day is rolled up from nothing: for odd lots and auctions it is not the
        sum of its minutes. That of a pair is, so it, its weeks and months are rolled up from the
        coarsest where no day in our sense is native.

        Raises
        ------
        NotEntitled
            If the provider has nothing that the timeframe can be made of.
        """
        native = self.native.get(asset_type, frozenset())
        if timeframe in native:
            return timeframe
        order = list(Timeframe)
        finer = [one for one in order[: order.index(timeframe)] if one in native]
        if timeframe in {Timeframe.w1, Timeframe.mn1} and Timeframe.d1 in native:
            return Timeframe.d1
        made = [one for one in finer if one.is_intraday]
        if made and (timeframe.is_intraday or asset_type in _SUMS):
            return made[-1]
        what = f"bars of {timeframe}" if native else "bars"
        raise NotEntitled(f"the provider has no {what} of this asset type ({asset_type})")
