"""A statement of a user's own: its rows as they come, a block at a time."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import asyncpg

from backfill.errors import UsageError
from backfill.store.faults import said
from backfill.store.pool import Connection, Database

_BLOCK: Final = 1_000

Tell: TypeAlias = Callable[[Sequence[str], list[tuple[Any, ...]]], None]
"""Hears the names of the columns and the next rows; at the end of no rows."""


async def answer(database: Database, statement: str, tell: Tell) -> str:
    """Run one statement in a transaction of its own, once, and return how the server calls that.

    Raises
    ------
    UsageError
        If the server can't make sense of the statement, or of what it works on.
    DatabaseError
        If the database fails; nothing is done again.
    """
    return await database.run_once(partial(_answered, statement=statement, tell=tell))


async def _answered(connection: Connection, statement: str, tell: Tell) -> str:
    try:
        prepared = await connection.prepare(statement)
        names = [column.name for column in prepared.get_attributes()]
        if not names:
            await prepared.fetch()
            return str(prepared.get_statusmsg())
        cursor = await prepared.cursor()
        while rows := await cursor.fetch(_BLOCK):
            tell(names, [tuple(row) for row in rows])
    except (asyncpg.SyntaxOrAccessError, asyncpg.DataError) as error:
        raise UsageError(f"the statement was refused: {said(error)}") from None
    tell(names, [])
    return ""
