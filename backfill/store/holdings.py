"""How many bars the table holds of each series, from which to which.

Pages keep the counts as they write, in the row that they update anyway. A trigger notes every other
write to the table (`uncounted_writes`): from then on bars are counted where they are, until a count
has been kept that saw what was noted. Where no trigger can see every write, in a table of
partitions or of a subscription, they are always counted.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from backfill.core.dataclass import dataclass
from backfill.core.series import Series, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.keys import keys_of
from backfill.store.pool import Connection

# Whether every write but those of pages is noted, whether the notes can be read, and whether what
# is counted can be kept.
_ABILITIES: Final = """
    SELECT
        EXISTS (
            SELECT
            FROM pg_class AS c
            JOIN pg_trigger AS t ON t.tgrelid = c.oid
            WHERE c.oid = 'ohlc_bars'::regclass AND c.relkind = 'r'
                AND t.tgname = 'backfill_uncounted' AND t.tgenabled = 'A'
                AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)
                AND NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = c.oid)
        )
        AND has_table_privilege('uncounted_writes', 'SELECT')
        AND (
            NOT row_security_active('uncounted_writes')
            OR EXISTS (
                SELECT
                FROM pg_roles
                WHERE rolname = 'backfill_runner' AND pg_has_role(oid, 'USAGE')
            )
        ) AS noted,
        NOT current_setting('transaction_read_only')::boolean
        AND has_table_privilege('uncounted_writes', 'DELETE')
        AND has_table_privilege('backfill_progress', 'UPDATE') AS keeps
"""
# Which writes nobody has counted yet.
_UNCOUNTED: Final = "SELECT transaction_id FROM uncounted_writes"
# What is kept of each series; one that isn't counted yet is, by its range of the primary key, and
# of each one step of it to either end.
_KEPT: Final = """
    SELECT k.symbol_id, k.timeframe, p.xmin::text AS version, p.bars AS kept,
        coalesce(p.bars, (
            SELECT count(*)
            FROM ohlc_bars AS b
            WHERE b.symbol_id = k.symbol_id AND b.timeframe = k.timeframe::timeframe
        )) AS bars,
        oldest.ts AS oldest, newest.ts AS newest
    FROM unnest($1::symbol_id[], $2::text[]) AS k (symbol_id, timeframe)
    LEFT JOIN backfill_progress AS p
        ON p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
    LEFT JOIN LATERAL (
        SELECT b.ts
        FROM ohlc_bars AS b
        WHERE b.symbol_id = k.symbol_id AND b.timeframe = k.timeframe::timeframe
        ORDER BY b.ts
        LIMIT 1
    ) AS oldest ON true
    LEFT JOIN LATERAL (
        SELECT b.ts
        FROM ohlc_bars AS b
        WHERE b.symbol_id = k.symbol_id AND b.timeframe = k.timeframe::timeframe
        ORDER BY b.ts DESC
        LIMIT 1
    ) AS newest ON true
"""
# Bars of every series, by an index-only scan of the primary key, beside what is kept of them.
_COUNTED: Final = """
    SELECT coalesce(b.symbol_id, p.symbol_id) AS symbol_id,
        coalesce(b.timeframe, p.timeframe)::text AS timeframe, p.xmin::text AS version,
        p.bars AS kept, coalesce(b.bars, 0) AS bars, b.oldest, b.newest
    FROM (
        SELECT symbol_id, timeframe, count(*) AS bars, min(ts) AS oldest, max(ts) AS newest
        FROM ohlc_bars
        GROUP BY symbol_id, timeframe
    ) AS b
    FULL JOIN backfill_progress AS p
        ON p.symbol_id = b.symbol_id AND p.timeframe = b.timeframe
"""
# Counts go to the rows that nobody has changed since; if that is all of them, what was noted before
# is counted. A row that somebody holds is passed over.
_KEEP: Final = """
    WITH same AS MATERIALIZED (
        SELECT p.symbol_id, p.timeframe
        FROM backfill_progress AS p
        JOIN unnest($1::symbol_id[], $2::text[], $3::text[])
            AS k (symbol_id, timeframe, version)
            ON p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
            AND p.xmin::text = k.version
        ORDER BY p.symbol_id, p.timeframe
        FOR UPDATE OF p SKIP LOCKED
    ),
    kept AS (
        UPDATE backfill_progress AS p
        SET bars = k.bars
        FROM unnest($1::symbol_id[], $2::text[], $4::bigint[]) AS k (symbol_id, timeframe, bars)
        JOIN same AS s ON s.symbol_id = k.symbol_id AND s.timeframe = k.timeframe::timeframe
        WHERE p.symbol_id = k.symbol_id AND p.timeframe = k.timeframe::timeframe
        RETURNING 1
    )
    DELETE FROM uncounted_writes
    WHERE transaction_id = ANY ($5::bigint[])
        AND (SELECT count(*) FROM kept) = cardinality($1::symbol_id[])
"""
_TOO_MANY: Final = 0
"""Stands for more transactions than are noted."""


@dataclass(frozen=True, slots=True)
class Holding:
    """The bars stored of a series: how many, and the starts of the oldest and the newest."""

    bars: int
    oldest: datetime
    newest: datetime


Holdings: TypeAlias = dict[tuple[SymbolId, Timeframe], Holding]


async def holdings(connection: Connection, series: Iterable[Series]) -> Holdings:
    """Return what is stored of each series; one without bars is missing from the result.

    What had to be counted is kept for the next time, where that is allowed.
    """
    [abilities] = await connection.fetch(_ABILITIES)
    uncounted: list[int] = []
    if abilities["noted"]:
        uncounted = [row["transaction_id"] for row in await connection.fetch(_UNCOUNTED)]
    if abilities["noted"] and not uncounted:
        rows = await connection.fetch(_KEPT, *keys_of(series))
    else:
        rows = await connection.fetch(_COUNTED)
    if abilities["noted"] and abilities["keeps"] and _TOO_MANY not in uncounted:
        await _keep(connection, rows, uncounted)
    return {
        (row["symbol_id"], Timeframe(row["timeframe"])): Holding(
            row["bars"], row["oldest"], row["newest"]
        )
        for row in rows
        if row["oldest"] is not None
    }


async def _keep(connection: Connection, rows: Sequence[Any], uncounted: Sequence[int]) -> None:
    """Keep what was counted; with ``uncounted`` writes every row has to be the same by then."""
    known = [row for row in rows if row["version"] is not None]
    counted = known if uncounted else [row for row in known if row["kept"] is None]
    if counted or uncounted:
        await connection.execute(
            _KEEP,
            [row["symbol_id"] for row in counted],
            [row["timeframe"] for row in counted],
            [row["version"] for row in counted],
            [row["bars"] for row in counted],
            uncounted,
        )
