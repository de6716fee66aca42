"""Changing what is kept: what is named of an entry changes, and what it was is told."""

from dataclasses import replace
from functools import partial

from backfill.admin.watching import checked, looked_at, whose
from backfill.core.dataclass import dataclass
from backfill.run.connect import opened
from backfill.settings import Settings
from backfill.store import universe
from backfill.store.pool import Connection
from backfill.store.spelling import holders
from backfill.store.universe import WatchChange, WatchEntry


@dataclass(frozen=True, slots=True)
class Changed:
    """An entry of the watchlist before and after; ``was`` is None for one that is new."""

    was: WatchEntry | None
    now: WatchEntry


@dataclass(frozen=True, slots=True)
class Watched:
    """What became of the entries that were named, in their order, and the whole watchlist."""

    changed: list[Changed]
    entries: list[WatchEntry]
    notes: list[str]


async def add(
    settings: Settings, tickers: list[str], change: WatchChange, *, offline: bool = False
) -> Watched:
    """Put symbols on the watchlist, or change what is named of their entries and nothing else.

    Whether there are such tickers the provider is asked first, unless ``offline`` is set: about
    those that nobody has confirmed yet. ``notes`` tell what is doubtful all the same.

    Raises
    ------
    UsageError
        If a ticker or the depth can't be read, the provider knows no such ticker, or a symbol holds
        another provider's bars than the one that is named; then nothing changes.
    """
    change = checked(settings, tickers, change)

    async def work(connection: Connection) -> Watched:
        before = {one.symbol.id: one for one in await universe.watched(connection)}
        for provider, theirs in (await _by_provider(connection, settings, tickers, change)).items():
            await universe.watch(connection, theirs, replace(change, provider=provider))
        entries = await universe.watched(connection)
        after = {one.symbol.id: one for one in entries}
        named = [one.id for one in await universe.by_ticker(connection, tickers)]
        changed = [Changed(before.get(key), after[key]) for key in named]
        return Watched(changed, entries, [])

    async with opened(settings) as database:
        notes = [] if offline else await looked_at(database, settings, tickers, change.provider)
        return replace(await database.run(work), notes=notes)


async def remove(settings: Settings, tickers: list[str]) -> list[str]:
    """Take symbols off the watchlist and return those that were on it; their bars stay."""
    async with opened(settings) as database:
        return await database.run(partial(universe.unwatch, tickers=tickers))


async def pause(settings: Settings, tickers: list[str], *, paused: bool) -> list[WatchEntry]:
    """Pause entries of the watchlist, or end their pause, and return it.

    Raises
    ------
    UsageError
        If one isn't on it; then none changes.
    """

    async def work(connection: Connection) -> list[WatchEntry]:
        await universe.pause(connection, tickers, paused=paused)
        return await universe.watched(connection)

    async with opened(settings) as database:
        return await database.run(work)


async def listed(settings: Settings) -> list[WatchEntry]:
    """Return the watchlist."""
    async with opened(settings) as database:
        return await database.run(universe.watched)


async def _by_provider(
    connection: Connection, settings: Settings, tickers: list[str], change: WatchChange
) -> dict[str | None, list[str]]:
    """Return the tickers by the provider that their entries are to have."""
    found = await universe.found_by(connection, tickers)
    held = await holders(connection, found.values())
    watched = {one.symbol.id for one in await universe.watched(connection)}
    parts: dict[str | None, list[str]] = {}
    for ticker in tickers:
        symbol, provider = found.get(ticker), change.provider
        if symbol is not None:
            own = whose(settings, symbol, provider, held.get(symbol.id, []))
            provider = provider if symbol.id in watched else own
        parts.setdefault(provider, []).append(ticker)
    return parts
