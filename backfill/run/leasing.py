"""Leasing series all at once, those too that another run lets go of."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias
from uuid import UUID

from backfill.core.series import Series
from backfill.fetch.stop import StopSignal
from backfill.store import progress
from backfill.store.pool import Connection, Database
from backfill.store.progress import Lease

_POLL_S: Final = 1.0

Begun: TypeAlias = Callable[[Connection, list[Series]], Awaitable[list[Series]]]
"""Does what begins with the lease of series, in its transaction; returns those that go on."""


@dataclass(frozen=True, slots=True)
class Leased:
    """Which series are leased, and which another live run goes on with."""

    mine: list[Series]
    skipped: set[Series]


async def lease(
    database: Database, run_id: UUID, series: Sequence[Series], begun: Begun, stop: StopSignal
) -> Leased:
    """Lease series; those that another run holds once it lets go of them, or dies.

    One whose lease that run renews meanwhile is its, and skipped.

    Raises
    ------
    Stopped
        If the signal is set while it waits.
    """

    async def take_free(connection: Connection) -> tuple[list[Series], list[Series]]:
        free = await progress.claim_free(connection, list(series), run_id)
        return free, await begun(connection, free)

    async def take(connection: Connection, one: Series) -> Lease | list[Series]:
        return await progress.claim(connection, [one], run_id) or await begun(connection, [one])

    free, mine = await database.run(take_free)
    skipped: set[Series] = set()
    held: dict[Series, Lease | None] = dict.fromkeys(one for one in series if one not in free)
    while held:
        for one, before in list(held.items()):
            found = await database.run(partial(take, one=one))
            if isinstance(found, Lease) and before in {None, found}:
                held[one] = found
                continue
            del held[one]
            if isinstance(found, Lease):
                skipped.add(one)
            else:
                mine += found
        if held:
            await stop.sleep(_POLL_S)
    return Leased(mine, skipped)
