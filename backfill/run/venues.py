"""Whose bars a ticker's suffix asks for, and how the provider that is asked spells each symbol."""

from collections.abc import Iterable
from functools import partial

from backfill.core.plain import argument
from backfill.core.series import IMPORT, Symbol, SymbolId
from backfill.core.ticker import Ticker
from backfill.core.timeframe import Timeframe
from backfill.errors import NotEntitled, SeriesError, SourceMismatch, UsageError
from backfill.providers import PROVIDERS, provider_named
from backfill.providers.base import Provider, spelled
from backfill.settings import Settings
from backfill.store import spelling
from backfill.store.pool import Database


def check_venues(settings: Settings, tickers: Iterable[str]) -> None:
    """See that every suffix of a ticker names a provider, and the one that a flag names, if any.

    Raises
    ------
    UsageError
        If one doesn't.
    """
    for ticker in tickers:
        venue = Ticker.read(ticker).provider
        if venue is None:
            continue
        if venue == IMPORT:
            raise UsageError(
                f"{ticker} is what files brought, so nobody is asked for it; bring more with: "
                f"backfill import FILE --symbol {argument(ticker)}"
            )
        name = provider_named(venue).name
        if name != venue:
            raise UsageError(f"{ticker}: the provider's own name is {name}: write @{name}")
        if settings.provider_asked is not None and name != settings.provider.name:
            raise UsageError(
                f"{ticker} is {name}'s alone, and --provider names {settings.provider.name}: "
                "leave one of them out"
            )


def base_at(provider: Provider, symbol: Symbol, timeframe: Timeframe) -> Timeframe:
    """Return the timeframe in which a provider is asked for bars of a symbol.

    Raises
    ------
    NotEntitled
        If it has none that they can be made of, or means another symbol by its ticker.
    """
    spelled(provider, symbol.instrument)
    return provider.can.base_of(symbol.asset_type, timeframe)


async def spell_out(
    database: Database, asked: Iterable[tuple[Symbol, str]]
) -> dict[tuple[SymbolId, str], SeriesError]:
    """Note how each provider spells the symbols that it is asked for the first time.

    ``asked`` are the symbols with the provider of each. Returns why one can't be asked for, by
    symbol and provider: its spelling means something else there, or is another symbol's.
    """
    refused: dict[tuple[SymbolId, str], SeriesError] = {}
    new = []
    for symbol, name in asked:
        provider = PROVIDERS[name]
        if name in symbol.spelled_at or symbol.asset_type not in provider.can.native:
            continue
        try:
            new.append((symbol.id, name, spelled(provider, symbol.instrument)))
        except NotEntitled as error:
            refused[symbol.id, name] = error
    taken = await database.run(partial(spelling.spell, spellings=new)) if new else {}
    for (symbol_id, name), other in taken.items():
        refused[symbol_id, name] = SourceMismatch(
            f"{name}'s bars of it are kept as {other}",
            mend=f"backfill run {argument(other)}",
        )
    return refused
