"""What an export is made of: what is covered, what runs have changed since, and split factors."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from backfill.core.export import MARGIN, Changed, Factor, RunBars
from backfill.core.series import Series, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.keys import told_id, told_key
from backfill.store.pool import Connection
from backfill.store.progress import Known, load_progress
from backfill.store.quote import bound
from backfill.store.status import claimed_series
from backfill.store.times import to_ms, told_time
from backfill.store.universe import known_symbols

# The runs that had not ended when those ended that were the newest at a time, with how many bars
# each has changed: a scan of the runs, and the primary key of what they changed.
_RUNS: Final = """
    SELECT r.run_id::text AS run_id, r.finished_at, c.bars
    FROM backfill_runs AS r
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(inserted + updated + withdrawn), 0)::bigint AS bars
        FROM backfill_changes
        WHERE run_id = r.run_id
    ) AS c
    WHERE r.finished_at IS NULL
        OR r.finished_at >= (
            SELECT least($1::timestamptz, max(finished_at)) FROM backfill_runs
        ) - $2::text::interval
"""
# The clock by which runs end.
_NOW: Final = "SELECT now() AS now"
# What runs have changed, by the primary key.
_CHANGED: Final = """
    SELECT symbol_id, timeframe::text AS timeframe, lower(range) AS first, upper(range) AS last
    FROM backfill_changes
    WHERE run_id = ANY ($1::uuid[]) AND NOT isempty(range)
"""
# By what the raw bars of a symbol are divided, from when to before when.
_FACTORS: Final = """
    SELECT symbol_id, starts, ends, split_factor
    FROM adjustment_factors
    WHERE split_factor <> 1
    ORDER BY symbol_id, starts
"""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the ledger says: the server's clock, and the runs that ended late, by their ids."""

    now: datetime
    runs: dict[str, RunBars]


async def ledger(connection: Connection, since: datetime | None) -> Ledger:
    """Return the runs that ended up to a day before the newest one of all, or of those at a time.

    Those that haven't ended are among them.
    """
    runs, (clock,) = await connection.ask(bound(_RUNS, since, f"{MARGIN.days} days"), _NOW)
    return Ledger(
        datetime.fromisoformat(clock["now"]),
        {row["run_id"]: RunBars(told_time(row["finished_at"]), row["bars"]) for row in runs},
    )


async def covered_series(connection: Connection) -> tuple[list[Series], Known]:
    """Return every series that has a source, by ticker, finest timeframe first, and its progress.

    Symbols of which nobody can say what they are, are left out.
    """
    symbols = {one.id: one for one in await known_symbols(connection) if one.doubt is None}
    order = list(Timeframe)
    series = sorted(
        (
            Series(symbols[key], one)
            for key, one in await claimed_series(connection)
            if key in symbols
        ),
        key=lambda one: (one.symbol.ticker, order.index(one.timeframe)),
    )
    return series, await load_progress(connection, series)


async def factors(connection: Connection) -> dict[SymbolId, tuple[Factor, ...]]:
    """Return by what the raw bars of each symbol are divided where splits apply to them."""
    (rows,) = await connection.ask(_FACTORS)
    found: dict[SymbolId, list[Factor]] = {}
    for row in rows:
        found.setdefault(told_id(row["symbol_id"]), []).append(factor_of(row))
    return {symbol_id: tuple(every) for symbol_id, every in found.items()}


def factor_of(row: Mapping[str, Any]) -> Factor:
    """Return the factor that a row of `adjustment_factors` tells of."""
    return Factor(_ms(row["starts"]), _ms(row["ends"]), row["split_factor"])


async def changed_by(
    connection: Connection,
    runs: Collection[str],
    series: Mapping[tuple[SymbolId, Timeframe], Series],
) -> list[Changed]:
    """Return what runs have changed of series, which are given by their keys."""
    if not runs:
        return []
    (rows,) = await connection.ask(bound(_CHANGED, list(runs)))
    return [
        Changed(series[key], _ms(row["first"]), _ms(row["last"]))
        for row in rows
        if (key := told_key(row)) in series
    ]


def _ms(told: str) -> int:
    """Return a timestamptz that a row tells as JSON does, and that is never NULL."""
    return to_ms(cast("datetime", told_time(told)))
