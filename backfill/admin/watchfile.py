"""Having the watchlist be what a file says, by the rules of `watch add`, `pause` and `remove`."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from backfill.admin.watching import OFFLINE, checked, looked_at, whose
from backfill.admin.watchlist import Changed
from backfill.core.likely import is_misspelled
from backfill.core.series import SymbolId, unregistered
from backfill.core.timeframe import Timeframe
from backfill.core.watchfile import (
    DEFAULT,
    Entry,
    Group,
    Kept,
    named_once,
    read_groups,
    read_symbols,
)
from backfill.errors import UsageError
from backfill.run.connect import opened
from backfill.run.spelled import see_spelled
from backfill.settings import Settings
from backfill.store import universe
from backfill.store.pool import Connection, Database
from backfill.store.query import only_column
from backfill.store.spelling import holders
from backfill.store.universe import WatchChange, WatchEntry


@dataclass(frozen=True, slots=True)
class Applied:
    """What a file makes of the watchlist, or would.

    ``changed`` are entries that are new or change, ``removed`` those that go since the file hasn't
    them, ``unlisted`` those that stay all the same; ``notes`` tell what is doubtful.
    """

    changed: list[Changed]
    removed: list[WatchEntry]
    unlisted: list[WatchEntry]
    unchanged: int
    notes: list[str]


async def apply(
    settings: Settings, path: Path, *, prune: bool, dry_run: bool, offline: bool
) -> Applied:
    """Bring the watchlist to what a file says of it, all of it or nothing.

    What the file hasn't stays, unless ``prune`` is set. With ``dry_run`` nothing changes and nobody
    is asked; otherwise the provider is, about tickers that nobody has confirmed yet, unless
    ``offline`` is set.

    Raises
    ------
    UsageError
        If anything in the file can't be meant, or be so by the rules of `watch add`; the message
        begins with its place.
    """
    groups = read_groups(_text(path), path.name)
    async with opened(settings) as database:
        named = [await _entries(database, group, path.parent) for group in groups]
        entries = _checked(settings, named_once(chain.from_iterable(named)))
        planning = partial(
            _planned, settings=settings, entries=entries, prune=prune, offline=offline
        )
        plan = await database.run(planning)
        if dry_run:
            return plan
        notes = [] if offline else await _looked_at(database, settings, entries, plan)

        async def work(connection: Connection) -> Applied:
            again = await planning(connection)
            await _write(connection, again)
            return replace(again, notes=notes)

        return await database.run(work)


def kept_of(entry: WatchEntry) -> Kept:
    """Return how an entry is kept, as a file says it: another venue's symbol names its provider."""
    timeframes = tuple(one for one in Timeframe if one in entry.timeframes)
    provider = None if entry.symbol.venue else entry.provider or DEFAULT
    return Kept(timeframes, entry.since, entry.priority, provider, entry.paused)


# What the file says.


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text in UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from None
    except ValueError:
        raise UsageError(f"{str(path)!r} is no name of a file") from None


async def _entries(database: Database, group: Group, folder: Path) -> list[Entry]:
    """Return all that a group is of: what it names, its file's, and what its query gives."""
    named = list(zip(group.symbols, group.places, strict=True))
    with _at(group.place):
        if group.file is not None:
            named += read_symbols(_text(folder / group.file), group.file)
        if group.query is not None:
            place = f"{group.place}, the query"
            named += [(one, place) for one in await only_column(database, group.query)]
        if not named:
            raise UsageError(f"the group {group.name} names no symbol")
    return [Entry(ticker, group.kept, place) for ticker, place in named]


def _checked(settings: Settings, entries: Iterable[Entry]) -> list[Entry]:
    """Return entries that `watch add` would take, each with its provider's own name."""
    asking: dict[str | None, Settings] = {None: settings, DEFAULT: settings}
    found = []
    for one in entries:
        with _at(one.place):
            provider = one.kept.provider
            if provider not in asking:
                asking[provider] = replace(settings, provider_asked=provider)
            said = WatchChange(since=one.kept.since, provider=provider)
            meant = checked(asking[provider], [one.ticker], said)
            found.append(replace(one, kept=replace(one.kept, provider=meant.provider)))
    return found


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Have a usage error say where in the file its cause is."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{place}: {error.args[0]}", mend=error.mend) from None


# What it makes of the watchlist.


async def _planned(
    connection: Connection,
    *,
    settings: Settings,
    entries: list[Entry],
    prune: bool,
    offline: bool,
) -> Applied:
    found = await universe.found_by(connection, [one.ticker for one in entries])
    held = await holders(connection, found.values())
    before = {one.symbol.id: one for one in await universe.watched(connection)}
    changed: list[Changed] = []
    listed: dict[SymbolId, Entry] = {}
    for one in entries:
        with _at(one.place):
            if not offline and is_misspelled(one.ticker):
                await see_spelled(connection, [one.ticker], but=OFFLINE)
            symbol = found.get(one.ticker) or unregistered(one.ticker)
            provider = whose(settings, symbol, one.kept.provider, held.get(symbol.id, []))
            if one.ticker in found and listed.setdefault(symbol.id, one) is not one:
                raise UsageError(f"{one.ticker} is also at {listed[symbol.id].place}")
        kept = one.kept
        now = WatchEntry(
            symbol,
            kept.timeframes,
            kept.since,
            kept.paused,
            kept.priority,
            symbol.venue or provider,
        )
        was = before.get(symbol.id) if one.ticker in found else None
        if was is None or kept_of(was) != kept_of(now):
            changed.append(Changed(was, now))
    others = [entry for key, entry in before.items() if key not in listed]
    removed, unlisted = (others, []) if prune else ([], others)
    return Applied(changed, removed, unlisted, len(entries) - len(changed), [])


async def _looked_at(
    database: Database, settings: Settings, entries: list[Entry], plan: Applied
) -> list[str]:
    """Ask about the tickers that come onto the watchlist, each whom it is to be of."""
    new = {one.now.symbol.ticker: one.now.provider for one in plan.changed if one.was is None}
    places = {one.ticker: one.place for one in entries}
    notes: list[str] = []
    for provider in dict.fromkeys(new.values()):
        of_it = [ticker for ticker, whose in new.items() if whose == provider]
        notes += await looked_at(database, settings, of_it, provider, places)
    return notes


async def _write(connection: Connection, plan: Applied) -> None:
    parts: dict[WatchChange, list[str]] = {}
    for one in plan.changed:
        parts.setdefault(_change(one), []).append(one.now.symbol.ticker)
    for change, tickers in parts.items():
        if change != WatchChange():
            await universe.watch(connection, tickers, change)
    for paused in (True, False):
        differ = [one.now for one in plan.changed if _is_paused(one.was) != one.now.paused]
        if turned := [one.symbol.ticker for one in differ if one.paused is paused]:
            await universe.pause(connection, turned, paused=paused)
    if plan.removed:
        await universe.unwatch(connection, [one.symbol.ticker for one in plan.removed])


def _is_paused(entry: WatchEntry | None) -> bool:
    return entry is not None and entry.paused


def _change(one: Changed) -> WatchChange:
    """Return what of an entry is to be written: what differs, and of a new one all of it."""
    now = kept_of(one.now)
    if one.was is None:
        return WatchChange(now.timeframes, now.since, now.priority, now.provider)
    was = kept_of(one.was)
    return WatchChange(
        timeframes=now.timeframes if now.timeframes != was.timeframes else None,
        since=(now.since or DEFAULT) if now.since != was.since else None,
        priority=now.priority if now.priority != was.priority else None,
        provider=now.provider if now.provider != was.provider else None,
    )
