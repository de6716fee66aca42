"""A list of everybody's that a run has taken on: read on in it, and whatever comes, let it go."""

from collections.abc import Awaitable, Callable
from functools import partial

from backfill.errors import DatabaseError, SeriesError, SharedFault, Stopped
from backfill.run.context import Context
from backfill.store import actions


async def read_on(
    context: Context,
    kind: str,
    reading: Awaitable[bool],
    warn: Callable[[SeriesError | SharedFault], None],
) -> bool:
    """Await the reading of a list; return whether a stop has left it to another run.

    ``reading`` tells whether it came to the end of the list, which is noted then. What it can't be
    read for is warned of, and left to the next session.

    Raises
    ------
    DatabaseError
        If the database goes away.
    """
    database, provider = context.database, context.provider.name
    try:
        read_to_its_end = await reading
    except Stopped:
        await database.run(partial(actions.give_back, provider=provider, kind=kind))
        return True
    except DatabaseError:
        raise
    except (SeriesError, SharedFault) as error:
        warn(error)
        read_to_its_end = False
    if not read_to_its_end:
        await database.run(
            partial(actions.leave, provider=provider, kind=kind, run_id=context.run_id)
        )
    return False
