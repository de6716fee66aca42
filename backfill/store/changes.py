"""What each run has changed of a series, for whoever computes from it (`backfill_changes`)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from backfill.core.series import Series
from backfill.store.pool import Connection

_NOTE_CHANGES: Final = """
    INSERT INTO backfill_changes AS c (
        run_id, symbol_id, timeframe, range, inserted, updated, withdrawn
    )
    SELECT $1, n.symbol_id, n.timeframe::timeframe, tstzrange(n.first, n.last, '[]'),
        n.inserted, n.updated, n.withdrawn
    FROM unnest(
        $2::symbol_id[], $3::text[], $4::timestamptz[], $5::timestamptz[],
        $6::bigint[], $7::bigint[], $8::bigint[]
    ) AS n (symbol_id, timeframe, first, last, inserted, updated, withdrawn)
    ON CONFLICT (run_id, symbol_id, timeframe) DO UPDATE
    SET range = range_merge(c.range, excluded.range),
        inserted = c.inserted + excluded.inserted,
        updated = c.updated + excluded.updated,
        withdrawn = c.withdrawn + excluded.withdrawn
"""


@dataclass(slots=True)
class Change:
    """Bars of a series that changed, and the starts of the first and the last of them."""

    series: Series
    inserted: int = 0
    updated: int = 0
    withdrawn: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def reach(self, *starts: datetime | None) -> None:
        """Widen the range to the starts of bars that changed."""
        given = [at for at in (self.first, self.last, *starts) if at is not None]
        if given:
            self.first, self.last = min(given), max(given)


async def note_changes(connection: Connection, run_id: UUID, changes: Iterable[Change]) -> None:
    """Add to what a run has changed, in the transaction that changes it; each series once."""
    noted = [one for one in changes if one.first is not None]
    if noted:
        await connection.execute(
            _NOTE_CHANGES,
            run_id,
            [one.series.symbol.id for one in noted],
            [str(one.series.timeframe) for one in noted],
            [one.first for one in noted],
            [one.last for one in noted],
            [one.inserted for one in noted],
            [one.updated for one in noted],
            [one.withdrawn for one in noted],
        )
