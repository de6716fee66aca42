"""Tickers that are surely none are refused before anything is written or asked."""

from collections.abc import Iterable

from backfill.core.likely import is_misspelled
from backfill.errors import UsageError
from backfill.store import universe
from backfill.store.pool import Connection


async def see_spelled(connection: Connection, tickers: Iterable[str], *, but: str = "") -> None:
    """See that there may be such tickers; those that the table has are not questioned.

    ``but`` says how to have them all the same, where that can be.

    Raises
    ------
    UsageError
        If one is written in small letters only, as no provider writes any.
    """
    strange = [one for one in tickers if is_misspelled(one)]
    if not strange:
        return
    there = await universe.found_by(connection, strange)
    wrong = [one for one in strange if one not in there]
    if not wrong:
        return
    named = await universe.hinted(connection, wrong)
    raise UsageError(f"tickers are written in capitals: {named}; nothing was changed or asked{but}")
