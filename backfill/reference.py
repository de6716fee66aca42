"""Looking symbols up in the provider's reference, once each, when an answer leaves a question."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from backfill.core.series import Symbol
from backfill.core.wire import Reference
from backfill.errors import NotEntitled, UnknownSymbol
from backfill.fetch.client import Client
from backfill.providers.base import Provider
from backfill.store import universe
from backfill.store.pool import Database

_AGE: Final = timedelta(days=30)


class ReferenceDesk:
    """Asks about each symbol at most once a run, and not again within 30 days of an answer."""

    def __init__(self, database: Database, client: Client, provider: Provider) -> None:
        self._database = database
        self._client = client
        self._provider = provider
        self._asked: dict[int, asyncio.Task[Reference | None]] = {}

    async def look_up(self, symbol: Symbol) -> Reference | None:
        """Return what the reference says of a symbol; None if it has nothing new to say.

        That is so where it was asked lately, where the plan doesn't include it, and for a ticker
        that it no longer knows although bars of it are stored.

        Raises
        ------
        UnknownSymbol
            If it doesn't know the ticker, and nobody ever did.
        """
        if symbol.reference_at and datetime.now(UTC) - symbol.reference_at < _AGE:
            return None
        task = self._asked.get(symbol.id)
        if task is None:
            task = self._asked[symbol.id] = asyncio.create_task(self._ask(symbol))
        return await asyncio.shield(task)

    async def _ask(self, symbol: Symbol) -> Reference | None:
        try:
            reference = await self._client.fetch(
                self._provider.reference(symbol),
                self._provider.read_reference,
                asker=f"{symbol.ticker} reference",
            )
        except NotEntitled:
            return None
        except UnknownSymbol:
            if not symbol.confirmed:
                raise
            reference = Reference(symbol.ticker, symbol.listed_on, symbol.delisted_on, None)
        await self._database.run(
            partial(universe.note_reference, symbol_id=symbol.id, reference=reference)
        )
        return reference
