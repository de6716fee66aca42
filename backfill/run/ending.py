"""How a run ends: by what, and with its row in the ledger, its leases given up."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final
from uuid import UUID

from backfill.errors import DatabaseError, Interrupted, SharedFault, Stopped, Unforeseen
from backfill.run.outcomes import Outcomes
from backfill.store import progress
from backfill.store.pool import Connection, Database

_FINISH_S: Final = 3.0


def note_end(outcomes: Outcomes, error: BaseException) -> None:
    """Note what ended a run from outside of its plan."""
    match error:
        case SharedFault():
            outcomes.fault = error
        case Stopped():
            outcomes.stopped = error
        case Exception():
            outcomes.fault = Unforeseen.of(error)
        case _:
            outcomes.stopped = Interrupted("cancelled")


async def close_row(
    database: Database,
    run_id: UUID,
    outcomes: Outcomes,
    close: Callable[[Connection], Awaitable[None]],
) -> bool:
    """Have the end of a run written by ``close``, in a transaction, and return whether it was.

    A database that doesn't take it is the run's fault; the leases are given up all the same.
    """
    try:
        async with asyncio.timeout(_FINISH_S):
            await database.run(close)
    except (DatabaseError, TimeoutError) as error:
        fault = error if isinstance(error, DatabaseError) else DatabaseError("no answer")
        outcomes.fault = outcomes.fault or fault
        with suppress(DatabaseError, TimeoutError):
            async with asyncio.timeout(_FINISH_S):
                await database.run(lambda one: progress.release(one, run_id))
        return False
    return True
