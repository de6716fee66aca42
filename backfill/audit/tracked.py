"""The series that are kept: watched, or fetched at least once; with what is known of them."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Final

import structlog

from backfill.core.calendar import Calendar
from backfill.core.coverage import Span
from backfill.core.dataclass import dataclass
from backfill.core.pages import FOREVER_BACK_MS
from backfill.core.plan import frontier_ms, wanted_span
from backfill.core.series import IMPORT, Progress, Series, Symbol, SymbolId
from backfill.core.target import life_of
from backfill.core.terms import UNTOLD, Quota, Terms
from backfill.core.ticker import spelling_of
from backfill.core.timeframe import Timeframe
from backfill.core.when import EARLIEST_DAY
from backfill.errors import NoCalendar, NotKept, NotKnown
from backfill.run.job import EVERYTHING, Scope
from backfill.settings import Account, Settings
from backfill.store import progress, status, universe
from backfill.store.pool import Connection, Database
from backfill.store.sessions import load_calendar
from backfill.store.times import to_ms, to_time
from backfill.store.universe import WatchEntry

_IMPORTED: Final = Terms(IMPORT, Quota(), UNTOLD, None, EARLIEST_DAY)
"""What holds for bars that came by files, however deep they reach."""

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Tracked:
    """One series that is kept, on its calendar, and how deep it goes where no run has said.

    ``watched`` tells whether the watchlist has it, ``judged`` whether anybody means to keep it up
    to date: it is watched, or the database has no watchlist, it never was on one, and it didn't
    come by a file.
    """

    series: Series
    calendar: Calendar
    known: Progress
    since: date
    scope: Scope
    account: Account
    watched: bool
    judged: bool

    @property
    def is_imported(self) -> bool:
        """Whether its bars came by files: nobody is asked for it."""
        return _is_imported(self.known)

    @property
    def terms(self) -> Terms:
        """What the plan of the provider that it has, or would be asked of, allows."""
        if self.is_imported:
            return _IMPORTED
        return self.account.terms.of(self.series.symbol.asset_type)

    def due(self, now: datetime) -> Span | None:
        """Return what of the scope the series should hold by now, in whole final slots, if any."""
        start = self.known.wanted_from_ms
        return self._final(now, self._own_start if start is None else start, self.scope)

    def wanted(self, now: datetime) -> Span | None:
        """Return what runs will make of it by themselves: of a watched one, as deep as that says.

        The scope doesn't bound it.
        """
        starts = [self.known.wanted_from_ms, self._own_start if self.watched else None]
        known = [start for start in starts if start is not None]
        return self._final(now, min(known, default=self._own_start), EVERYTHING)

    def expected(self, now: datetime) -> Span | None:
        """Return what of what is due somebody sees to: of one that nobody keeps, what was asked."""
        due, covered = self.due(now), self.known.coverage.hull
        if due is None or self.judged:
            return due
        ends = min(due.end_ms, covered.end_ms) if covered else due.start_ms
        return Span(due.start_ms, ends) if due.start_ms < ends else None

    @property
    def _own_start(self) -> int:
        return self.calendar.begins(self.since, self.series.timeframe)

    def _final(self, now: datetime, start: int, scope: Scope) -> Span | None:
        timeframe, terms = self.series.timeframe, self.terms
        now_ms = to_ms(now)
        source = self.known.source
        base = (source.derived_from if source else None) or timeframe
        begins = FOREVER_BACK_MS
        if not self.is_imported:
            begins = self.account.provider.can.begins_ms(self.calendar, base, now_ms)
        first, last = scope.first, scope.last
        return wanted_span(
            self.calendar.grid(timeframe),
            max(start, first.start_ms(self.calendar, timeframe)) if first else start,
            last.end_ms(self.calendar, timeframe) if last else None,
            frontier_ms(self.calendar, timeframe, terms.settling, now_ms),
            life_of(self.series, self.calendar, terms, now_ms, begins),
        )


async def tracked_series(
    database: Database,
    settings: Settings,
    now: datetime,
    scope: Scope = EVERYTHING,
    *,
    missing_ok: bool = False,
) -> list[Tracked]:
    """Return the series of a scope that are kept, by symbol, finest timeframe first.

    Symbols that no provider has confirmed are left out unless they are watched; retired ones, and
    entries of the watchlist that are paused or set aside as unknown, altogether.

    Raises
    ------
    NotKnown
        If the scope names a symbol that isn't kept, unless that is ``missing_ok``.
    """
    asked = None if scope.tickers is None else set(map(spelling_of, scope.tickers))

    async def load(
        connection: Connection,
    ) -> tuple[list[Series], list[WatchEntry], dict[SymbolId, WatchEntry], progress.Known]:
        symbols = {
            symbol.id: symbol
            for symbol in await universe.known_symbols(connection)
            if symbol.retired_on is None and (asked is None or symbol.spelling in asked)
        }
        watchlist = await universe.watched(connection)
        entries: dict[SymbolId, WatchEntry] = {}
        for entry in watchlist:
            if not entry.is_due or not _can_be_kept(entry, now.date()):
                symbols.pop(entry.symbol.id, None)
            else:
                entries[entry.symbol.id] = entry
        keys = {(entry.symbol.id, one) for entry in watchlist for one in entry.timeframes}
        keys.update(await status.claimed_series(connection))
        kept = [Series(symbols[key], one) for key, one in keys if key in symbols]
        held = {one.symbol.id: one.symbol for one in kept if scope.holds(one)}.values()
        meant = {symbol.id for symbol in held if _can_be_meant(symbol)}
        found = [one for one in kept if scope.holds(one) and one.symbol.id in meant]
        if not missing_ok:
            await see_kept(connection, scope, found)
        return found, watchlist, entries, await progress.load_progress(connection, found)

    found, watchlist, entries, known = await database.run(load)
    watched = {(entry.symbol.id, one) for entry in watchlist for one in entry.timeframes}
    order = list(Timeframe)
    found.sort(key=lambda one: (one.symbol.ticker, order.index(one.timeframe)))
    tracked: list[Tracked] = []
    calendars: dict[tuple[str, str], Calendar | None] = {}
    names = {one: _asked_of(one, entries, known) for one in found}
    held = {name: settings.account_of(name) for name in set(names.values())}
    accounts = {one: held[name] for one, name in names.items()}
    since = {one: _since(settings, one, entries, accounts[one], now.date()) for one in found}
    feeds = {
        one: IMPORT if _is_imported(known.get(one.key)) else accounts[one].provider.can.feed
        for one in found
    }
    for one in found:
        account, progressed = accounts[one], known.get(one.key, Progress())
        key = one.symbol.calendar, feeds[one]
        if key not in calendars:
            alike = [other for other in found if (other.symbol.calendar, feeds[other]) == key]
            windows = [accounts[other].terms.window_start(now.date()) for other in alike]
            imported = [_imported_from(known.get(other.key)) for other in alike]
            first = min([*map(since.__getitem__, alike), *windows, *filter(None, imported)])
            calendars[key] = await _calendar(database, settings, key, first, now.date())
        calendar = calendars[key]
        if calendar is not None:
            is_watched = one.key in watched
            kept = not (watchlist or one.symbol.was_watched or _is_imported(progressed))
            tracked.append(
                Tracked(
                    one,
                    calendar,
                    progressed,
                    since[one],
                    scope,
                    account,
                    watched=is_watched,
                    judged=is_watched or kept,
                )
            )
    return tracked


async def see_kept(connection: Connection, scope: Scope, kept: Iterable[Series]) -> None:
    """See that each symbol that a scope names has a series among those that are kept.

    Raises
    ------
    NotKnown
        If one has none.
    """
    spellings = {one.symbol.spelling for one in kept}
    if strange := sorted(one for one in scope.tickers or () if spelling_of(one) not in spellings):
        named = await universe.hinted(connection, strange)
        raise NotKnown(f"no series of {named} is kept here", mend="backfill status")


def _is_imported(known: Progress | None) -> bool:
    """Whether the bars of a series came by files: nobody is asked for it."""
    return known is not None and known.source is not None and known.source.provider == IMPORT


def _imported_from(known: Progress | None) -> date | None:
    """Return the day that an imported series begins on; None for any other."""
    if known is None or known.wanted_from_ms is None or not _is_imported(known):
        return None
    return to_time(known.wanted_from_ms).date()


async def _calendar(
    database: Database, settings: Settings, key: tuple[str, str], first: date, today: date
) -> Calendar | None:
    """Load a feed's calendar; None where there is none, which is told."""
    try:
        return await load_calendar(database, *key, first, today, settings.night)
    except NoCalendar as error:
        log.warning("series.left_out", calendar=key[0], message=str(error))
        return None


