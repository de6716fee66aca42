"""A statement of a user's own, on the database in use."""

from backfill.run.connect import open_database
from backfill.settings import Settings
from backfill.store import query
from backfill.store.query import Tell


async def answer(settings: Settings, statement: str, tell: Tell) -> str:
    """Run a statement; ``tell`` hears its rows. Return how the server calls what was done."""
    async with open_database(settings) as database:
        return await query.answer(database, statement, tell)
