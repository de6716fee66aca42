"""PgQueuer's statements through our own connections.

So they outlast a restart of Postgres, keep no state that a pooler would lose, and find out by
themselves whether notices come: where none does, a worker polls.
"""

import asyncio
from contextlib import suppress
from typing import Final, Self

import structlog
from pgqueuer.core.tm import TaskManager
from pgqueuer.ports.driver import NotifyCallback

from backfill.errors import DatabaseError, LoginRefused, Stopped
from backfill.fetch.stop import StopSignal
from backfill.store.faults import passes
from backfill.store.pool import Connection, Database

_LISTEN_AGAIN_S: Final = 15.0
_AWAY_S: Final = 5.0

log = structlog.stdlib.get_logger()


class StoreDriver:
    """PgQueuer's port to a database; it closes nothing but what it listens by."""

    def __init__(self, database: Database, stop: StopSignal) -> None:
        self._database = database
        self._stop = stop
        self._is_left = False
        self._listening: set[asyncio.Task[None]] = set()
        self._shutdown = asyncio.Event()
        self._tasks = TaskManager()

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        """Return the rows of a query, in a transaction of its own.

        While the database is away it waits, unless the worker is to stop: PgQueuer would take the
        fault for the job's, and hold it.

        Raises
        ------
        DatabaseError
            If a fault stays that doesn't pass, or one that does while the worker stops.
        """

        async def work(connection: Connection) -> list[dict[str, object]]:
            return [dict(row) for row in await connection.fetch_given(query, *args)]

        while not self._is_left:
            try:
                return await self._database.run(work)
            except LoginRefused:
                raise
            except DatabaseError as error:
                cause = error.__cause__
                if self._stop.reason is not None or (cause is not None and not passes(cause)):
                    raise
                log.warning("worker.database_away", message=str(error))
                with suppress(Stopped):
                    await self._stop.sleep(_AWAY_S)
        raise DatabaseError("the worker has left")

    def leave(self) -> None:
        """Send nothing more: what is in hand stays so, until its heartbeat is missed."""
        self._is_left = True

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement as `fetch` does; nobody asks how the server calls what it did."""
        await self.fetch(query, *args)
        return ""

    async def notify(self, channel: str, payload: str) -> None:
        """Send a notice."""
        await self._database.fetch_row("SELECT pg_notify($1, $2)", channel, payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Have the notices on a channel heard from now on, as far as any come."""

        async def listen() -> None:
            while True:
                async with self._database.hearing(channel, callback) as lost:
                    await lost.wait()
                await asyncio.sleep(_LISTEN_AGAIN_S)

        self._listening.add(asyncio.create_task(listen()))

    @property
    def shutdown(self) -> asyncio.Event:
        """Set when no more work is taken."""
        return self._shutdown

    @property
    def tm(self) -> TaskManager:
        """The driver's own tasks: none."""
        return self._tasks

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        self._listening.clear()
