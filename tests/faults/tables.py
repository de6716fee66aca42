"""What the tables of a run say, and whether it is true."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import asyncpg
import numpy as np

from backfill.core.timeframe import Timeframe
from backfill.simulator import Market
from tests.conftest import NOW, blocking, query

# Each series' rows to the last bit, in one line that tells two tables apart.
_BARS = """
    SELECT s.ticker, b.timeframe::text AS timeframe, count(*) AS bars,
        md5(string_agg(
            concat_ws(',', ts, open, high, low, close, volume,
                coalesce(vwap::text, '-'), coalesce(trade_count::text, '-')),
            ';' ORDER BY ts
        )) AS digest
    FROM ohlc_bars AS b
    JOIN symbols AS s ON s.id = b.symbol_id
    GROUP BY 1, 2
    ORDER BY 1, 2
"""
_CLAIMS = """
    SELECT s.ticker, p.timeframe::text AS timeframe, p.coverage
    FROM backfill_progress AS p
    JOIN symbols AS s ON s.id = p.symbol_id
    ORDER BY 1, 2
"""
_EMPTY = """
    SELECT s.ticker, k.timeframe::text, k.month, k.reason, k.slots
    FROM known_empty AS k
    JOIN symbols AS s ON s.id = k.symbol_id
    ORDER BY 1, 2, 3, 4
"""
_STAMPS = """
    SELECT s.ticker, b.timeframe::text AS timeframe,
        array_agg((extract(epoch FROM ts) * 1000)::bigint ORDER BY ts) AS stamps
    FROM ohlc_bars AS b
    JOIN symbols AS s ON s.id = b.symbol_id
    GROUP BY 1, 2
"""


_ASIDE = """
    SELECT s.ticker, q.timeframe::text AS timeframe,
        array_agg((extract(epoch FROM ts) * 1000)::bigint) AS stamps
    FROM quarantined_bars AS q
    JOIN symbols AS s ON s.id = q.symbol_id
    GROUP BY 1, 2
"""
_checks: list[int] = []


def bars(url: str) -> list[tuple[Any, ...]]:
    """Return for each series how many bars it has, and a digest of them all."""
    return [tuple(row) for row in query(url, _BARS)]


def claims(url: str) -> list[tuple[Any, ...]]:
    """Return each series' coverage and what it knows to be empty."""
    return [tuple(row) for row in (*query(url, _CLAIMS), *query(url, _EMPTY))]


def coverage(url: str, ticker: str, timeframe: str) -> list[tuple[datetime, datetime]]:
    """Return the ranges that a series is covered for."""
    return [
        (span.lower, span.upper)
        for row in query(url, _CLAIMS)
        if (row["ticker"], row["timeframe"]) == (ticker, timeframe)
        for span in row["coverage"]
    ]


def covered_bars(url: str, market: Market, now: datetime = NOW) -> int:
    """Return how many bars the market has by now in what the table claims; each is stored.

    A bar in quarantine counts as stored. What is stored at all is the market's, too.
    """

    async def read() -> list[list[asyncpg.Record]]:
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute("SET LOCAL work_mem = '256MB'")  # its disk may be full
                return [await connection.fetch(one) for one in (_CLAIMS, _STAMPS, _ASIDE)]
        finally:
            await connection.close()

    claimed, *stamps = blocking(read())
    stored, aside = (
        {(row["ticker"], row["timeframe"]): np.array(row["stamps"]) for row in rows}
        for rows in stamps
    )
    now_ms = round(now.timestamp() * 1000)
    found = 0
    for ticker, timeframe, ranges in claimed:
        have = stored.get((ticker, timeframe), np.empty(0, np.int64))
        for start_ms, end_ms in _ms(ranges):
            true = market.bars(ticker, Timeframe(timeframe), start_ms, end_ms, now_ms=now_ms)
            missing = np.setdiff1d(true.ts_ms, have)
            missing = np.setdiff1d(missing, aside.get((ticker, timeframe), []))
            assert not len(missing), f"{ticker} {timeframe} claims {len(missing)} it lacks"
            found += len(true)
        if len(have):
            span = int(have[0]), int(have[-1]) + 1
            true = market.bars(ticker, Timeframe(timeframe), *span, now_ms=now_ms)
            assert not len(np.setdiff1d(have, true.ts_ms)), f"{ticker} {timeframe} has too many"
    _checks.append(found)
    return found


def last_check() -> int:
    """Return the most bars that `covered_bars` has found since this was asked before; 0 for none.

    A test may leave no table behind, but it has looked.
    """
    most = max(_checks, default=0)
    _checks.clear()
    return most


def _ms(ranges: Any) -> Iterator[tuple[int, int]]:
    for one in ranges:
        yield round(one.lower.timestamp() * 1000), round(one.upper.timestamp() * 1000)


def ledger(url: str) -> list[tuple[Any, ...]]:
    """Return (run, status, error) of every run, the first one first."""
    return [
        (str(row["run_id"]), row["status"], row["error"])
        for row in query(url, "SELECT * FROM backfill_runs ORDER BY started_at")
    ]


def leases(url: str) -> int:
    """Return how many series are leased."""
    return _one(url, "SELECT count(*) FROM backfill_progress WHERE claimed_until > now()")


def leases_of_ended(url: str) -> int:
    """Return how many series are leased by runs that have ended in order."""
    return _one(
        url,
        """
        SELECT count(*)
        FROM backfill_progress AS p
        JOIN backfill_runs AS r ON r.run_id = p.claimed_by
        WHERE p.claimed_until > now() AND r.status NOT IN ('running', 'interrupted')
        """,
    )


def size(url: str) -> int:
    """Return how many bars there are."""
    return _one(url, "SELECT count(*) FROM ohlc_bars")


def _one(url: str, sql: str) -> int:
    ((value,),) = query(url, sql)
    return int(value)


def expire_leases(url: str, after: str = "0 s") -> None:
    """Let leases and runs end, as if the rest of their 30 s had passed but for a while."""
    at = f"now() + interval '{after}'"
    execute(
        url,
        f"UPDATE backfill_progress SET claimed_until = {at}",
        f"UPDATE backfill_runs SET alive_until = {at} WHERE status = 'running'",
    )


def empty_tables(url: str) -> None:
    """Forget everything but the calendars."""
    execute(
        url,
        "TRUNCATE ohlc_bars, backfill_runs, known_empty, quarantined_bars, provider_quota",
        "TRUNCATE splits, dividends, action_syncs",
        "TRUNCATE symbols CASCADE",
    )


def execute(url: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""

    async def work() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    blocking(work())


def quarantined(url: str) -> list[tuple[str, str]]:
    """Return (ticker, reason) of every bar that was set aside."""
    rows = query(
        url,
        "SELECT s.ticker, q.reason FROM quarantined_bars AS q "
        "JOIN symbols AS s ON s.id = q.symbol_id ORDER BY 1, 2",
    )
    return [(row[0], row[1]) for row in rows]
