"""Looking symbols up in the provider's reference, once each, when an answer leaves a question."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from backfill.core.checks import LATEST_MS
from backfill.core.series import Alias, Symbol, SymbolId, aliases_of, dated_back, renamed
from backfill.core.wire import DatedName, Reference
from backfill.errors import NotEntitled, UnknownSymbol
from backfill.providers.base import Companies, FormerNames, Provider, References
from backfill.run.outcomes import Outcomes
from backfill.store import life, universe
from backfill.store.counts import Counts
from backfill.store.pool import Connection, Database

if TYPE_CHECKING:
    from backfill.fetch.client import Client

_AGE: Final = timedelta(days=30)
_SILENCE: Final = timedelta(days=14)

log = structlog.stdlib.get_logger()


class ReferenceDesk:
    """Asks about each symbol at most once a run, and not again within 30 days of an answer."""

    def __init__(
        self,
        run_id: UUID,
        database: Database,
        client: "Client",
        provider: Provider,
        outcomes: Outcomes,
    ) -> None:
        self._run_id = run_id
        self._database = database
        self._client = client
        self._provider = provider
        self._outcomes = outcomes
        self._asked: dict[SymbolId, asyncio.Task[Symbol]] = {}

    async def look_up(self, symbol: Symbol, trades_since: date | None) -> Symbol:
        """Return a symbol as it is known once the reference has been asked about it.

        It is not asked where it was lately, and has nothing to say where the plan doesn't include
        it, or of a ticker that it no longer knows although bars of it are stored. ``trades_since``
        is the day from which on its bars know no silence, if that is known.

        Raises
        ------
        UnknownSymbol
            If it doesn't know the ticker, and nobody ever did.
        """
        if not isinstance(self._provider, References):
            return symbol
        if symbol.reference_at and datetime.now(UTC) - symbol.reference_at < _AGE:
            return symbol
        return await self.look_again(symbol, trades_since)

    async def look_again(self, symbol: Symbol, trades_since: date | None = None) -> Symbol:
        """Look a symbol up even if it was looked up lately.

        Raises
        ------
        UnknownSymbol
            As `look_up` does.
        """
        provider, task = self._provider, self._asked.get(symbol.id)
        if not isinstance(provider, References):
            return symbol
        if task is None:
            asking = self._ask(provider, symbol, trades_since)
            task = self._asked[symbol.id] = asyncio.create_task(asking)
        return await asyncio.shield(task)

    async def _ask(self, provider: References, symbol: Symbol, trades_since: date | None) -> Symbol:
        try:
            reference = await self._client.fetch(
                provider.reference(symbol),
                lambda response: provider.read_reference(response, symbol),
                asker=f"{symbol.ticker} reference",
            )
        except NotEntitled:
            return symbol
        except UnknownSymbol:
            if not symbol.confirmed:
                raise
            reference = Reference(
                symbol.ticker,
                symbol.listed_on,
                symbol.delisted_on,
                None,
                await self._renamed(symbol),
                is_known=False,
            )
            aliases: tuple[Alias, ...] = ()
        else:
            if _differ(symbol.figi, reference.figi):
                reference = replace(reference, renamed=await self._renamed(symbol))
            aliases = dated_back(await self._aliases(symbol, reference), trades_since)
        found, expelled = await self._database.run(
            lambda connection: self._note(connection, symbol, reference, aliases)
        )
        if expelled:
            self._outcomes.bars.add(Counts(withdrawn=expelled))
            log.warning("series.of_another_company", symbol=symbol.ticker, expelled=expelled)
        self._outcomes.symbols.found[found.id] = found
        return found

    async def _renamed(self, symbol: Symbol) -> DatedName | None:
        """Ask what the company behind the stored bars is called, if the ticker isn't its own."""
        provider = self._provider
        if not isinstance(provider, Companies) or not symbol.is_share:
            return None
        try:
            figi = symbol.figi or await self._figi_then(provider, symbol)
            if figi is None:
                return None
            names = await self._client.fetch(
                provider.names_of(figi), provider.read_names, asker=f"{symbol.ticker} names"
            )
        except (NotEntitled, UnknownSymbol):
            return None
        if names.figi not in {None, figi}:
            return None
        return renamed(symbol.listed_as, names.dated, datetime.now(UTC).date())

    async def _figi_then(self, provider: Companies, symbol: Symbol) -> str | None:
        """Ask which company had the ticker on the last day that is stored."""
        last = await self._database.run(
            lambda connection: life.last_day_of(connection, symbol, LATEST_MS)
        )
        if last is None:
            return None
        then = await self._client.fetch(
            provider.reference_on(symbol, last),
            lambda response: provider.read_reference(response, symbol),
            asker=f"{symbol.ticker} reference",
        )
        return then.figi

    async def _aliases(self, symbol: Symbol, reference: Reference) -> tuple[Alias, ...]:
        """Ask for the former names of a symbol; none where nothing is known of it."""
        provider = self._provider
        if not symbol.is_share or _differ(symbol.figi, reference.figi):
            return ()
        if not isinstance(provider, FormerNames):
            return ()
        try:
            names = await self._client.fetch(
                provider.names(symbol),
                provider.read_names,
                asker=f"{symbol.ticker} names",
            )
        except (NotEntitled, UnknownSymbol):
            return ()
        if _differ(names.figi, reference.figi):
            return ()
        return aliases_of(symbol.listed_as, names.dated)

    async def _note(
        self,
        connection: Connection,
        symbol: Symbol,
        reference: Reference,
        aliases: tuple[Alias, ...],
    ) -> tuple[Symbol, int]:
        """Note what the reference says; return the symbol anew, and how many bars left it."""
        listed_on = reference.listed_on
        last = await life.last_day_before(connection, symbol, listed_on) if listed_on else None
        if _is_of_another(symbol, reference, last):
            expelled = await life.note_successor(connection, self._run_id, symbol, reference)
        else:
            expelled = await life.note_names(
                connection, self._run_id, symbol, aliases, listed_on or symbol.listed_on
            )
            await universe.note_reference(connection, symbol.id, reference)
        return await universe.by_id(connection, symbol.id), expelled


def _is_of_another(symbol: Symbol, reference: Reference, last: date | None) -> bool:
    """Whether the reference is of another company than the stored bars.

    The FIGI tells. Where it was never read, bars do that end two weeks or more before the company
    was listed, on the day ``last``.
    """
    if reference.figi is None:
        return False
    if symbol.figi is not None:
        return _differ(symbol.figi, reference.figi)
    listed_on = reference.listed_on
    return last is not None and listed_on is not None and listed_on - last >= _SILENCE


def _differ(one: str | None, other: str | None) -> bool:
    """Whether two FIGIs are known, and of different companies."""
    return None not in {one, other} and one != other
