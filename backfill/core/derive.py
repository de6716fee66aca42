"""Which timeframe is fetched for each series: one for several, which are rolled up from it."""

from collections.abc import Callable, Mapping
from typing import Final

from backfill.core.series import Progress, Source
from backfill.core.timeframe import Timeframe

_ORDER: Final = tuple(Timeframe)
# A month is no whole number of weeks.
_CAN_BE_BASE: Final = frozenset(Timeframe) - {Timeframe.w1, Timeframe.mn1}


def choose_bases(
    native: Mapping[Timeframe, Timeframe],
    known: Mapping[Timeframe, Progress],
    source_of: Callable[[Timeframe], Source],
) -> dict[Timeframe, Timeframe]:
    """Return the timeframe to fetch for each timeframe of a symbol.

    ``native`` names what has to be fetched for each if it stood alone: itself, mostly. ``known`` is
    what the ledger holds of them; a series that has bars of the provider, feed and adjustment that
    ``source_of`` names keeps the base that it has. The others are rolled up from the finest
    timeframe that is fetched anyway: what is made of minutes or hours from one of these, the others
    from days, since a stock's day is not the sum of its minutes. A page counts base aggregates, so
    it costs no more than the finest alone.
    """
    kept = {
        timeframe: held.derived_from or timeframe
        for timeframe in native
        if (progress := known.get(timeframe)) is not None
        and (held := progress.source) is not None
        and held.origin == source_of(held.derived_from or timeframe).origin
    }
    bases = {**native, **kept}
    free = [timeframe for timeframe in native if timeframe not in kept]
    for of_minutes in (True, False):
        fetched = [base for base in bases.values() if base.is_intraday is of_minutes]
        members = [one for one in free if native[one].is_intraday is of_minutes]
        if not of_minutes and len(members) > 1:
            fetched.append(Timeframe.d1)
        for timeframe in members:
            finest = min(fetched, key=_ORDER.index)
            if finest in _CAN_BE_BASE and _ORDER.index(finest) < _ORDER.index(timeframe):
                bases[timeframe] = finest
    return bases
