"""The run ledger: one row per run, whatever became of it."""

import json
from typing import Any, Final
from uuid import UUID

from backfill.store.pool import Connection, Database

_START: Final = """
    INSERT INTO backfill_runs (run_id, mode, provider) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING
"""
_FINISH: Final = """
    UPDATE backfill_runs
    SET finished_at = now(),
        status = $2,
        symbols_processed = $3,
        calls = $4,
        lookups = $5,
        retries = $6,
        rate_limited = $7,
        bars_inserted = $8,
        bars_updated = $9,
        bars_unchanged = $10,
        bars_rejected = $11,
        bars_withdrawn = $12,
        failures = $13::jsonb,
        error = $14
    WHERE run_id = $1
"""


async def start_run(database: Database, run_id: UUID, mode: str, provider: str) -> None:
    """Open a run's row, with status ``running``."""

    async def work(connection: Connection) -> None:
        await connection.execute(_START, run_id, mode, provider)

    await database.run(work)


async def finish_run(
    connection: Connection,
    run_id: UUID,
    status: str,
    symbols: int,
    numbers: tuple[int, ...],
    failures: list[dict[str, Any]],
    error: str | None,
) -> None:
    """Close a run's row.

    ``numbers`` are calls, lookups, retries, rate_limited, and the bars inserted, updated,
    unchanged, rejected and withdrawn.
    """
    await connection.execute(
        _FINISH, run_id, status, symbols, *numbers, json.dumps(failures), error
    )
