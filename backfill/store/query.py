"""A statement of a user's own: its rows as they come, a block at a time."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import asyncpg

from backfill.core.plain import storable
from backfill.errors import UsageError
from backfill.store.faults import said
from backfill.store.pool import Connection, Database

_BLOCK: Final = 1_000
_REFUSED: Final = (asyncpg.SyntaxOrAccessError, asyncpg.DataError)
_MAY_NOT: Final = (asyncpg.ReadOnlySQLTransactionError, asyncpg.QueryCanceledError)
"""What a query is refused for that writes, or that takes longer than a statement may."""

Tell: TypeAlias = Callable[[Sequence[str], list[tuple[Any, ...]]], None]
"""Hears the names of the columns and the next rows; at the end of no rows."""


async def answer(database: Database, statement: str, tell: Tell) -> str:
    """Run one statement in a transaction of its own, once, and return how the server calls that.

    Raises
    ------
    UsageError
        If the statement is no text, or the server can't make sense of it, or of what it works on.
    DatabaseError
        If the database fails; nothing is done again.
    """
    if storable(statement) != statement:
        raise UsageError("the statement was refused: it is not all Unicode, as SQL has to be")
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
    except _REFUSED as error:
        raise UsageError(f"the statement was refused: {said(error)}") from None
    tell(names, [])
    return ""


async def only_column(database: Database, statement: str) -> list[str]:
    """Return the texts of the only column of a query, which may change nothing.

    Raises
    ------
    UsageError
        If the server can't make sense of it, it would change something, takes too long, or gives
        anything else.
    DatabaseError
        If the database fails.
    """
    return await database.run_once(partial(_only_column, statement=statement))


async def _only_column(connection: Connection, statement: str) -> list[str]:
    await connection.execute("SET TRANSACTION READ ONLY")
    try:
        prepared = await connection.prepare(statement)
        if len(prepared.get_attributes()) != 1:
            raise UsageError("the query is to give one column, of tickers")
        if prepared.get_parameters():
            raise UsageError("the query is to take no parameters such as $1")
        rows = await prepared.fetch()
    except (*_REFUSED, *_MAY_NOT) as error:
        raise UsageError(f"the query was refused: {said(error)}") from None
    found = [row[0] for row in rows]
    if strange := [one for one in found if not isinstance(one, str)]:
        raise UsageError(f"the query is to give tickers, and not {strange[0]!r}")
    return found
