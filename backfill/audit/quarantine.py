"""Asking again for bars in quarantine: their slots leave the coverage, and a run does the rest."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from itertools import groupby
from typing import Any, Final, Protocol, TypeVar

import structlog

from backfill.core.calendar import Calendar
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.errors import NoCalendar
from backfill.run.connect import opened
from backfill.settings import Settings
from backfill.store import progress, universe
from backfill.store.pool import Connection, Database
from backfill.store.quarantine import (
    Choice,
    Held,
    QuarantinedBar,
    held_bars,
    quarantined_bars,
    quarantined_json,
)
from backfill.store.quarantine import accept as accept_bars
from backfill.store.retry import lacking_ms, origins, reopen_covered
from backfill.store.sessions import load_calendar

log = structlog.stdlib.get_logger()

_AT_ONCE: Final = 50_000

_Lot_contra = TypeVar("_Lot_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Reopened:
    """A series of which the next run asks again for some slots, and how many."""

    symbol: str
    timeframe: Timeframe
    slots: int

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {"symbol": self.symbol, "timeframe": str(self.timeframe), "slots": self.slots}


class Listing(Protocol[_Lot_contra]):
    """What shows a list of bars in quarantine as it is read, in lots of one form."""

    def begin(self, held: Sequence[Held]) -> None:
        """Show how many bars there are, by series and reason."""

    def add(self, bars: _Lot_contra) -> None:
        """Show some more of them."""

    def end(self) -> None:
        """Show that there are no more."""


async def show(
    settings: Settings,
    choice: Choice,
    listing: Listing[list[QuarantinedBar]],
    *,
    accepted: bool,
    limit: int | None,
) -> None:
    """Show the chosen bars in quarantine as they are read, their counts first.

    Those that were accepted are shown only if asked for, and of all no more than ``limit``.
    """
    await _show(settings, choice, listing, quarantined_bars, accepted=accepted, limit=limit)


async def show_json(
    settings: Settings,
    choice: Choice,
    listing: Listing[str],
    *,
    accepted: bool,
    limit: int | None,
) -> None:
    """Show the same bars as JSON."""
    await _show(settings, choice, listing, quarantined_json, accepted=accepted, limit=limit)


async def _show(
    settings: Settings,
    choice: Choice,
    listing: Listing[_Lot_contra],
    read: Callable[..., AsyncIterator[_Lot_contra]],
    *,
    accepted: bool,
    limit: int | None,
) -> None:
    async with opened(settings) as database:
        held = await database.run(partial(held_bars, choice=choice, accepted=accepted))
        listing.begin(held)
        async for bars in read(database, choice, held, accepted=accepted, limit=limit):
            listing.add(bars)
        listing.end()


async def accept(settings: Settings, choice: Choice) -> int:
    """Mark the chosen bars in quarantine as looked at and return how many."""
    async with opened(settings) as database:
        return await accept_bars(database, choice)


async def retry(settings: Settings, choice: Choice) -> list[Reopened]:
    """Have the next run ask again for the chosen bars; return the series that it will ask for."""
    feed, today = settings.provider.can.feed, datetime.now(UTC).date()
    async with opened(settings) as database:
        return await reopen_all(database, choice, feed, today)


async def reopen_all(database: Database, choice: Choice, feed: str, today: date) -> list[Reopened]:
    """Take the slots of the chosen bars out of coverage, and return of which series.

    Those of a series are by the hours of the feed that its bars are of; of ``feed`` if it has none.

    These are the bars' own series and those rolled up from them. Nothing is asked again for a bar
    that lies in no slot, such as one stamped on a Saturday, for a slot that was never covered,
    where the table holds a bar by now, or of a retired symbol. Some thousand bars go in each
    transaction, and no more are held: one that ends early is gone on with by the next `retry`.
    """
    held = await database.run(partial(held_bars, choice=choice))
    if not held:
        return []
    first = min(one.first for one in held).date()
    calendars = _Calendars(database, first, today)
    found: list[Reopened] = []
    for ticker, group in groupby(held, key=lambda one: one.symbol):
        try:
            found += await _retry(database, ticker, list(group), choice, feed, calendars)
        except NoCalendar as error:
            log.warning("series.left_out", symbol=ticker, message=str(error))
    return found


class _Calendars:
    """The calendars that bars in quarantine lie on, each loaded once for all symbols."""

    def __init__(self, database: Database, first: date, today: date) -> None:
        self._database = database
        self._first = first
        self._today = today
        self._loaded: dict[tuple[str, str], Calendar] = {}

    async def of(self, name: str, feed: str) -> Calendar:
        """Return a calendar by the hours of a feed."""
        if (name, feed) not in self._loaded:
            self._loaded[name, feed] = await load_calendar(
                self._database, name, feed, self._first, self._today
            )
        return self._loaded[name, feed]


async def _retry(
    database: Database,
    ticker: str,
    held: list[Held],
    choice: Choice,
    feed: str,
    calendars: _Calendars,
) -> list[Reopened]:
    """Reopen the slots of one symbol's bars."""
    [symbol] = await database.run(partial(universe.by_ticker, tickers=[ticker]))
    if symbol.retired_on is not None:
        return []
    kept = [Series(symbol, one) for one in dict.fromkeys(one.timeframe for one in held)]
    known = await database.run(partial(progress.load_progress, series=kept))
    feeds = {one: of.source.feed for one in kept if (of := known.get(one.key)) and of.source}
    slots: dict[Timeframe, int] = {}
    for series in kept:
        calendar = await calendars.of(symbol.calendar, feeds.get(series, feed))
        after: datetime | None = None
        while True:
            work = partial(_reopen, series=series, calendar=calendar, choice=choice, after=after)
            reopened, after = await database.run(work)
            for one, count in reopened.items():
                slots[one] = slots.get(one, 0) + count
            if after is None:
                break
    return [Reopened(ticker, one, slots[one]) for one in Timeframe if one in slots]


async def _reopen(
    connection: Connection,
    series: Series,
    calendar: Calendar,
    choice: Choice,
    after: datetime | None,
) -> tuple[dict[Timeframe, int], datetime | None]:
    """Reopen the slots of the next bars of a series in all that they feed, and count them.

    Returns, too, the stamp of the last of them, None if there are no more behind it. What is rolled
    up goes first: with its base it would leave the coverage uncounted.
    """
    lacking = await lacking_ms(connection, series, choice, after, _AT_ONCE)
    reopened: dict[Timeframe, int] = {}
    fed = await origins(connection, series)
    for timeframe in reversed([one for one in fed if series.timeframe in {one, fed[one]}]):
        one, grid = Series(series.symbol, timeframe), calendar.grid(timeframe)
        slots = grid.bounds_around(calendar.canonical(timeframe, lacking.ts_ms))
        if len(slots) and len(covered := await reopen_covered(connection, one, slots)):
            reopened[timeframe] = grid.count_all(covered)
    return reopened, lacking.last
