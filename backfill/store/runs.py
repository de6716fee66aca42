"""The run ledger: one row per run, whatever became of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from backfill.core.plain import json_text, storable
from backfill.store.bars import Counts
from backfill.store.pool import Connection, Database

_START: Final = """
    INSERT INTO backfill_runs (run_id, mode, provider) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING
"""
# A run whose leases have all expired sends no heartbeat any more. One that died without any is told
# by its age alone. Should it live after all, it writes its own end over this.
_NOTE_DEAD: Final = """
    UPDATE backfill_runs AS r
    SET status = 'interrupted', finished_at = now(), error = 'the run died'
    WHERE r.status = 'running'
        AND NOT EXISTS (
            SELECT FROM backfill_progress AS p
            WHERE p.claimed_by = r.run_id AND p.claimed_until > now()
        )
        AND (
            r.started_at < now() - interval '1 day'
            OR EXISTS (SELECT FROM backfill_progress AS p WHERE p.claimed_by = r.run_id)
        )
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
        error = $14,
        exit_code = $15,
        bars_ignored = $16
    WHERE run_id = $1
"""
# The newest run that has ended, by the index on started_at, and when the last good one did.
_LAST: Final = """
    SELECT
        status,
        exit_code,
        started_at,
        finished_at,
        calls,
        lookups,
        (SELECT max(finished_at) FROM backfill_runs WHERE status = 'ok') AS succeeded_at
    FROM backfill_runs
    WHERE finished_at IS NOT NULL
    ORDER BY started_at DESC
    LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended: its status, what it sent and stored, and the series that failed."""

    status: str
    symbols: int
    calls: int
    lookups: int
    retries: int
    rate_limited: int
    bars: Counts
    failures: list[dict[str, str]]
    error: str | None
    exit_code: int


async def start_run(database: Database, run_id: UUID, mode: str, provider: str) -> None:
    """Open a run's row, with status ``running``, and close those of runs that died."""

    async def work(connection: Connection) -> None:
        await connection.execute(_NOTE_DEAD)
        await connection.execute(_START, run_id, mode, provider)

    await database.run(work)


async def finish_run(connection: Connection, run_id: UUID, end: RunEnd) -> None:
    """Close a run's row."""
    await connection.execute(
        _FINISH,
        run_id,
        end.status,
        end.symbols,
        end.calls,
        end.lookups,
        end.retries,
        end.rate_limited,
        end.bars.inserted,
        end.bars.updated,
        end.bars.unchanged,
        end.bars.rejected,
        end.bars.withdrawn,
        json_text([{name: storable(text) for name, text in one.items()} for one in end.failures]),
        storable(end.error) if end.error is not None else None,
        end.exit_code,
        end.bars.ignored,
    )


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run that has ended; ``exit_code`` is None for one that died.

    ``succeeded_at`` is when the last one ended that did all it was asked to, if one has.
    """

    status: str
    exit_code: int | None
    started_at: datetime
    finished_at: datetime
    calls: int
    lookups: int
    succeeded_at: datetime | None


async def last_run(connection: Connection) -> LastRun | None:
    """Return the newest run that has ended, if one has."""
    row = await connection.fetchrow(_LAST)
    return LastRun(**row) if row is not None else None
