"""Where the table of bars is in partitions: whether there is one for what a run will write."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from backfill.core.coverage import Spans
from backfill.core.grid import Grid
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.errors import DatabaseError
from backfill.store.pool import Connection
from backfill.store.times import to_ms, to_time

_FOREVER: Final = 9999 * 12  # in months
# What does each partition that holds rows itself ask of them? NULL where it takes all.
_CONDITIONS: Final = """
    SELECT pg_get_partition_constraintdef(t.relid)
    FROM pg_partition_tree('ohlc_bars'::regclass) AS t
    WHERE t.isleaf AND t.level > 0
"""
# Which of these bars has no partition? The conditions are the server's own words for them, over the
# columns of a row of the table.
_HOMELESS: Final = """
    SELECT asked.frame, asked.at
    FROM unnest($1::bigint[], $2::text[], $3::timestamptz[]) AS asked (id, frame, at)
    CROSS JOIN LATERAL jsonb_populate_record(
        NULL::ohlc_bars,
        jsonb_build_object('symbol_id', asked.id, 'timeframe', asked.frame, 'ts', asked.at)
    ) AS bar
    WHERE NOT coalesce({conditions}, false)
    ORDER BY asked.at
    LIMIT 1
"""


async def see_partitions(
    connection: Connection, wanted: Iterable[tuple[Series, Grid, Spans]]
) -> None:
    """See that there is a partition for the ends of all spans, and for each month within.

    Raises
    ------
    DatabaseError
        If there is none for one of them.
    """
    conditions = [row[0] for row in await connection.fetch(_CONDITIONS)]
    if None in conditions:
        return
    by_symbol = any("symbol_id" in one for one in conditions)
    asked = {
        (series.symbol.id if by_symbol else 0, series.timeframe, at_ms)
        for series, grid, spans in wanted
        for at_ms in _starts(grid, spans)
    }
    row = await connection.fetchrow(
        _HOMELESS.format(conditions=" OR ".join(f"({one})" for one in conditions) or "false"),
        [number for number, _, _ in asked],
        [str(timeframe) for _, timeframe, _ in asked],
        [to_time(at_ms) for _, _, at_ms in asked],
    )
    if row is not None:
        raise DatabaseError(
            f"no partition of ohlc_bars takes {Timeframe(row['frame'])} bars of {row['at']:%Y-%m}; "
            "make one, or a default one, and run again"
        )


def _starts(grid: Grid, spans: Spans) -> Iterator[int]:
    """Start of the first and last slot of each span, and of the first of each month within."""
    for span in spans:
        first, end = grid.index_from(span.start_ms), grid.index_from(span.end_ms)
        if first >= end:
            continue
        yield grid.start_of(first)
        yield grid.start_of(end - 1)
        begun = to_time(grid.start_of(first))
        for month in range(begun.year * 12 + begun.month, _FOREVER):
            at = grid.index_from(to_ms(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)))
            if at >= end:
                break
            yield grid.start_of(at)
