"""The database as a server looks at it: opened by the first who asks, and anew while it is away."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final

from backfill.errors import DatabaseError
from backfill.run.connect import looked_into
from backfill.settings import Settings
from backfill.store.pool import Database

_HOLDS_S: Final = 1.0
"""How long the news that the database is away spares others the attempt."""


class Reader:
    """A few connections that only read, for whoever asks.

    Requests share them; a database that is away costs each of them an error, and is asked again.
    ``now`` tells what all is judged as of.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.settings = settings
        self.now = clock
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._database: Database | None = None
        self._failed: tuple[float, DatabaseError] | None = None

    async def database(self) -> Database:
        """Return the database, which has today's schema and hides no table of it.

        Raises
        ------
        UsageError
            If the settings name none.
        DatabaseError
            If it can't be used for now.
        """
        if self._database is not None:
            return self._database
        async with self._opening:
            if self._database is None:
                self._database = await self._open()
            return self._database

    async def close(self) -> None:
        """Close every connection."""
        await self._stack.aclose()

    async def _open(self) -> Database:
        clock = asyncio.get_running_loop().time
        if self._failed is not None and clock() < self._failed[0] + _HOLDS_S:
            raise DatabaseError(str(self._failed[1]))
        try:
            async with AsyncExitStack() as stack:
                database = await stack.enter_async_context(looked_into(self.settings))
                self._stack.push_async_exit(stack.pop_all())
        except DatabaseError as error:
            self._failed = clock(), error
            raise
        return database
