"""The quota's ledger on the database's clock, shared by every process that uses one key (R13).

The migration's functions hold what it does; these statements carry their values, so that each is
one round trip.
"""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from backfill.core.terms import Quota, Taken
from backfill.store import quote
from backfill.store.pool import Database

# Which of these calls may go, when the others should be asked for again, and what the clock says?
_TAKE: Final = """
    SELECT granted, wait_us, at_us
    FROM {schema}.quota_take({provider}, {key}, {process}, {first}, {costs}, {limits}, {periods})
"""
# Calls that were answered some time ago, and those of which nothing was written. The row is found
# by its key; a second process waits for it and then works on what the first one left.
_NOTE: Final = """
    UPDATE provider_quota AS q
    SET calls = ARRAY(
            SELECT CASE
                WHEN n.id IS NULL THEN c
                ELSE ROW(
                    c.id, c.cost, least(c.latest, clock_timestamp() - n.ago), false
                )::quota_call
            END
            FROM unnest(q.calls) AS c
            LEFT JOIN unnest({answered}, {ago}) AS n (id, ago) ON n.id = c.id
            WHERE c.id IS NULL OR c.id <> ALL ({unwritten})
        ),
        tickets = ARRAY(SELECT t FROM unnest(q.tickets) AS t WHERE t.process <> {leaving})
    WHERE provider = {provider} AND key_id = {key}
"""
# Nobody sends for a while; where nobody has used the key before, its row is new.
_PAUSE: Final = """
    INSERT INTO provider_quota AS q (provider, key_id, paused_until)
    VALUES ({provider}, {key}, clock_timestamp() + {pause})
    ON CONFLICT (provider, key_id) DO UPDATE
    SET paused_until = greatest(q.paused_until, clock_timestamp() + {pause})
"""
# The stamps are of a clock that was moved: every call counts anew, an open one until its head is
# due, and nobody sends for a while.
_DOUBT: Final = """
    UPDATE provider_quota AS q
    SET calls = ARRAY(
            SELECT ROW(
                c.id,
                c.cost,
                clock_timestamp() + CASE WHEN c.open THEN interval '30 seconds' ELSE '0' END,
                c.open
            )::quota_call
            FROM unnest(q.calls) AS c
        ),
        tickets = '{{}}',
        paused_until = clock_timestamp() + {pause}
    WHERE provider = {provider} AND key_id = {key}
"""


def key_id(provider: str, key: str) -> str:
    """Return a digest that tells a provider's keys apart and does not give the key away."""
    return hashlib.sha256(f"backfill:{provider}:{key}".encode()).hexdigest()[:16]


class DatabaseSlots:
    """The ledger in ``provider_quota``: one row per provider and key.

    Parameters
    ----------
    database
        Where it is.
    provider, key
        Whose quota it is; of the key a digest is stored.
    quota
        The windows that hold.
    """

    def __init__(self, database: Database, provider: str, key: str, quota: Quota) -> None:
        self._database = database
        self._row = {
            "provider": quote.text(provider),
            "key": quote.text(key_id(provider, key)),
        }
        self._windows = {
            "limits": quote.integers((window.limit for window in quota.windows), "integer"),
            "periods": quote.intervals(window.held_s for window in quota.windows),
        }
        self._process = secrets.randbits(62)
        self._next = secrets.randbits(62)
        self._unsure: list[int] = []

    async def take(self, costs: Sequence[int]) -> Taken:
        """Take slots for calls of these costs, the first of them first."""
        calls = range(self._next, self._next + len(costs))
        self._next = calls.stop
        try:
            granted, wait_us, at_us = await self._database.row_at_once(
                _TAKE.format(
                    schema=self._database.schema,
                    **self._row,
                    **self._windows,
                    process=self._process,
                    first=calls.start,
                    costs=quote.integers(costs, "integer"),
                )
            )
        except BaseException:
            self._unsure += calls  # the statement may have arrived
            raise
        return Taken(tuple(calls[: int(granted)]), int(wait_us) / 1e6, int(at_us) / 1e6)

    async def note(
        self,
        answered: Sequence[tuple[int, float]],
        unwritten: Sequence[int],
        *,
        leaving: bool = False,
    ) -> None:
        """Note answers, each with the seconds since its head came, and give slots back."""
        unsure, self._unsure = self._unsure, []
        await self._database.execute_at_once(
            _NOTE.format(
                **self._row,
                answered=quote.integers(call for call, _ in answered),
                ago=quote.intervals(ago_s for _, ago_s in answered),
                unwritten=quote.integers([*unwritten, *unsure]),
                leaving=self._process if leaving else -1,
            )
        )

    async def pause(self, seconds: float) -> None:
        """Let nobody send for so many seconds from now."""
        await self._database.execute_at_once(
            _PAUSE.format(**self._row, pause=quote.interval(seconds))
        )

    async def doubt(self, pause_s: float) -> None:
        """Count every call anew from now on, and let nobody send for so many seconds."""
        await self._database.execute_at_once(
            _DOUBT.format(**self._row, pause=quote.interval(pause_s))
        )
