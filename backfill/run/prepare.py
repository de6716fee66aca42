"""From a job to work: which series, on which calendars, and what each of them misses."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date, datetime
from functools import cache
from typing import TYPE_CHECKING

from backfill.core.dataclass import dataclass
from backfill.core.planning import plan_work
from backfill.core.series import Progress, Series, Symbol, unregistered
from backfill.core.timeframe import Timeframe
from backfill.core.work import Demand, Mode, Rules, Work
from backfill.errors import EmptyWatchlist, NoCalendar, NotKept, SeriesError, UsageError
from backfill.providers import PROVIDERS, provider_named
from backfill.run.job import Job
from backfill.run.lane import rules_of
from backfill.run.reading import read
from backfill.run.spelled import see_spelled
from backfill.run.venues import check_venues, spell_out
from backfill.settings import Settings
from backfill.store import progress, runs, universe
from backfill.store.pool import Connection, Database
from backfill.store.sessions import load_calendar
from backfill.store.shape import Shape
from backfill.store.times import to_ms, to_time

if TYPE_CHECKING:
    from backfill.core.calendar import Calendar


@dataclass(frozen=True, slots=True)
class Entry:
    """One symbol of a run: the timeframes asked for, what of them, and of whom."""

    symbol: Symbol
    timeframes: list[Timeframe]
    demand: Demand
    provider: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything a run will do, before it makes a call: each piece of work with its demand.

    ``refused`` are the series of which the tables say what can't be meant, or that nobody can be
    asked for, and why; ``rules`` what holds for those of each provider; ``watchlist`` is all that
    is watched, or what is of the symbols that the job names. ``shape`` is that of the table of
    bars, ``owed`` what runs have left to be listed.
    """

    work: list[tuple[Work, Demand]]
    refused: dict[Series, SeriesError]
    rules: dict[str, Rules]
    watchlist: list[universe.WatchEntry]
    shape: Shape
    owed: runs.Owed

    @property
    def series(self) -> list[Series]:
        """Every series of the run."""
        return [*(series for work, _ in self.work for series in work.series), *self.refused]

    def left_out(self, job: Job) -> list[Symbol]:
        """The symbols of the watchlist that a run of it leaves out, since nobody ever knew them."""
        if job.tickers is not None:
            return []
        return [one.symbol for one in self.watchlist if one.symbol.is_unknown and not one.paused]


async def prepare(
    database: Database,
    settings: Settings,
    job: Job,
    now: datetime,
    *,
    register: bool,
) -> Prepared:
    """Return the work of a job, as of ``now``.

    Symbols that are new are added to the table if ``register`` is set. What is known of all
    symbols, series and calendars is read in one round trip, but where a symbol is new or wanted
    since before all that is known. A repair works on the series that it has to fetch and no others,
    and asks whoever they are from.

    Raises
    ------
    EmptyWatchlist
        If the watchlist has no entry to run.
    UsageError
        If a symbol is named as a provider's that there isn't, or that a flag goes against.
    """
    today = now.date()
    if job.mode is not Mode.repair:
        check_venues(settings, job.tickers or ())
    reopen_at = to_time(to_ms(now)) if job.mode.reopens else None
    found = await read(database, settings, job, today, reopen_at)
    named = [*dict.fromkeys(found.named.values())]
    if strange := len(found.named) < len(job.tickers or ()):
        named = await _named(database, job, register=register)
    entries, refused = _entries(settings, job, today, named, found.watchlist)
    series = [Series(entry.symbol, one) for entry in entries for one in entry.timeframes]
    asked = [(one.symbol, one.provider) for one in entries] if register else []
    unasked = await spell_out(database, asked)
    known = (
        await progress.load_progress(database, series, reopen_at)
        if strange
        else found.known_of(series)
    )
    for one in entries:
        if (error := unasked.get((one.symbol.id, one.provider))) is not None:
            refused |= dict.fromkeys((Series(one.symbol, kept) for kept in one.timeframes), error)
    entries = [one for one in entries if (one.symbol.id, one.provider) not in unasked]
    if job.mode is Mode.repair:
        entries = [part for entry in entries for part in _by_holder(entry, known)]
    rules = {
        name: rules_of(
            settings, settings.account(name), to_ms(now), found.shape.precision, job.archive
        )
        for name in sorted({entry.provider for entry in entries} or {settings.provider.name})
    }
    calendars: dict[tuple[str, str], Calendar] = {}
    for name, provider in sorted({(one.symbol.calendar, one.provider) for one in entries}):
        mine = [one for one in entries if (one.symbol.calendar, one.provider) == (name, provider)]
        try:
            calendars[name, provider] = await load_calendar(
                database,
                name,
                rules[provider].can.feed,
                _depth_of(mine, known),
                today,
                settings.night,
                found.calendars,
            )
        except NoCalendar as error:
            refused |= {Series(one.symbol, kept): error for one in mine for kept in one.timeframes}
    work = [
        (piece, entry.demand)
        for entry in entries
        if (calendar := calendars.get((entry.symbol.calendar, entry.provider))) is not None
        for piece in plan_work(
            entry.symbol, entry.timeframes, calendar, rules[entry.provider], entry.demand, known
        )
    ]
    if job.mode is Mode.repair:
        work = [(piece, demand) for piece, demand in work if piece.due]
    return Prepared(work, refused, rules, found.watchlist, found.shape, found.owed)


