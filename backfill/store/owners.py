"""How far the list of all tickers is read, and the companies that it names."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from backfill.core.series import Symbol
from backfill.store.pool import Connection

_AGAIN: Final = timedelta(days=30)
_AT_FIRST: Final = timedelta(days=1)

# The first to come takes the session, and whoever comes after it has died; a run at the same time
# finds it taken.
_CLAIM: Final = """
    INSERT INTO action_syncs AS a (provider, kind, session, claimed_by)
    SELECT $1, 'tickers', $2, $5
    WHERE EXISTS (SELECT FROM symbols WHERE confirmed_at <= $3)
    ON CONFLICT (provider, kind) DO UPDATE
    SET session = greatest(a.session, excluded.session), claimed_by = excluded.claimed_by
    WHERE (
        a.session < excluded.session OR (
            a.claimed_by IS NOT NULL AND NOT EXISTS (
                SELECT FROM backfill_runs AS r
                WHERE r.run_id = a.claimed_by AND r.status = 'running' AND r.alive_until > now()
            )
        )
    ) AND (
        a.next_ticker IS NOT NULL OR a.next_from IS NULL OR a.next_from <= $4
    )
    RETURNING next_ticker
"""
# How far the list of all tickers is read, and when it is read again; by the primary key. At its
# end nobody reads it any more.
_NOTE: Final = """
    UPDATE action_syncs
    SET next_from = CASE WHEN next_ticker IS NULL THEN $3 ELSE next_from END,
        next_ticker = $2,
        synced_at = CASE WHEN $2::text IS NULL THEN $4 ELSE synced_at END,
        claimed_by = CASE WHEN $2::text IS NOT NULL THEN claimed_by END
    WHERE provider = $1 AND kind = 'tickers'
"""
# A FIGI that was not known; by the primary key.
_FILL_FIGI: Final = "UPDATE symbols SET figi = $2 WHERE id = $1 AND figi IS NULL"


@dataclass(frozen=True, slots=True)
class Sweep:
    """A reading of the list: the last ticker that it came to; None before it has begun."""

    reached: str | None


async def claim_sweep(
    connection: Connection, provider: str, session: date, now: datetime, run_id: UUID
) -> Sweep | None:
    """Take it on to read in the list for a final session; None if that is done, or not due.

    It is due thirty days after it began last, and the first time a day after the first symbol was
    confirmed.
    """
    days = session, now - _AT_FIRST, now.date()
    claimed = await connection.returned(_CLAIM, provider, *days, run_id)
    return Sweep(claimed[0]["next_ticker"]) if claimed else None


async def note_sweep(
    connection: Connection, provider: str, reached: str | None, now: datetime
) -> None:
    """Note which ticker a reading has come to; None for its end."""
    connection.later(_NOTE, provider, reached, now.date() + _AGAIN, now)


async def note_figi(connection: Connection, symbol: Symbol, figi: str) -> None:
    """Note which company a symbol is, if that is not known."""
    connection.later(_FILL_FIGI, symbol.id, figi)
