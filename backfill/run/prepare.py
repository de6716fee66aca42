"""From a job to work: which series, on which calendars, and what each of them misses."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

from backfill.core.calendar import Calendar
from backfill.core.grouped import Grouping, group
from backfill.core.planning import plan_work
from backfill.core.series import Series, Symbol, spelling, ticker_traits
from backfill.core.timeframe import Timeframe
from backfill.core.work import Demand, Mode, Rules, Work
from backfill.errors import EmptyWatchlist, NoCalendar, NotKept
from backfill.providers.base import Provider
from backfill.run.job import Job
from backfill.settings import Settings
from backfill.store import progress, universe
from backfill.store.pool import Connection, Database
from backfill.store.sessions import load_calendar
from backfill.store.times import to_time

_UNREGISTERED: Final = -1
_GROUPED_MODES: Final = {Mode.default, Mode.incremental}


@dataclass(frozen=True, slots=True)
class Entry:
    """One symbol of a run: the timeframes asked for, and what of them."""

    symbol: Symbol
    timeframes: list[Timeframe]
    demand: Demand


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything a run will do, before it makes a call: each piece of work with its demand.

    ``refused`` are the series of which the tables say what can't be meant, and what that is.
    """

    work: list[tuple[Work, Demand]]
    refused: dict[Series, NotKept]

    @property
    def series(self) -> list[Series]:
        """Every series of the run."""
        return [*(series for work, _ in self.work for series in work.series), *self.refused]


def grouping(provider: Provider, rules: Rules, work: Iterable[tuple[Work, Demand]]) -> Grouping:
    """Return the sessions that a provider is best asked for grouped, and the work they close."""
    found = group(one for one, demand in work if demand.mode in _GROUPED_MODES)
    if not found.sessions:
        return found
    day = found.work[0].calendar.day_of(found.sessions[0].start_ms)
    return Grouping() if provider.grouped(day, rules.adjustment) is None else found


async def prepare(
    database: Database, settings: Settings, job: Job, rules: Rules, today: date, *, register: bool
) -> Prepared:
    """Return the work of a job.

    Symbols that are new are added to the table if ``register`` is set. All progress is read in one
    round trip. A repair works on the series that it has to fetch and no others.

    Raises
    ------
    EmptyWatchlist
        If the watchlist has no entry to run.
    """
    entries, refused = await _entries(database, settings, job, today, register=register)
    series = [Series(entry.symbol, one) for entry in entries for one in entry.timeframes]

    async def load(connection: Connection) -> progress.Known:
        may_reopen = job.mode in {Mode.default, Mode.incremental}
        reopen_at = to_time(rules.now_ms) if may_reopen else None
        return await progress.load_progress(connection, series, reopen_at)

    known = await database.run(load)
    calendars: dict[str, Calendar] = {}
    for name in sorted({entry.symbol.calendar for entry in entries}):
        try:
            calendars[name] = await _calendar(database, settings, name, entries, known, today)
        except NoCalendar as error:
            refused |= {one: error for one in series if one.symbol.calendar == name}
    work = [
        (piece, entry.demand)
        for entry in entries
        if entry.symbol.calendar in calendars
        for piece in plan_work(
            entry.symbol,
            entry.timeframes,
            calendars[entry.symbol.calendar],
            rules,
            entry.demand,
            known,
        )
    ]
    if job.mode is Mode.repair:
        work = [(piece, demand) for piece, demand in work if piece.due]
    return Prepared(work, refused)


async def _entries(
    database: Database, settings: Settings, job: Job, today: date, *, register: bool
) -> tuple[list[Entry], dict[Series, NotKept]]:
    tickers = list(job.tickers or ())

    async def load(connection: Connection) -> tuple[list[Symbol], list[universe.WatchEntry]]:
        watchlist = await universe.watched(connection)
        if register:
            return await universe.register(connection, tickers), watchlist
        known = await universe.by_ticker(connection, tickers)
        found = {spelling(one.ticker): one for one in known}
        symbols = [found.get(spelling(one)) or _unregistered(one) for one in tickers]
        return symbols, watchlist

    symbols, watchlist = await database.run(load)
    if job.tickers is None:
        symbols = [entry.symbol for entry in watchlist if not entry.paused]
        if not symbols:
            raise EmptyWatchlist(
                "the watchlist has no entry to run: add one with: backfill watch add AAPL"
            )
    watched = {entry.symbol.ticker: entry for entry in watchlist}
    default_since = settings.since_day(today)
    entries: list[Entry] = []
    refused: dict[Series, NotKept] = {}
    for symbol in symbols:
        entry = watched.get(symbol.ticker)
        own = entry.timeframes if entry else (Timeframe.d1,)
        kept = job.timeframes_of(symbol.ticker, own)
        try:
            since = _depth(symbol, entry, today) or default_since
        except NotKept as error:
            refused |= {Series(symbol, one): error for one in kept}
            continue
        priority = entry.priority if entry else 0
        demand = Demand(since, job.mode, job.first, job.last, priority)
        if kept:
            entries.append(Entry(symbol, kept, demand))
    return entries, refused


def _depth(symbol: Symbol, entry: universe.WatchEntry | None, today: date) -> date | None:
    """Return how deep a symbol is kept, unless its rows say what can't be meant."""
    if symbol.doubt is not None:
        raise NotKept(symbol.doubt)
    return entry.since_day(today) if entry else None


async def _calendar(
    database: Database,
    settings: Settings,
    name: str,
    entries: list[Entry],
    known: progress.Known,
    today: date,
) -> Calendar:
    """Load a calendar as deep as any of its series is wanted, was ever, or is stored."""
    mine = [entry for entry in entries if entry.symbol.calendar == name]
    depths = [entry.demand.since for entry in mine]
    depths += [entry.demand.first.day for entry in mine if entry.demand.first]
    keys = {(entry.symbol.id, one) for entry in mine for one in entry.timeframes}
    for key in keys & known.keys():
        held = known[key]
        starts = [held.wanted_from_ms, held.oldest_bar_ms, *(at for at, _ in held.invalidated)]
        depths += [to_time(at).date() for at in starts if at is not None]
    return await load_calendar(
        database, name, settings.provider.feed, min(depths), today, settings.night
    )


def _unregistered(ticker: str) -> Symbol:
    asset_type, calendar = ticker_traits(ticker)
    return Symbol(_UNREGISTERED, ticker, asset_type, calendar)