async def _named(database: Database, job: Job, *, register: bool) -> list[Symbol]:
    """Return the symbols that a job names, of which some are not in the table."""
    tickers = list(job.tickers or ())

    async def load(connection: Connection) -> list[Symbol]:
        await see_spelled(connection, tickers)
        if register:
            return await universe.register(connection, tickers)
        found = await universe.found_by(connection, tickers)
        return [found.get(one) or unregistered(one) for one in tickers]

    return await database.run(load)


def _entries(
    settings: Settings,
    job: Job,
    today: date,
    symbols: list[Symbol],
    watchlist: list[universe.WatchEntry],
) -> tuple[list[Entry], dict[Series, SeriesError]]:
    """Return what a job works on, and what of it the tables say nonsense of."""
    if job.tickers is None:
        symbols = [entry.symbol for entry in watchlist if entry.is_due]
        if not symbols:
            raise EmptyWatchlist(
                "the watchlist has no entry to run",
                mend="backfill watch list" if watchlist else "backfill watch add AAPL",
            )
    watched = {entry.symbol.ticker: entry for entry in watchlist}

    @cache
    def usual(provider: str) -> date:
        return settings.since_day(today, settings.account(provider).terms)

    entries: list[Entry] = []
    refused: dict[Series, SeriesError] = {}
    for symbol in symbols:
        entry = watched.get(symbol.ticker)
        own = entry.timeframes if entry else (Timeframe.d1,)
        kept = job.timeframes_of(symbol.ticker, own)
        try:
            provider = _provider_of(settings, symbol, entry, named=job.tickers is not None)
            since = _depth(symbol, entry, today)
        except NotKept as error:
            refused |= {Series(symbol, one): error for one in kept}
            continue
        since = symbol.kept_since(since or usual(provider))
        priority = entry.priority if entry else 0
        demand = Demand(since, job.mode, job.first, job.last, priority)
        if kept:
            entries.append(Entry(symbol, kept, demand, provider))
    return entries, refused


def _provider_of(
    settings: Settings, symbol: Symbol, entry: universe.WatchEntry | None, *, named: bool
) -> str:
    """Return whom to ask: whose alone it is, else who is named with it, else the entry's own."""
    if symbol.venue is not None:
        try:
            return provider_named(symbol.venue).name
        except UsageError as error:
            raise NotKept(f"{symbol.ticker}: {error}") from None
    if entry is None or entry.provider is None or (named and settings.provider_asked):
        return settings.provider.name
    try:
        return provider_named(entry.provider).name
    except UsageError as error:
        raise NotKept(f"its provider on the watchlist: {error}") from None


def _by_holder(entry: Entry, known: progress.Known) -> list[Entry]:
    """Part an entry by whom the stored bars of its series are from."""
    parts: dict[str, list[Timeframe]] = {}
    for timeframe in entry.timeframes:
        held = known.get((entry.symbol.id, timeframe))
        source = held.source if held else None
        name = source.provider if source and source.provider in PROVIDERS else entry.provider
        parts.setdefault(name, []).append(timeframe)
    return [
        replace(entry, timeframes=timeframes, provider=name) for name, timeframes in parts.items()
    ]


def _depth(symbol: Symbol, entry: universe.WatchEntry | None, today: date) -> date | None:
    """Return how deep a symbol is kept, unless its rows say what can't be meant."""
    if symbol.doubt is not None:
        raise NotKept(symbol.doubt)
    return entry.since_day(today) if entry else None


def _depth_of(entries: Iterable[Entry], known: progress.Known) -> date:
    """Return the first day that a series is wanted on, was ever, or is stored of."""
    return min(
        day
        for entry in entries
        for one in entry.timeframes
        for day in _first_days(entry.demand, known.get((entry.symbol.id, one), Progress()))
    )


def _first_days(demand: Demand, held: Progress) -> Iterator[date]:
    """Yield the first days that matter of a series: of what is asked for, and of what was."""
    if demand.mode.deepens or held.wanted_from_ms is None:
        yield demand.since
        if demand.first:
            yield demand.first.day
    for at in (held.wanted_from_ms, held.oldest_bar_ms, *(start for start, _ in held.invalidated)):
        if at is not None:
            yield to_time(at).date()
