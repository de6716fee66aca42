"""Bars into a table that may hold some of them already: what is identical is not touched."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

import numpy as np

from backfill.core.bars import Bars, IntColumn
from backfill.core.checks import Reason
from backfill.core.series import Series
from backfill.store.columns import columns_of
from backfill.store.keys import key_of, keys_of, told_key
from backfill.store.pool import Connection
from backfill.store.quote import numbers
from backfill.store.shape import VALUES, Shape, rows_dropped, rows_told
from backfill.store.times import stamps_to_ms

# One statement for the bars of all series. Each is looked up by the primary key (OFFSET keeps the
# planner from anything else, whatever it believes of a table that was never analysed), and only
# what is new or differs is written: identical rows leave no dead row and no WAL behind. Whether a
# row is new is told by that look-up: its xmax is not to be had of a partitioned table. What the
# columns of an adopted table can't hold of a number is no difference: bars are compared as they
# would be stored.
_MERGE: Final = """
    WITH changed AS (
        SELECT k.symbol_id, k.timeframe::timeframe AS timeframe, i.*, b.ts IS NULL AS is_new
        FROM (
            SELECT series, to_timestamp(ts_ms::double precision / 1000) AS ts, {cast}
            FROM unnest(
                $3::integer[], $4::bigint[], $5::double precision[], $6::double precision[],
                $7::double precision[], $8::double precision[], $9::double precision[],
                $10::double precision[], $11::bigint[]
            ) AS r (series, ts_ms, {values})
        ) AS i
        JOIN unnest($1::symbol_id[], $2::text[]) WITH ORDINALITY AS k (symbol_id, timeframe, series)
            ON k.series = i.series
        LEFT JOIN LATERAL (
            SELECT *
            FROM ohlc_bars AS o
            WHERE o.symbol_id = k.symbol_id AND o.timeframe = k.timeframe::timeframe
                AND o.ts = i.ts
            OFFSET 0
        ) AS b ON true
        WHERE b.ts IS NULL OR ({stored}) IS DISTINCT FROM ({given})
    ),
    written AS (
        INSERT INTO ohlc_bars (symbol_id, timeframe, ts, {values}{provider})
        SELECT symbol_id, timeframe, ts, {values}{from_provider}
        FROM changed
        ORDER BY symbol_id, timeframe, ts
        ON CONFLICT (symbol_id, timeframe, ts) DO UPDATE SET {update}
        RETURNING symbol_id, timeframe, ts
    ),
    meant AS (
        SELECT
            symbol_id,
            timeframe,
            count(*) AS bars,
            count(*) FILTER (WHERE is_new) AS inserted,
            count(*) FILTER (WHERE NOT is_new) AS updated
        FROM changed
        GROUP BY symbol_id, timeframe
    ),
    kept AS (
        SELECT
            symbol_id,
            timeframe,
            count(*) AS bars,
            string_agg(timestamptz_send(ts), ''::bytea ORDER BY ts) AS stamps
        FROM written
        GROUP BY symbol_id, timeframe
    )
    SELECT coalesce(json_agg(json_build_object(
        'symbol_id', m.symbol_id,
        'timeframe', m.timeframe,
        'bars', m.bars,
        'kept', coalesce(k.bars, 0),
        'inserted', m.inserted,
        'updated', m.updated,
        'stamps', encode(k.stamps, 'hex')
    )), '[]')::text
    FROM meant AS m
    LEFT JOIN kept AS k USING (symbol_id, timeframe)
"""
# A stored bar leaves for quarantine as it was.
_WITHDRAW: Final = """
    WITH gone AS (
        DELETE FROM ohlc_bars
        WHERE symbol_id = $1 AND timeframe = $2::text::timeframe AND ts = ANY ($3::timestamptz[])
        RETURNING *
    )
    INSERT INTO quarantined_bars (symbol_id, timeframe, ts, reason, raw, run_id)
    SELECT symbol_id, timeframe, ts, $5, to_jsonb(gone), $4 FROM gone
"""


@dataclass(frozen=True, slots=True)
class Written:
    """How many bars of a series were new and how many changed, and their starts in order."""

    inserted: int
    updated: int
    ts_ms: IntColumn


async def merge_bars(
    connection: Connection, parts: Sequence[tuple[Series, Bars]], shape: Shape, provider: str
) -> dict[Series, Written]:
    """Write the bars of each series that are new or differ from the stored ones.

    ``provider`` is where they are from, for a table that says so. A series of which nothing was
    written is missing from the result.

    Raises
    ------
    RowsDropped
        If the table didn't keep all of them.
    """
    series = [one for one, _ in parts]
    bars = Bars.concat([one for _, one in parts])
    if not len(bars):
        return {}
    told = await connection.value(
        _merge(shape),
        *keys_of(series),
        numbers(np.repeat(np.arange(1, len(parts) + 1), [len(one) for _, one in parts]).tolist()),
        *columns_of(bars),
        *([provider] if shape.provider else []),
    )
    rows = json.loads(told)
    if dropping := [row for row in rows if row["kept"] < row["bars"]]:
        meant, kept = (sum(row[name] for row in dropping) for name in ("bars", "kept"))
        raise await rows_dropped(connection, meant, kept)
    by_key = {one.key: one for one in series}
    return {by_key[told_key(row)]: _written(row) for row in rows}


async def withdraw_bars(
    connection: Connection,
    run_id: UUID,
    series: Series,
    starts: Sequence[datetime],
    reason: Reason = Reason.withdrawn,
) -> None:
    """Move a series' stored bars that have these starts to quarantine.

    Raises
    ------
    RowsDropped
        If the table didn't let go of all of them.
    """
    told = await connection.execute(_WITHDRAW, *key_of(series), starts, run_id, str(reason))
    if (moved := rows_told(told)) < len(starts):
        raise await rows_dropped(connection, len(starts), moved)


@cache
def _merge(shape: Shape) -> str:
    """Return the statement for a table; the names of its types are the catalog's own."""
    columns = [*VALUES, *(["provider"] if shape.provider else [])]
    return _MERGE.format(
        values=", ".join(VALUES),
        cast=", ".join(
            f"{name}::{kind} AS {name}" for name, kind in zip(VALUES, shape.types, strict=True)
        ),
        stored=", ".join(f"b.{name}" for name in VALUES),
        given=", ".join(f"i.{name}" for name in VALUES),
        provider=", provider" if shape.provider else "",
        from_provider=f", $12::text::{shape.provider}" if shape.provider else "",
        update=", ".join(f"{name} = excluded.{name}" for name in columns),
    )


def _written(row: Any) -> Written:
    return Written(row["inserted"], row["updated"], stamps_to_ms(bytes.fromhex(row["stamps"])))
