"""Changing what is kept: what is named of an entry changes, and what it was is told."""

from dataclasses import dataclass, replace
from datetime import date
from functools import partial

from backfill.core.when import parse_since
from backfill.run.connect import opened
from backfill.settings import Settings
from backfill.store import universe
from backfill.store.pool import Connection
from backfill.store.universe import WatchChange, WatchEntry

DEFAULT = "default"
"""What is written for a depth or a provider that an entry shall not have of its own."""


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


async def add(settings: Settings, tickers: list[str], change: WatchChange) -> Watched:
    """Put symbols on the watchlist, or change what is named of their entries and nothing else.

    Raises
    ------
    UsageError
        If a ticker or the depth can't be read; then nothing changes.
    """
    if change.since not in {None, DEFAULT}:
        parse_since(change.since, date(2026, 1, 1))
    if settings.provider_asked is not None:
        change = replace(change, provider=settings.provider.name)

    async def work(connection: Connection) -> Watched:
        before = {one.symbol.id: one for one in await universe.watched(connection)}
        await universe.watch(connection, tickers, change)
        entries = await universe.watched(connection)
        after = {one.symbol.id: one for one in entries}
        named = [one.id for one in await universe.by_ticker(connection, tickers)]
        return Watched([Changed(before.get(key), after[key]) for key in named], entries)

    async with opened(settings) as database:
        return await database.run(work)


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
