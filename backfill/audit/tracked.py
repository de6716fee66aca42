"""The series that are kept: watched, or fetched at least once; with what is known of them."""

from dataclasses import dataclass
from datetime import date, datetime

import structlog

from backfill.core.calendar import Calendar
from backfill.core.coverage import Span
from backfill.core.plan import frontier_ms, wanted_span
from backfill.core.series import Progress, Series, Symbol, SymbolId
from backfill.core.target import life_of
from backfill.core.terms import Terms
from backfill.core.timeframe import Timeframe
from backfill.errors import NoCalendar, NotKept, UsageError
from backfill.run.job import EVERYTHING, Scope
from backfill.settings import Settings
from backfill.store import progress, status, universe
from backfill.store.pool import Connection, Database
from backfill.store.sessions import load_calendar
from backfill.store.times import to_ms
from backfill.store.universe import WatchEntry

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Tracked:
    """One series that is kept, on its calendar, and how deep it goes where no run has said."""

    series: Series
    calendar: Calendar
    known: Progress
    since: date
    scope: Scope

    def due(self, terms: Terms, now: datetime) -> Span | None:
        """Return what of the scope the series should hold by now, in whole final slots, if any."""
        timeframe = self.series.timeframe
        terms = terms.of(self.series.symbol.asset_type)
        now_ms = to_ms(now)
        start = self.known.wanted_from_ms
        if start is None:
            start = self.calendar.begins(self.since, timeframe)
        first, last = self.scope.first, self.scope.last
        return wanted_span(
            self.calendar.grid(timeframe),
            max(start, first.start_ms(self.calendar, timeframe)) if first else start,
            last.end_ms(self.calendar, timeframe) if last else None,
            frontier_ms(self.calendar, timeframe, terms.settling, now_ms),
            life_of(self.series, self.calendar, terms, now_ms),
        )


async def tracked_series(
    database: Database, settings: Settings, now: datetime, scope: Scope = EVERYTHING
) -> list[Tracked]:
    """Return the series of a scope that are kept, by symbol, finest timeframe first.

    Symbols that no provider has confirmed are left out unless they are watched; retired ones, and
    paused entries of the watchlist, altogether.

    Raises
    ------
    UsageError
        If the scope names a symbol that isn't kept.
    """
    default = settings.since_day(now.date())

    async def load(
        connection: Connection,
    ) -> tuple[list[Series], dict[SymbolId, date], progress.Known]:
        symbols = {
            symbol.id: symbol
            for symbol in await universe.known_symbols(connection)
            if symbol.retired_on is None
        }
        watchlist = await universe.watched(connection)
        since: dict[SymbolId, date] = {}
        for entry in watchlist:
            if entry.paused or not _noted(entry, now.date(), since):
                symbols.pop(entry.symbol.id, None)
        keys = {(entry.symbol.id, one) for entry in watchlist for one in entry.timeframes}
        keys.update(await status.claimed_series(connection))
        kept = [Series(symbols[key], one) for key, one in keys if key in symbols]
        found = [one for one in kept if scope.holds(one) and _can_be_meant(one.symbol)]
        return found, since, await progress.load_progress(connection, found)

    found, since, known = await database.run(load)
    strange = set(scope.tickers or ()) - {one.symbol.ticker for one in found}
    if strange:
        raise UsageError(
            f"no series of {', '.join(sorted(strange))} is kept here; see: backfill status"
        )
    order = list(Timeframe)
    found.sort(key=lambda one: (one.symbol.ticker, order.index(one.timeframe)))
    calendars: dict[str, Calendar] = {}
    for name in sorted({one.symbol.calendar for one in found}):
        first = min([default, *since.values(), settings.terms.window_start(now.date())])
        try:
            calendars[name] = await load_calendar(
                database, name, settings.provider.feed, first, now.date(), settings.night
            )
        except NoCalendar as error:
            log.warning("series.left_out", calendar=name, message=str(error))
    return [
        Tracked(
            one,
            calendars[one.symbol.calendar],
            known.get(one.key, Progress()),
            since.get(one.symbol.id, default),
            scope,
        )
        for one in found
        if one.symbol.calendar in calendars
    ]


def _noted(entry: WatchEntry, today: date, since: dict[SymbolId, date]) -> bool:
    """Note how deep an entry is kept; whether that is a depth at all."""
    try:
        day = entry.since_day(today)
    except NotKept as error:
        log.warning("series.left_out", symbol=entry.symbol.ticker, message=str(error))
        return False
    if day is not None:
        since[entry.symbol.id] = day
    return True


def _can_be_meant(symbol: Symbol) -> bool:
    if symbol.doubt is not None:
        log.warning("series.left_out", symbol=symbol.ticker, message=symbol.doubt)
    return symbol.doubt is None
