"""Bringing the schema, and taking over the tables of another system."""

from collections.abc import Callable

from backfill.admin.adopt import Adopted, take_over
from backfill.run.connect import open_database
from backfill.settings import Settings
from backfill.store.adopt import Adoption
from backfill.store.migrate import migrate as apply_migrations


async def migrate(settings: Settings) -> list[str]:
    """Apply the migrations that are missing and return their names.

    Raises
    ------
    SchemaMismatch
        If the login may not do it, or the schema is not one to go on from.
    """
    async with open_database(settings) as database:
        return await apply_migrations(database)


async def adopt(settings: Settings, *, clean: bool, tell: Callable[[Adoption], None]) -> Adopted:
    """Take over the tables of another system; ``tell`` hears first what will be done.

    Raises
    ------
    UsageError, SchemaMismatch
        If there is nothing to take over, or it can't be.
    """
    async with open_database(settings) as database:
        return await take_over(database, settings, clean=clean, tell=tell)
