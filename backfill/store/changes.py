"""What each run has changed of a series, for whoever computes from it (`backfill_changes`)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import numpy as np

from backfill.core.bars import IntColumn
from backfill.core.series import Series
from backfill.store.pool import Connection
from backfill.store.times import to_time

# What a run changed of each series, added to what it changed before; by the primary key.
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
    """Bars of a series that changed, and the starts of the first and the last of them.

    ``changed_ms`` are the starts of all of them, ``apart_ms`` of stored bars that an answer for
    their time no longer had, and that stay.
    """

    series: Series
    inserted: int = 0
    updated: int = 0
    withdrawn: int = 0
    first: datetime | None = None
    last: datetime | None = None
    changed_ms: IntColumn = field(default_factory=lambda: np.empty(0, np.int64))
    apart_ms: IntColumn = field(default_factory=lambda: np.empty(0, np.int64))

    def note(
        self, ts_ms: IntColumn, *, inserted: int = 0, updated: int = 0, withdrawn: int = 0
    ) -> None:
        """Add bars that start at ``ts_ms``, in order, and how many of them became what."""
        self.inserted += inserted
        self.updated += updated
        self.withdrawn += withdrawn
        if len(ts_ms):
            self.changed_ms = np.concatenate((self.changed_ms, ts_ms))
            self.reach(to_time(int(ts_ms[0])), to_time(int(ts_ms[-1])))

    def reach(self, *starts: datetime | None) -> None:
        """Widen the range to the starts of bars that changed."""
        given = [at for at in (self.first, self.last, *starts) if at is not None]
        if given:
            self.first, self.last = min(given), max(given)


def note_changes(connection: Connection, run_id: UUID, changes: Iterable[Change]) -> None:
    """Add to what a run has changed, in the transaction that changes it; each series once."""
    noted = [one for one in changes if one.first is not None]
    if noted:
        connection.later(
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
