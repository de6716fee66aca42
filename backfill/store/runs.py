"""The run ledger: one row per run, whatever became of it."""

# Over 300 lines: one table: how its rows begin, end, and leave, and what they tell.

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from backfill.core.dataclass import dataclass
from backfill.core.plain import json_text, storable
from backfill.store.counts import Counts
from backfill.store.pool import Connection, Database
from backfill.store.progress import LEASE_S

if TYPE_CHECKING:
    from backfill.core.estimate import PastRun

KEPT_DAYS: Final = 90
"""How long the ledger keeps a run, and what it changed."""
_RUNS_AT_ONCE: Final = 100
_CHANGES_AT_ONCE: Final = 5_000
_AGAIN: Final = 20
# Whose lists are still to be read, and which runs that are over owe that? From a partial index,
# which holds hardly any row.
OWED: Final = """
    SELECT
        ARRAY(
            SELECT DISTINCT o.provider
            FROM backfill_runs AS r, unnest(r.lists_owed) AS o (provider)
            WHERE r.lists_owed <> '{}'
        ) AS providers,
        ARRAY(
            SELECT r.run_id::text
            FROM backfill_runs AS r
            WHERE r.lists_owed <> '{}' AND r.status <> 'running'
        ) AS debtors
"""
# The new run's row; with it leave the oldest rows whose time is over, by the index on started_at,
# and what those runs changed: rows of the ledger once none of their changes is left. The newest run
# that did all it was asked to stays. What another statement is deleting is passed over.
_STARTED: Final = """
    WITH started AS (
        INSERT INTO backfill_runs (run_id, mode, provider, alive_until, lists_owed)
        SELECT $1, $2, $3, now() + make_interval(secs => $7), $8
        WHERE $1::uuid IS NOT NULL
        ON CONFLICT DO NOTHING
    ),
    over AS MATERIALIZED (
        SELECT run_id
        FROM backfill_runs
        WHERE started_at < now() - make_interval(days => $4) AND status <> 'running'
            AND run_id IS DISTINCT FROM (
                SELECT run_id
                FROM backfill_runs
                WHERE status = 'ok'
                ORDER BY started_at DESC
                LIMIT 1
            )
        ORDER BY started_at
        LIMIT $5
        FOR UPDATE SKIP LOCKED
    ),
    changes AS (
        DELETE FROM backfill_changes AS c
        USING (
            SELECT o.run_id, c.symbol_id, c.timeframe
            FROM over AS o
            JOIN backfill_changes AS c ON c.run_id = o.run_id
            LIMIT $6
        ) AS o
        WHERE (c.run_id, c.symbol_id, c.timeframe) = (o.run_id, o.symbol_id, o.timeframe)
        RETURNING 1
    ),
    runs AS (
        DELETE FROM backfill_runs AS r
        USING over AS o
        WHERE r.run_id = o.run_id AND (SELECT count(*) FROM changes) < $6
        RETURNING 1
    )
"""
# Whether more rows are to leave than have left, and what is owed, of runs that died as well.
_TOLD: Final = """
    SELECT json_build_object(
        'more_are_over',
        (SELECT count(*) FROM runs) = $5 OR (SELECT count(*) FROM changes) = $6,
        'owed', (SELECT row_to_json(o) FROM owed AS o)
    )::text
"""
_START: Final = f"{_STARTED}, owed AS ({OWED}) {_TOLD}"
# A run whose leases have all expired sends no heartbeat any more, nor does one that let the time
# pass until which it said it lives. Should it live after all, it writes its own end over this.
_NOTE_DEAD: Final = """
    UPDATE backfill_runs AS r
    SET status = 'interrupted', finished_at = now(), error = 'the run died'
    WHERE r.status = 'running'
        AND NOT EXISTS (
            SELECT FROM backfill_progress AS p
            WHERE p.claimed_by = r.run_id AND p.claimed_until > now()
        )
        AND (
            coalesce(r.alive_until, r.started_at + interval '1 day') < now()
            OR EXISTS (SELECT FROM backfill_progress AS p WHERE p.claimed_by = r.run_id)
        )
"""
# How a run ended; by the primary key. What it has read for runs that are over they owe no longer;
# another run that does the same just now may have their rows.
_FINISH: Final = """
    WITH paid AS (
        UPDATE backfill_runs AS r
        SET lists_owed = ARRAY(SELECT o FROM unnest(r.lists_owed) AS o WHERE o <> ALL ($18::text[]))
        WHERE r.run_id IN (
            SELECT run_id
            FROM backfill_runs
            WHERE run_id = ANY ($19::text[]::uuid[]) AND lists_owed && $18
            FOR UPDATE SKIP LOCKED
        )
    )
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
        bars_ignored = $16,
        lists_owed = $17
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


# The newest runs that asked one provider for bars and came to an end by themselves; by the index
# on started_at.
_PAST: Final = """
    SELECT
        calls + lookups AS calls,
        bars_inserted + bars_updated + bars_unchanged AS bars,
        extract(epoch FROM finished_at - started_at)::double precision AS seconds
    FROM backfill_runs
    WHERE provider = $1 AND calls > 0 AND status IN ('ok', 'partial', 'stopped')
    ORDER BY started_at DESC
    LIMIT 20
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


