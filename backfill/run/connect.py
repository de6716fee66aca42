"""Opening what work needs: the database of the settings, and the client for their provider.

The client is imported where one is opened: its library takes long to load, and a run that has
nothing to fetch needs none.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from backfill.fetch.stop import StopSignal
from backfill.fetch.tally import Tally
from backfill.settings import Settings
from backfill.store.embedded import embedded_postgres
from backfill.store.pool import Database
from backfill.store.quota import DatabaseSlots

if TYPE_CHECKING:
    from backfill.fetch.client import Client


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Connect to the settings' database, or start the embedded one, and bring no schema.

    Raises
    ------
    UsageError
        If the settings name no database, or something that is none.
    DatabaseError
        If it can't be reached.
    """
    url = settings.database()
    if url is not None:
        async with Database.connect(url) as database:
            yield database
        return
    with embedded_postgres(settings.embedded_dir()) as url:
        async with Database.connect(url) as database:
            yield database


@asynccontextmanager
async def open_client(
    settings: Settings,
    database: Database,
    tally: Tally,
    stop: StopSignal,
    *,
    now_ms: int,
    symbols: int,
) -> AsyncIterator["Client"]:
    """Open a client whose calls share the quota with everybody who uses the key and the database.

    ``now_ms`` is what the run takes for now, ``symbols`` how many it will ask for.

    Raises
    ------
    UsageError
        If the settings hold no key.
    DatabaseError
        If the database can't be used.
    """
    from backfill.fetch.client import Client
    from backfill.fetch.quota import Pacer

    key, quota = settings.api_key(), settings.quota
    slots = DatabaseSlots(database, settings.provider.name, key, quota)
    async with (
        Pacer(quota, slots) as pacer,
        Client(
            settings.base_url,
            settings.provider.headers(key),
            pacer,
            tally,
            stop,
            now_ms=now_ms,
            symbols=symbols,
            proxy=settings.proxy_of(settings.base_url),
        ) as client,
    ):
        yield client
