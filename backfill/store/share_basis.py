"""On which share basis a series is, as the ledger tells it."""

from typing import Final, NamedTuple

from backfill.core.coverage import Spans
from backfill.core.series import SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.keys import told_key
from backfill.store.pool import Connection
from backfill.store.times import bounds_of, from_bounds

# Of the progress p of a series, joined with that of what it is rolled up from: since when the bars
# of both are on their basis, and what of both is to be loaded again.
WITH_BASE: Final = """LEFT JOIN backfill_progress AS b
        ON b.symbol_id = p.symbol_id AND b.timeframe = p.derived_from"""
LOADED: Final = "greatest(p.loaded_at, b.loaded_at)"
AGAIN: Final = bounds_of("p.invalidated + coalesce(b.invalidated, '{}')")

# On which basis adjusted series are, by a scan of the progress rows.
_ADJUSTED_TO: Final = """
    SELECT p.symbol_id, p.timeframe::text AS timeframe, {loaded} AS loaded, {again} AS again
    FROM backfill_progress AS p
    {with_base}
    WHERE p.adjustment <> 'raw'
"""
_BASES: Final = _ADJUSTED_TO.format(loaded=LOADED, again=AGAIN, with_base=WITH_BASE)


class Basis(NamedTuple):
    """On which share basis an adjusted series is: that of when it was loaded, but for some of it.

    What is to be loaded ``again`` may be on an older one.
    """

    loaded: str | None
    again: Spans

    def holds(self, before: "Basis") -> bool:
        """Whether all that was on a basis is on the same by now."""
        return self.loaded == before.loaded and not self.again - before.again


async def bases(connection: Connection) -> dict[tuple[SymbolId, Timeframe], Basis]:
    """Return on which share basis each adjusted series is."""
    (rows,) = await connection.ask(_BASES)
    return {told_key(row): Basis(row["loaded"], from_bounds(row["again"])) for row in rows}
