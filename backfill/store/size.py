"""What a bar takes on the disk, as this table has it."""

from typing import Final

from backfill.core.dataclass import dataclass
from backfill.store.pool import Connection

DEFAULT_BYTES: Final = 150
"""A bar with its entry in the index: 133 after a load of minutes into an empty PostgreSQL 18, and
some more where the index fills in another order."""
_ENOUGH: Final = 10_000
# How large is the table of bars with its index, in all partitions, and how many bars does it hold?
# They are counted with each page; of rows that were put there otherwise the planner guesses.
_SIZE: Final = """
    SELECT sum(pg_total_relation_size(p.oid))::bigint AS bytes,
        greatest(
            sum(greatest(c.reltuples, 0))::bigint,
            (SELECT coalesce(sum(bars), 0)::bigint FROM backfill_progress)
        ) AS bars
    FROM (
        SELECT 'ohlc_bars'::regclass AS oid
        UNION
        SELECT relid FROM pg_partition_tree('ohlc_bars'::regclass) WHERE isleaf
    ) AS p
    JOIN pg_class AS c ON c.oid = p.oid
"""


@dataclass(frozen=True, slots=True)
class TableSize:
    """How large the table of bars is, its index included, and how many bars that is."""

    bytes: int
    bars: int

    @property
    def is_measured(self) -> bool:
        """Whether there are enough bars to tell what one takes."""
        return self.bars >= _ENOUGH

    @property
    def bytes_per_bar(self) -> float:
        """What a bar takes; a default where the table holds too few to tell."""
        return self.bytes / self.bars if self.is_measured else DEFAULT_BYTES


async def table_size(connection: Connection) -> TableSize:
    """Return how large the table of bars is."""
    row = await connection.fetchrow(_SIZE)
    return TableSize(row["bytes"] or 0, row["bars"]) if row is not None else TableSize(0, 0)