@dataclass(frozen=True, slots=True)
class Owed:
    """Whose lists are still to be read behind bars that are stored.

    ``providers`` are those of whom runs have stored bars without having read the lists since: the
    ``debtors``, which are over, and runs that may go on and do it themselves.
    """

    providers: frozenset[str] = frozenset()
    debtors: tuple[UUID, ...] = ()


NOTHING_OWED: Final = Owed()


async def start_run(
    database: Database, run_id: UUID, mode: str, provider: str, lists: Collection[str] = ()
) -> Owed:
    """Open a run's row, with status ``running``, and close those of runs that died.

    The run owes the ``lists`` of these providers from now on: if it is killed, others see that.
    Returns what others have left so.

    Rows that are older than `KEPT_DAYS` leave, with the changes of their runs: some in the
    statement that opens the row, so that nothing is asked for them alone, and where that wasn't
    all, more in some transactions of their own. What is left then leaves with later runs.
    """

    async def start(connection: Connection) -> tuple[bool, Owed]:
        connection.later(_NOTE_DEAD)
        return await _started(connection, run_id, mode, provider, lists)

    async def clear(connection: Connection) -> tuple[bool, Owed]:
        return await _started(connection, None, None, None, ())

    more_are_over, owed = await database.run(start)
    for _ in range(_AGAIN):
        if not more_are_over:
            break
        more_are_over, _ = await database.run(clear)
    return owed


async def _started(
    connection: Connection,
    run_id: UUID | None,
    mode: str | None,
    provider: str | None,
    lists: Collection[str],
) -> tuple[bool, Owed]:
    """Open a run's row, if one is named; return whether more rows are to leave than have left."""
    told = json.loads(await connection.value(_START, *_starting(run_id, mode, provider, lists)))
    return told["more_are_over"], read_owed(told["owed"])


def _starting(
    run_id: UUID | None, mode: str | None, provider: str | None, lists: Collection[str]
) -> tuple[object, ...]:
    """Return the values of `_START`."""
    limits = KEPT_DAYS, _RUNS_AT_ONCE, _CHANGES_AT_ONCE
    return run_id, mode, provider, *limits, LEASE_S, list(lists)


def read_owed(row: Mapping[str, Any]) -> Owed:
    """Return what the row of `OWED` tells of."""
    return Owed(frozenset(row["providers"]), tuple(map(UUID, row["debtors"])))


async def enter_run(
    connection: Connection, run_id: UUID, mode: str, provider: str, end: RunEnd
) -> None:
    """Write the row of a run that had nothing to do, and has ended: as it began, and its end.

    Rows whose time is over leave with it as they do with any other's, some at a time.
    """
    connection.later(_NOTE_DEAD)
    connection.later(_START, *_starting(run_id, mode, provider, ()))
    await finish_run(connection, run_id, end)


async def finish_run(
    connection: Connection,
    run_id: UUID,
    end: RunEnd,
    owes: Collection[str] = (),
    paid: Owed = NOTHING_OWED,
) -> None:
    """Close a run's row: which providers' lists it ``owes``, and what it has ``paid`` of others."""
    connection.later(
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
        list(owes),
        list(paid.providers),
        list(map(str, paid.debtors)),
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


async def past_runs(connection: Connection, provider: str) -> "list[PastRun]":
    """Return how long the last runs of a provider took, the newest first."""
    from backfill.core.estimate import PastRun

    return [PastRun(**row) for row in await connection.fetch(_PAST, provider)]