def _asked_of(
    series: Series, entries: Mapping[SymbolId, WatchEntry], known: progress.Known
) -> str | None:
    """Return the provider that a series has, or would be asked of; None for the default."""
    progressed, entry = known.get(series.key), entries.get(series.symbol.id)
    source = progressed.source if progressed else None
    asked = series.symbol.venue or (entry.provider if entry else None)
    return source.provider if source else asked


def _since(
    settings: Settings,
    series: Series,
    entries: Mapping[SymbolId, WatchEntry],
    account: Account,
    today: date,
) -> date:
    """Return how deep a series is kept, where no run has said."""
    entry = entries.get(series.symbol.id)
    since = entry.since_day(today) if entry else None
    return series.symbol.kept_since(since or settings.since_day(today, account.terms))


def _can_be_kept(entry: WatchEntry, today: date) -> bool:
    """Whether what an entry says of its depth is one."""
    try:
        entry.since_day(today)
    except NotKept as error:
        log.warning("series.left_out", symbol=entry.symbol.ticker, message=str(error))
        return False
    return True


def _can_be_meant(symbol: Symbol) -> bool:
    if symbol.doubt is not None:
        log.warning("series.left_out", symbol=symbol.ticker, message=symbol.doubt)
    return symbol.doubt is None


def base_of(tracked: Mapping[Series, Tracked], series: Series) -> Series | None:
    """Return what a series is derived from, if that is kept on the same source."""
    source = tracked[series].known.source if series in tracked else None
    if source is None or source.derived_from is None:
        return None
    base = Series(series.symbol, source.derived_from)
    held = tracked[base].known.source if base in tracked else None
    if held is None or held.origin != source.origin:
        return None
    return base
