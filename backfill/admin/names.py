"""Former names of a symbol that a user adds or drops, where the provider's events are wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from uuid import uuid4

from backfill.core.series import Alias, Symbol, with_alias, without_alias
from backfill.run.connect import opened
from backfill.settings import Settings
from backfill.store import life, universe
from backfill.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Renamed:
    """A symbol with its former names as they are set now, and how many bars left for that."""

    symbol: Symbol
    expelled: int


async def add(
    settings: Settings, ticker: str, name: str, since: date | None, until: date
) -> Renamed:
    """Note that a symbol traded under a name until before a day.

    From its listing on if ``since`` is None and that is known. What is stored from under another
    name goes to quarantine, to be fetched again under this one.

    Raises
    ------
    UsageError
        If the symbol is not known, it had another name then, or a run is working on it.
    """

    def added(symbol: Symbol) -> tuple[Alias, ...]:
        listed_on = symbol.listed_on
        began = listed_on if listed_on is not None and listed_on < until else date.min
        earlier = [one.valid_until for one in symbol.aliases if one.valid_until < until]
        return with_alias(symbol, Alias(name, since or max([began, *earlier]), until))

    return await _changed(settings, ticker, added)


async def drop(settings: Settings, ticker: str, name: str) -> Renamed:
    """Note that a symbol never traded under a name, as `add` notes that it did.

    Raises
    ------
    UsageError
        If the symbol or the name is not known, or a run is working on it.
    """
    return await _changed(settings, ticker, lambda symbol: without_alias(symbol, name))


async def _changed(
    settings: Settings, ticker: str, names: Callable[[Symbol], tuple[Alias, ...]]
) -> Renamed:
    async def work(connection: Connection) -> Renamed:
        symbol = await universe.known_plain(connection, ticker)
        expelled = await life.set_names(connection, uuid4(), symbol, names)
        return Renamed(await universe.by_id(connection, symbol.id), expelled)

    async with opened(settings) as database:
        return await database.run(work)
