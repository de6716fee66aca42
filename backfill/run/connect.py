"""Opening what work needs: the database of the settings, and the client for an account.

The client is imported where one is opened: its library takes long to load, and a run that has
nothing to fetch needs none.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from backfill.store.migrate import check_schema, ensure_schema
from backfill.store.pool import Database
from backfill.store.session import LOOKING
from backfill.store.sight import check_sight

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from backfill.core.archive import FilesOrCalls
    from backfill.fetch.client import Client
    from backfill.fetch.objects import Objects
    from backfill.fetch.reader import Reader
    from backfill.fetch.stop import StopSignal
    from backfill.fetch.tally import Tally
    from backfill.run.archived import ArchiveDesk, Versions
    from backfill.settings import Account, Settings


@contextmanager
def database_url(settings: Settings) -> Iterator[str]:
    """Yield the URL of the settings' database, or of the embedded one, which runs meanwhile.

    Raises
    ------
    UsageError
        If the settings name no database.
    """
    url = settings.database()
    if url is not None:
        yield url
        return
    from backfill.store.embedded import embedded_postgres

    with embedded_postgres(settings.embedded_dir()) as url:
        yield url


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
    with database_url(settings) as url:
        async with Database.connect(url) as database:
            yield database


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """Open the settings' database with today's schema, which is brought if nothing is there yet.

    Raises
    ------
    UsageError, DatabaseError
        As `open_database` does; also if the schema is another version's.
    """
    async with open_database(settings) as database:
        await ensure_schema(database)
        yield database


@asynccontextmanager
async def looked_into(settings: Settings) -> AsyncIterator[Database]:
    """Open the settings' database to read only, with a login from which no row of ours is hidden.

    Raises
    ------
    UsageError, DatabaseError
        As `opened` does; a schema is not brought.
    LoginRefused
        If some table is hidden from the login: it would be taken for an empty one.
    """
    with database_url(settings) as url:
        async with Database.connect(url, LOOKING) as database:
            await check_sight(database)
            await check_schema(database)
            yield database


@asynccontextmanager
async def open_database_until(settings: Settings, stop: StopSignal) -> AsyncIterator[Database]:
    """Open the settings' database as `open_database` does, and give up when a signal is set.

    Raises
    ------
    Stopped
        The signal's reason, if it is set before the database is open.
    UsageError, DatabaseError
        As `open_database` does.
    """
    async with AsyncExitStack() as stack:
        yield await stop.unless_set(stack.enter_async_context(open_database(settings)))


@asynccontextmanager
async def opened_until(settings: Settings, stop: StopSignal) -> AsyncIterator[Database]:
    """Open the settings' database as `opened` does, and give that up when a signal is set.

    Raises
    ------
    Stopped
        The signal's reason, if it is set before the database is open.
    UsageError, DatabaseError
        As `opened` does.
    """
    async with open_database_until(settings, stop) as database:
        await stop.unless_set(ensure_schema(database))
        yield database


@asynccontextmanager
async def open_client(
    account: Account,
    database: Database,
    tally: Tally,
    stop: StopSignal,
    reader: Reader,
    *,
    now_ms: int,
    symbols: int,
) -> AsyncIterator[Client]:
    """Open a client whose calls share the quota with everybody who uses the key and the database.

    ``now_ms`` is what the run takes for now, ``symbols`` how many it will ask for.

    Raises
    ------
    UsageError
        If the account lacks a key.
    DatabaseError
        If the database can't be used.
    """
    from backfill.fetch.client import Client
    from backfill.fetch.quota import Pacer
    from backfill.store.quota import DatabaseSlots

    provider, keys, quota = account.provider, account.api_keys(), account.quota
    slots = DatabaseSlots(database, account.name, ":".join(keys), quota)
    async with (
        Pacer(quota, slots) as pacer,
        Client(
            account.url,
            provider.headers(keys),
            pacer,
            tally,
            stop,
            reader,
            now_ms=now_ms,
            symbols=symbols,
            other_url=account.other_url,
            proxy=account.proxy,
            refuses_places=provider.can.refuses_places,
        ) as client,
    ):
        yield client


@asynccontextmanager
async def open_archive(
    account: Account,
    database: Database,
    tally: Tally,
    stop: StopSignal,
    reader: Reader,
    *,
    choice: FilesOrCalls | None,
    symbols: int,
) -> AsyncIterator[ArchiveDesk | None]:
    """Open what reads the files of an account's provider; None where that has none, or they aren't.

    Its client carries no key, and takes no slot of the quota: only pauses that the archive asks for
    hold it off. Whether the provider answers says nothing of its archive, nor the other way round.
    """
    from backfill.providers.base import SymbolFiles

    provider = account.provider
    if choice is None or account.archive_url is None or not isinstance(provider, SymbolFiles):
        yield None
        return
    from backfill.core.terms import Quota
    from backfill.fetch.client import Client
    from backfill.fetch.quota import Pacer
    from backfill.run.archived import ArchiveDesk
    from backfill.store.quota import DatabaseSlots

    slots = DatabaseSlots(database, f"{provider.name} archive", "", Quota())
    async with (
        Pacer(Quota(), slots) as pacer,
        Client(
            account.archive_url,
            {},
            pacer,
            tally,
            stop,
            reader,
            now_ms=choice.now_ms,
            symbols=symbols,
            proxy=account.proxy,
        ) as client,
    ):
        yield ArchiveDesk(client, provider, choice)


@asynccontextmanager
async def open_versions(
    account: Account,
    database: Database,
    tally: Tally,
    stop: StopSignal,
    reader: Reader,
    *,
    now_ms: int,
) -> AsyncIterator[Versions | None]:
    """Open what tells which versions of its files an archive has; None where it can't be asked."""
    from importlib.util import find_spec

    from backfill.core.archive import FilesOrCalls, Use
    from backfill.providers.base import MarketArchives
    from backfill.run.archived import Versions

    provider = account.provider
    held = provider.can.archive
    if isinstance(provider, MarketArchives):
        installed = find_spec("obstore") is not None
        objects = open_objects(account, tally, stop, reader) if installed else None
        yield Versions(provider, objects.version) if objects is not None else None
        return
    choice = FilesOrCalls(held, Use.always, now_ms) if held else None
    async with open_archive(
        account, database, tally, stop, reader, choice=choice, symbols=1
    ) as desk:
        yield Versions(desk.provider, desk.version) if desk is not None else None


def open_objects(
    account: Account, tally: Tally, stop: StopSignal, reader: Reader
) -> Objects | None:
    """Open what reads the files of a whole market; None where there are none, or no keys to them.

    Raises
    ------
    UsageError
        If obstore isn't installed.
    """
    from backfill.providers.base import MarketArchives

    provider = account.provider
    if account.archive_url is None or not isinstance(provider, MarketArchives):
        return None
    from backfill.fetch.objects import Bucket, Objects

    key_id, secret = (key.reveal().strip() for key in account.file_keys)
    bucket = Bucket(account.archive_url, provider.bucket, key_id, secret, account.proxy)
    return Objects(bucket, tally, stop, reader)
