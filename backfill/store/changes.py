"""What each run has changed of a series, for whoever computes from it (`backfill_changes`)."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from uuid import UUID

from backfill.core.series import Series
from backfill.store.pool import Connection

_NOTE_CHANGE: Final = """
    INSERT INTO backfill_changes AS c (
        run_id, symbol_id, timeframe, range, inserted, updated, withdrawn
    )
    VALUES ($1, $2, $3::text::timeframe, tstzrange($4, $5, '[]'), $6, $7, $8)
    ON CONFLICT (run_id, symbol_id, timeframe) DO UPDATE
    SET range = range_merge(c.range, excluded.range),
        inserted = c.inserted + excluded.inserted,
        updated = c.updated + excluded.updated,
        withdrawn = c.withdrawn + excluded.withdrawn
"""


async def note_change(
    connection: Connection,
    run_id: UUID,
    series: Series,
    changed: Iterable[datetime | None],
    *,
    inserted: int = 0,
    updated: int = 0,
    withdrawn: int = 0,
) -> None:
    """Add to what a run has changed of a series, in the transaction that changes it.

    ``changed`` holds the first and last starts of bars that did; nothing is noted without one.
    """
    if starts := [at for at in changed if at]:
        await connection.execute(
            _NOTE_CHANGE,
            run_id,
            series.symbol.id,
            str(series.timeframe),
            min(starts),
            max(starts),
            inserted,
            updated,
            withdrawn,
        )
