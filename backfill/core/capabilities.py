"""What a provider can be asked for, as values that the planner asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from backfill.core.pages import PageLaw
from backfill.core.timeframe import Timeframe
from backfill.errors import NotEntitled

ALL: Final = frozenset(Timeframe)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider has.

    Parameters
    ----------
    feed
        Which of its feeds the bars are of.
    native
        The timeframes that it serves of each asset type, as bars in our sense; another asset type
        it has no bars of. The others are rolled up here.
    adjustments
        Adjustments that bars can be asked for, the default first.
    pages
        What a page holds.
    fills_empty
        Whether it sends a bar without volume for a slot in which nobody traded. Such a bar is no
        bar: its slot is known to be empty.
    doubts_empty
        Whether it marks answers without any bar as unconfirmed. What they were asked for is not
        asked for again that day.
    cost
        What a request for bars takes from the quota, in the provider's unit.
    refuses_places
        Whether it refuses whoever calls from some countries. Then one call is sent first, and the
        others once it is answered: they would all be refused.
    """

    feed: str
    native: Mapping[str, frozenset[Timeframe]]
    adjustments: tuple[str, ...]
    pages: PageLaw
    fills_empty: bool = False
    doubts_empty: bool = False
    cost: int = 1
    refuses_places: bool = False

    @property
    def derives_for_less(self) -> bool:
        """Whether the finest of several timeframes serves the others too, at no call more.

        Where only the newest bars can be had, those of the finest reach back the least.
        """
        return self.pages.newest_slots is None

    def base_of(self, asset_type: str, timeframe: Timeframe) -> Timeframe:
        """Return the timeframe to fetch for one that stands alone: itself, or a finer one.

        Minutes and hours are rolled up from the coarsest of these that is native, weeks and months
        from days. A day is rolled up from nothing: a stock's is not the sum of its minutes, for odd
        lots and auctions.

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
        if timeframe.is_intraday and finer:
            return finer[-1]
        if timeframe in {Timeframe.w1, Timeframe.mn1} and Timeframe.d1 in native:
            return Timeframe.d1
        what = f"bars of {timeframe}" if native else "bars"
        raise NotEntitled(f"the provider has no {what} of this asset type ({asset_type})")
