"""What keeps the leases of a run while it lasts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import structlog

from backfill.errors import DatabaseError
from backfill.store import progress
from backfill.store.pool import Database
from backfill.store.progress import HEARTBEAT_S

log = structlog.stdlib.get_logger()


@asynccontextmanager
async def heartbeat(database: Database, run_id: UUID) -> AsyncIterator[None]:
    """Renew the run's leases while it lasts, so that a slow quota never loses its work."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await progress.renew(database, run_id)
            except DatabaseError as error:
                log.warning("lease.not_renewed", message=str(error))

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
