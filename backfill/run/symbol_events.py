"""What became of a symbol that somebody keeps, in a sentence, with the commands to type."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, field, replace
from datetime import date
from enum import StrEnum
from typing import Any

from backfill.core.dataclass import dataclass
from backfill.core.likely import hint
from backfill.core.plain import argument
from backfill.core.series import Symbol, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store import universe
from backfill.store.pool import Connection
from backfill.store.universe import WatchEntry


class Event(StrEnum):
    """What can become of a symbol."""

    renamed = "renamed"
    """Its company has another ticker now."""
    delisted = "delisted"
    new_owner = "new_owner"
    """Its ticker is another company's now."""
    gone = "gone"
    """The provider's reference knows it no longer, and doesn't say why."""
    unknown = "unknown"
    """Nobody knew it in three runs: runs of the watchlist leave it out."""


@dataclass(frozen=True, slots=True)
class SymbolEvent:
    """What became of a symbol: since when, if that is known, and what its company is called now.

    ``message`` says it in a sentence, ``commands`` are what may be typed then. ``is_new`` tells
    that this run noticed it.
    """

    symbol: str
    event: Event
    on: date | None
    name: str | None
    message: str
    commands: tuple[str, ...] = field(default=())
    is_new: bool = False

    def __str__(self) -> str:
        return f"{self.message}: {' && '.join(self.commands)}" if self.commands else self.message

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return asdict(self) | {
            "event": str(self.event),
            "on": self.on.isoformat() if self.on else None,
            "commands": list(self.commands),
        }


def event_of(
    symbol: Symbol, entry: WatchEntry | None = None, watched: Collection[str] = ()
) -> SymbolEvent | None:
    """Return what became of a symbol, if anything did that its keeper should know of.

    ``entry`` is how it is kept, ``watched`` names every ticker on the watchlist: the commands go
    by both.
    """
    found = None if symbol.retired_on is not None else _happened(symbol, watched)
    if found is None:
        return None
    event, on, message = found
    commands = _commands(event, symbol, entry, watched)
    return SymbolEvent(symbol.ticker, event, on, symbol.renamed_to, message, commands)


def _happened(symbol: Symbol, watched: Collection[str]) -> tuple[Event, date | None, str] | None:
    """Return what became of a symbol, since when, and a sentence that says it."""
    name = symbol.ticker
    if symbol.successor_figi is not None:
        on = symbol.successor_listed_on
        since = f" since {on}" if on else ""
        now = f"; its own is {symbol.renamed_to} now" if symbol.renamed_to else ""
        message = f"{name} belongs to another company{since}, FIGI {symbol.successor_figi}{now}"
        return Event.new_owner, on, message
    if symbol.renamed_to is not None:
        on = symbol.renamed_on
        return Event.renamed, on, f"{name} is {symbol.renamed_to} since {on}"
    if (on := symbol.delisted_on) is not None:
        return Event.delisted, on, f"{name} was delisted on {on}; its bars stay"
    if (on := symbol.gone_on) is not None:
        message = (
            f"{name} is not in the provider's reference any more, as of {on}, which doesn't say "
            "why: delisted, or renamed; its bars stay"
        )
        return Event.gone, on, message
    if not symbol.is_unknown:
        return None
    message = (
        f"{name}{hint(name, watched)} is set aside: the provider didn't know it in "
        f"{symbol.unknown_runs} runs, and "
        "`run --all` asks for it no more; to have it asked for again"
    )
    return Event.unknown, None, message


def _commands(
    event: Event, symbol: Symbol, entry: WatchEntry | None, watched: Collection[str]
) -> tuple[str, ...]:
    name = argument(symbol.ticker)
    follow = _follow(symbol, entry, watched)
    match event:
        case Event.new_owner:
            return *follow, f"backfill symbols retire {name}"
        case Event.unknown:
            return (f"backfill watch resume {name}",)
        case _:
            return *follow, *([f"backfill watch remove {name}"] if entry else [])


def events_of(entries: Iterable[WatchEntry]) -> list[SymbolEvent]:
    """Return what became of the symbols that are watched, but for paused ones, in their order."""
    entries = list(entries)
    watched = {one.symbol.ticker for one in entries}
    found = [event_of(one.symbol, one, watched) for one in entries if not one.paused]
    return [one for one in found if one is not None]


@dataclass(slots=True)
class RunSymbols:
    """What is known of a run's symbols.

    ``watchlist`` is what is watched of them, ``left_out`` what of it is unknown and not asked for;
    ``found`` are symbols as the run came to know them.
    """

    watchlist: Sequence[WatchEntry] = ()
    left_out: Sequence[Symbol] = ()
    found: dict[SymbolId, Symbol] = field(default_factory=dict)

    def events(self, symbols: Iterable[Symbol]) -> list[SymbolEvent]:
        """Return what became of symbols, and of those left out: first what is new, by ticker."""
        entries = {one.symbol.id: one for one in self.watchlist}
        watched = {one.symbol.ticker for one in self.watchlist}
        events = []
        for key, before in {one.id: one for one in (*symbols, *self.left_out)}.items():
            event = event_of(self.found.get(key, before), entries.get(key), watched)
            if event is not None:
                earlier = event_of(before)
                is_new = earlier is None or earlier.event is not event.event
                events.append(replace(event, is_new=is_new))
        return sorted(events, key=lambda one: (not one.is_new, one.symbol))


async def watched_events(connection: Connection) -> list[SymbolEvent]:
    """Return what became of the symbols on the watchlist."""
    return events_of(await universe.watched(connection))


def _follow(symbol: Symbol, entry: WatchEntry | None, watched: Collection[str]) -> tuple[str, ...]:
    """The command that keeps under its new name what is kept under the old one."""
    name = symbol.renamed_to
    if name is None or name in watched:
        return ()
    if entry is None:
        return (f"backfill run --symbol {argument(name)}",)
    words = ["backfill watch add", argument(name)]
    if entry.timeframes != (Timeframe.d1,):
        words.append(f"-t {','.join(entry.timeframes)}")
    if entry.since is not None:
        words.append(f"--since {argument(entry.since)}")
    if entry.priority:
        words.append(f"--priority {entry.priority}")
    if entry.provider is not None:
        words.append(f"--provider {argument(entry.provider)}")
    return (" ".join(words),)
