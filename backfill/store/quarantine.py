"""The bars that failed a check: listed, and marked once somebody has looked at them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import numpy as np

from backfill.core.bars import IntColumn
from backfill.core.checks import Reason
from backfill.core.coverage import Span
from backfill.core.series import Series, spelling
from backfill.core.timeframe import Timeframe
from backfill.store.keys import keys_of
from backfill.store.pool import Connection
from backfill.store.times import to_ms, to_time

# Served by the index on the series, and by the primary key of ohlc_bars.
_LIST: Final = """
    SELECT s.ticker, q.timeframe::text AS timeframe, q.ts, q.reason, q.raw, q.run_id,
        q.quarantined_at, q.accepted_at,
        EXISTS (
            SELECT FROM ohlc_bars AS b
            WHERE b.symbol_id = q.symbol_id AND b.timeframe = q.timeframe AND b.ts = q.ts
        ) AS stored
    FROM quarantined_bars AS q
    JOIN symbols AS s ON s.id = q.symbol_id
    WHERE ($1::text[] IS NULL OR s.spelling = ANY ($1))
        AND ($2::text[] IS NULL OR q.timeframe::text = ANY ($2))
        AND ($3::text[] IS NULL OR q.reason = ANY ($3))
        AND ($4 OR q.accepted_at IS NULL)
    ORDER BY s.ticker, q.timeframe, q.ts, q.id
"""
# What failed a check of each series within a span, not what left the table later.
_REJECTED: Final = """
    SELECT DISTINCT k.number, q.ts
    FROM unnest(
        $1::symbol_id[], $2::text[]::timeframe[], $3::timestamptz[], $4::timestamptz[]
    ) WITH ORDINALITY AS k (symbol_id, timeframe, starts, ends, number)
    JOIN quarantined_bars AS q
        ON q.symbol_id = k.symbol_id AND q.timeframe = k.timeframe
        AND q.ts >= k.starts AND q.ts < k.ends
    WHERE q.reason <> ALL ($5::text[])
"""
_ACCEPT: Final = """
    UPDATE quarantined_bars AS q
    SET accepted_at = now()
    FROM symbols AS s
    WHERE s.id = q.symbol_id AND q.accepted_at IS NULL
        AND ($1::text[] IS NULL OR s.spelling = ANY ($1))
        AND ($2::text[] IS NULL OR q.timeframe::text = ANY ($2))
        AND ($3::text[] IS NULL OR q.reason = ANY ($3))
    RETURNING 1
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which bars in quarantine: of these tickers, timeframes and reasons; None stands for any."""

    tickers: Sequence[str] | None = None
    timeframes: Sequence[Timeframe] | None = None
    reasons: Sequence[Reason] | None = None


@dataclass(frozen=True, slots=True)
class QuarantinedBar:
    """One bar in quarantine, with its values as they came.

    ``ts`` is the provider's stamp, in UTC. ``stored`` tells that the table holds a bar with that
    stamp by now: another answer has brought one that passed.
    """

    symbol: str
    timeframe: Timeframe
    ts: datetime
    reason: str
    raw: dict[str, Any]
    run_id: UUID
    quarantined_at: datetime
    accepted_at: datetime | None
    stored: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON's own types."""
        return {
            "symbol": self.symbol,
            "timeframe": str(self.timeframe),
            "ts": self.ts.isoformat(),
            "reason": self.reason,
            "raw": self.raw,
            "run_id": str(self.run_id),
            "quarantined_at": self.quarantined_at.isoformat(),
            "accepted_at": self.accepted_at.isoformat() if self.accepted_at else None,
            "stored": self.stored,
        }


async def quarantined_bars(
    connection: Connection, choice: Choice, *, accepted: bool = False
) -> list[QuarantinedBar]:
    """Return the chosen bars by series and stamp, with those that were accepted only if asked."""
    return [
        QuarantinedBar(
            symbol=row["ticker"],
            timeframe=Timeframe(row["timeframe"]),
            ts=row["ts"],
            reason=row["reason"],
            raw=json.loads(row["raw"]),
            run_id=row["run_id"],
            quarantined_at=row["quarantined_at"],
            accepted_at=row["accepted_at"],
            stored=row["stored"],
        )
        for row in await connection.fetch(_LIST, *_values(choice), accepted)
    ]


async def rejected_ms(
    connection: Connection, within: Mapping[Series, Span]
) -> dict[Series, IntColumn]:
    """Return the stamps, in epoch ms, of each series' bars within a span that failed a check."""
    rows = await connection.fetch(
        _REJECTED,
        *keys_of(within),
        [to_time(span.start_ms) for span in within.values()],
        [to_time(span.end_ms) for span in within.values()],
        [str(one) for one in (Reason.withdrawn, Reason.source_changed, Reason.before_listing)],
    )
    stamps: list[list[int]] = [[] for _ in within]
    for number, ts in rows:
        stamps[number - 1].append(to_ms(ts))
    return {series: np.array(found, np.int64) for series, found in zip(within, stamps, strict=True)}


async def accept(connection: Connection, choice: Choice) -> int:
    """Mark the chosen bars as looked at and return how many were not before."""
    return len(await connection.fetch(_ACCEPT, *_values(choice)))


def _values(choice: Choice) -> list[list[str] | None]:
    return [
        None if names is None else [str(name) for name in names]
        for names in (
            choice.tickers and [spelling(ticker) for ticker in choice.tickers],
            choice.timeframes,
            choice.reasons,
        )
    ]
