"""Which timeframe is fetched for each series: one for several, which are rolled up from it."""

from collections.abc import Callable, Mapping
from typing import Final

from backfill.core.series import Progress, Source
from backfill.core.timeframe import Timeframe

# Two families: a stock's day is not the sum of its minutes, for odd lots and auctions.
_DAYS: Final = (Timeframe.d1, Timeframe.w1, Timeframe.mn1)
_MINUTES: Final = tuple(timeframe for timeframe in Timeframe if timeframe.is_intraday)
# A month is no whole number of weeks.
_CAN_BE_BASE: Final = (*_MINUTES, Timeframe.d1)


def choose_bases(
    native: Mapping[Timeframe, Timeframe],
    known: Mapping[Timeframe, Progress],
    source_of: Callable[[Timeframe], Source],
) -> dict[Timeframe, Timeframe]:
    """Return the timeframe to fetch for each timeframe of a symbol.

    ``native`` names what has to be fetched for each if it stood alone: itself, mostly. ``known`` is
    what the ledger holds of them; a series that has bars of the provider, feed and adjustment that
    ``source_of`` names keeps the base that it has. The others are rolled up from the finest
    timeframe that is fetched anyway, minutes and hours from one of these, weeks and months from
    days: a page counts base aggregates, so it costs no more than the finest alone.
    """
    kept = {
        timeframe: held.derived_from or timeframe
        for timeframe in native
        if (progress := known.get(timeframe)) is not None
        and (held := progress.source) is not None
        and held.origin == source_of(timeframe).origin
    }
    bases = {**native, **kept}
    free = [timeframe for timeframe in native if timeframe not in kept]
    for family in (_MINUTES, _DAYS):
        fetched = [base for timeframe, base in bases.items() if timeframe in family]
        members = [timeframe for timeframe in free if timeframe in family]
        if family is _DAYS and len(members) > 1:
            fetched.append(Timeframe.d1)
        for timeframe in members:
            finest = min(fetched, key=family.index)
            if finest in _CAN_BE_BASE and family.index(finest) < family.index(timeframe):
                bases[timeframe] = finest
    return bases
