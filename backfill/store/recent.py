"""The runs of the last weeks, as the ledger tells of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from backfill.store.pool import Connection
from backfill.store.quote import bound
from backfill.store.times import told_day, told_time

# The runs since an instant, day by day by UTC; by the index on started_at.
_DAYS: Final = """
    SELECT (started_at AT TIME ZONE 'UTC')::date AS "on",
        count(*) AS runs,
        count(*) FILTER (WHERE status NOT IN ('ok', 'running')) AS bad,
        sum(calls + lookups) AS calls,
        sum(CASE jsonb_typeof(failures) WHEN 'array' THEN jsonb_array_length(failures) ELSE 0 END)
            AS failed,
        sum(bars_inserted + bars_updated) AS bars
    FROM backfill_runs
    WHERE started_at >= $1
    GROUP BY 1
    ORDER BY 1
"""
# The newest of them that asked or changed something, or that didn't end well; by the same index.
_RUNS: Final = """
    SELECT started_at, finished_at, mode, provider, status, calls, lookups,
        CASE jsonb_typeof(failures) WHEN 'array' THEN jsonb_array_length(failures) ELSE 0 END
            AS failed,
        bars_inserted AS inserted, bars_updated AS updated, bars_rejected AS rejected, error
    FROM backfill_runs
    WHERE started_at >= $1 AND (calls + lookups > 0 OR bars_inserted > 0 OR status <> 'ok')
    ORDER BY started_at DESC
    LIMIT $2
"""
# How the newest run that is over ended, and which series failed in it; by the same index.
_LAST: Final = """
    SELECT started_at, status, error, failures
    FROM backfill_runs
    WHERE finished_at IS NOT NULL
    ORDER BY started_at DESC
    LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class RunDay:
    """The runs that began on one day, by UTC; ``bad`` of them did not end in order."""

    on: date
    runs: int = 0
    bad: int = 0
    calls: int = 0
    failed: int = 0
    bars: int = 0


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run; ``failed`` is how many of its series did."""

    started_at: datetime
    finished_at: datetime | None
    mode: str
    provider: str
    status: str
    calls: int
    lookups: int
    failed: int
    inserted: int
    updated: int
    rejected: int
    error: str | None


@dataclass(frozen=True, slots=True)
class LastEnd:
    """How the newest run that is over ended; each failure has what the run wrote of it."""

    started_at: datetime
    status: str
    error: str | None
    failures: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Recent:
    """The runs since an instant: by days, the newest one by one, and how the last one ended."""

    days: tuple[RunDay, ...] = ()
    runs: tuple[RunRow, ...] = ()
    last: LastEnd | None = field(default=None)


async def recent(connection: Connection, since: datetime, most: int) -> Recent:
    """Return the runs since an instant, at most so many of them one by one; in one round trip."""
    days, runs, last = await connection.ask(
        bound(_DAYS, since), bound(_RUNS, since, most), bound(_LAST)
    )
    return Recent(
        tuple(RunDay(**row | {"on": told_day(row["on"])}) for row in days),
        tuple(RunRow(**_timed(row)) for row in runs),
        _last(last[0]) if last else None,
    )


def _timed(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: told_time(row[name]) for name in ("started_at", "finished_at")}


def _last(row: dict[str, Any]) -> LastEnd:
    """Return how a run ended, whatever somebody may have written into its failures by hand."""
    told = row["failures"]
    failures = json.loads(told) if isinstance(told, str) else told
    started_at = datetime.fromisoformat(row["started_at"])
    if not isinstance(failures, list):
        return LastEnd(started_at, row["status"], row["error"])
    found = (one for one in failures if isinstance(one, dict))
    texts = tuple({str(name): str(text) for name, text in one.items()} for one in found)
    return LastEnd(started_at, row["status"], row["error"], texts)
