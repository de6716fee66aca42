"""Changing what is kept: what is named of an entry changes, and what it was is told."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from backfill.core.likely import hint
from backfill.core.plain import argument
from backfill.core.series import Symbol, unregistered
from backfill.core.when import parse_since
from backfill.errors import UsageError
from backfill.run.connect import opened
from backfill.run.lookup import Looked, looked_up
from backfill.run.spelled import see_spelled
from backfill.run.venues import check_venues
from backfill.settings import Settings
from backfill.store import universe
from backfill.store.pool import Connection, Database
from backfill.store.spelling import holders
from backfill.store.universe import WatchChange, WatchEntry

_OFFLINE: Final = ". To watch it all the same: --offline"
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
    today = datetime.now(UTC).date()
    if change.since not in {None, DEFAULT} and parse_since(change.since, today) > today:
        raise UsageError(f"--since {change.since} lies ahead: nothing would be kept")
    check_venues(settings, tickers)
    if settings.provider_asked is not None:
        change = replace(change, provider=settings.provider.name)

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
        notes = [] if offline else await _seen(database, settings, tickers, change.provider)
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
    """Return the tickers by the provider that their entries are to have.

    A symbol is whoever's filled it first: without another word its entry has that one.

    Raises
    ------
    UsageError
        If a symbol holds bars of others than the provider that is named.
    """
    found = await universe.found_by(connection, tickers)
    held = await holders(connection, found.values())
    watched = {one.symbol.id for one in await universe.watched(connection)}
    parts: dict[str | None, list[str]] = {}
    for ticker in tickers:
        symbol, provider = found.get(ticker), change.provider
        of = held.get(symbol.id, []) if symbol is not None else []
        if symbol is not None and of and symbol.venue is None:
            if provider not in {None, DEFAULT, *of}:
                own = f"{symbol.ticker}@{provider}"
                raise UsageError(
                    f"{symbol.ticker} holds the bars of {' and '.join(of)}; those of {provider} "
                    f"are a symbol of their own, {own}",
                    mend=f"backfill watch add {argument(own)}",
                )
            if provider is None and symbol.id not in watched and settings.provider.name not in of:
                provider = of[0]
        parts.setdefault(provider, []).append(ticker)
    return parts


async def _seen(
    database: Database, settings: Settings, tickers: list[str], provider: str | None
) -> list[str]:
    """See that there are such tickers, as far as the provider tells; return what is doubtful."""

    async def load(connection: Connection) -> tuple[list[Symbol], list[str]]:
        await see_spelled(connection, tickers, but=_OFFLINE)
        found = await universe.found_by(connection, tickers)
        confirmed = {named for named, one in found.items() if one.confirmed}
        new = [unregistered(one) for one in tickers if one not in confirmed]
        return new, [one.ticker for one in await universe.known_symbols(connection)]

    new, known = await database.run(load)
    if not new:
        return []
    looked = await _looked_up(database, settings, new, provider)
    if looked.unknown:
        named = ", ".join(f"{one}{hint(one, [*known, *looked.listed])}" for one in looked.unknown)
        raise UsageError(f"the provider knows no {named}; nothing was changed{_OFFLINE}")
    notes = [
        f"{one.ticker} is taken for a {one.asset_type}{meant}"
        for one in new
        if (meant := hint(one.ticker, known))
    ]
    if looked.unasked is not None:
        unseen = [one.ticker for one in new if one.ticker not in looked.known]
        notes.append(f"not looked up: {', '.join(unseen)} ({looked.unasked})")
    return notes


async def _looked_up(
    database: Database, settings: Settings, symbols: list[Symbol], provider: str | None
) -> Looked:
    """Ask about each symbol whom it is to be of."""
    parts: dict[str | None, list[Symbol]] = {}
    for one in symbols:
        parts.setdefault(one.venue or provider, []).append(one)
    looked = [await looked_up(database, settings.account_of(one), of) for one, of in parts.items()]
    return Looked(
        tuple(ticker for one in looked for ticker in one.known),
        tuple(ticker for one in looked for ticker in one.unknown),
        next((one.unasked for one in looked if one.unasked is not None), None),
        tuple(ticker for one in looked for ticker in one.listed),
    )
