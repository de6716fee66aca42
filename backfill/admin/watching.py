"""The rules by which a symbol comes onto the watchlist, whoever names it: a command or a file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from backfill.core.likely import hint
from backfill.core.plain import argument
from backfill.core.series import Symbol, unregistered
from backfill.core.watchfile import DEFAULT
from backfill.core.when import parse_since
from backfill.errors import UsageError
from backfill.run.lookup import Looked, looked_up
from backfill.run.spelled import see_spelled
from backfill.run.venues import check_venues
from backfill.settings import Settings
from backfill.store import universe
from backfill.store.pool import Connection, Database
from backfill.store.universe import WatchChange

OFFLINE: Final = ". To watch it all the same: --offline"
"""What a refusal of a ticker ends with that may be had all the same."""


def checked(settings: Settings, tickers: Sequence[str], change: WatchChange) -> WatchChange:
    """Return what of entries is to change, with the provider's own name for it.

    Raises
    ------
    UsageError
        If the depth can't be read or lies ahead, or a ticker's suffix names another provider.
    """
    today = datetime.now(UTC).date()
    if change.since not in {None, DEFAULT} and parse_since(change.since, today) > today:
        raise UsageError(f"--since {change.since} lies ahead: nothing would be kept")
    check_venues(settings, tickers)
    if settings.provider_asked is not None:
        return replace(change, provider=settings.provider.name)
    return change


def whose(
    settings: Settings, symbol: Symbol, provider: str | None, held: Sequence[str]
) -> str | None:
    """Return the provider that a new entry of a symbol is to have; ``held`` have filled it.

    A symbol is whoever's filled it first: without another word its entry has that one.

    Raises
    ------
    UsageError
        If the symbol holds bars of others than the provider that is named.
    """
    if not held or symbol.venue is not None:
        return provider
    if provider not in {None, DEFAULT, *held}:
        own = f"{symbol.ticker}@{provider}"
        raise UsageError(
            f"{symbol.ticker} holds the bars of {' and '.join(held)}; those of {provider} "
            f"are a symbol of their own, {own}",
            mend=f"backfill watch add {argument(own)}",
        )
    if provider is None and settings.provider.name not in held:
        return held[0]
    return provider


async def looked_at(
    database: Database,
    settings: Settings,
    tickers: list[str],
    provider: str | None,
    places: Mapping[str, str] | None = None,
) -> list[str]:
    """See that there are such tickers, as far as the provider tells; return what is doubtful.

    It is asked about those that nobody has confirmed yet, a call each; ``places`` is where each of
    them is written.

    Raises
    ------
    UsageError
        If it knows no such ticker, or one is surely misspelled.
    """

    async def load(connection: Connection) -> tuple[list[Symbol], list[str]]:
        await see_spelled(connection, tickers, but=OFFLINE)
        found = await universe.found_by(connection, tickers)
        confirmed = {named for named, one in found.items() if one.confirmed}
        new = [unregistered(one) for one in tickers if one not in confirmed]
        return new, [one.ticker for one in await universe.known_symbols(connection)]

    new, known = await database.run(load)
    if not new:
        return []
    looked = await _looked_up(database, settings, new, provider)
    if looked.unknown:
        at = {one: f" ({place})" for one, place in (places or {}).items()}
        meant = [(one, hint(one, [*known, *looked.listed])) for one in looked.unknown]
        named = ", ".join(f"{one}{likely}{at.get(one, '')}" for one, likely in meant)
        raise UsageError(f"the provider knows no {named}; nothing was changed{OFFLINE}")
    notes = [
        f"{one.ticker} is taken for a {one.asset_type}{likely}"
        for one in new
        if (likely := hint(one.ticker, known))
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
