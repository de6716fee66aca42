"""Series, bars and chunks by hand, for the tests of the store."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote
from uuid import UUID, uuid4

import asyncpg
import numpy as np

from backfill.core.bars import Bars
from backfill.core.checks import Reason
from backfill.core.coverage import Spans
from backfill.core.empty import FOREVER_MS, EmptyReason, EmptySlots
from backfill.core.paging import Chunk
from backfill.core.series import Progress, Series, Source, Symbol
from backfill.core.timeframe import HOUR_MS, MINUTE_MS, Timeframe
from backfill.store import progress
from backfill.store.bars import write_chunks
from backfill.store.counts import Counts
from backfill.store.pool import Database
from backfill.store.universe import register
from tests.calendars import calendar
from tests.conftest import blocking

_T = TypeVar("_T")

START: Final = 1_700_000_040_000
"""A whole minute of November 2023, in epoch milliseconds."""
MONTH: Final = date(2023, 11, 1)
NOW: Final = datetime(2024, 11, 12, 12, tzinfo=UTC)
SOURCE: Final = Source("massive", "sip", "raw")
CALENDAR: Final = calendar("XNYS")
MIGRATION: Final = next(
    Path(__file__).resolve().parents[2].joinpath("migrations").glob("*_initial.sql")
)


def minutes(count: int, start_ms: int = START) -> Bars:
    """Return bars a minute apart, each with prices of its own; every third lacks vwap and count."""
    at = np.arange(count)
    price = 100 + np.sin(at) / 3
    return Bars(
        ts_ms=start_ms + at * MINUTE_MS,
        open=price,
        high=price + 0.1,
        low=price - 0.1,
        close=price + 0.05,
        volume=1000 + at / 7,
        vwap=np.where(at % 3 == 2, np.nan, price + 0.01),
        trade_count=np.where(at % 3 == 2, -1, at + 1),
    )


def bar(ts_ms: int = START, **values: Any) -> Bars:
    """Return one sound bar, but for the values given."""
    columns = {
        "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0, "vwap": 10.2,
        "trade_count": 7,
    } | values  # fmt: skip
    return Bars.of([(ts_ms, *columns.values())])


def span_of(bars: Bars) -> Spans:
    """Return the span of minute bars, from the first to the end of the last."""
    return Spans.of((int(bars.ts_ms[0]), int(bars.ts_ms[-1]) + MINUTE_MS))


def chunk(series: Series, bars: Bars | None = None, **fields: Any) -> Chunk:
    """Return a chunk of a series that claims what its bars span."""
    bars = Bars.empty() if bars is None else bars
    claims = span_of(bars) if len(bars) else Spans()
    return replace(Chunk(series, SOURCE, bars, claims), **fields)


def rejected(series: Series, bars: Bars, *reasons: Reason) -> Chunk:
    """Return a chunk of nothing but rejected bars."""
    return chunk(series, rejected=bars, reasons=reasons)


def empty(month: date, reason: EmptyReason, *spans: tuple[int, int]) -> EmptySlots:
    """Return slots that an answer left empty."""
    return EmptySlots(month, reason, Spans.of(*spans))


async def new_series(database: Database, ticker: str, *timeframes: Timeframe) -> list[Series]:
    """Register a symbol and return its series, m1 if none is named."""

    async def work(connection: Any) -> list[Symbol]:
        return await register(connection, [ticker])

    (symbol,) = await database.run(work)
    return [Series(symbol, timeframe) for timeframe in timeframes or (Timeframe.m1,)]


async def claim(database: Database, series: list[Series], run_id: UUID) -> progress.Lease | None:
    """Lease series for a run."""
    return await database.run(lambda connection: progress.claim(connection, series, run_id))


async def claimed(
    database: Database, ticker: str = "AAPL", *timeframes: Timeframe
) -> tuple[UUID, list[Series]]:
    """Return a new run and the series that it holds."""
    run_id = uuid4()
    series = await new_series(database, ticker, *timeframes)
    assert await claim(database, series, run_id) is None
    return run_id, series


async def write(
    database: Database, run_id: UUID, *chunks: Chunk, now: datetime = NOW
) -> list[Counts]:
    """Write chunks in one transaction; return the counts of each, and of what followed them."""
    written = await database.run(
        lambda connection: write_chunks(connection, run_id, list(chunks), CALENDAR, now, FOREVER_MS)
    )
    return [counts for _, counts in written]


async def known(database: Database, series: Series) -> Progress:
    """Return what the ledger knows of a series."""
    found = await database.run(lambda connection: progress.load_progress(connection, [series]))
    return found[series.key]


async def rows(database: Database, sql: str, *values: object) -> list[asyncpg.Record]:
    """Return the rows of a query."""

    async def work(connection: Any) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await connection.fetch(sql, *values)
        return found

    return await database.run(work)


async def value(database: Database, sql: str, *values: object) -> Any:
    """Return the first value of the first row of a query."""
    return (await rows(database, sql, *values))[0][0]


async def bars_of(database: Database, series: Series) -> Bars:
    """Return the stored bars of a series."""
    found = await rows(
        database,
        """
        SELECT (extract(epoch FROM ts) * 1000)::bigint, open, high, low, close, volume, vwap,
            trade_count
        FROM ohlc_bars
        WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
        ORDER BY ts
        """,
        series.symbol.id,
        str(series.timeframe),
    )
    return Bars.of([tuple(row) for row in found])


@asynccontextmanager
async def connection_to(url: str) -> AsyncIterator[Any]:
    """Connect without the store, as psql would."""
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        yield connection
    finally:
        await connection.close()


def database_name(url: str) -> str:
    """Return the name of the database of a URL."""
    return url.partition("?")[0].rpartition("/")[2]


def emptied(url: str) -> str:
    """Remove every row that a test left in a database, and return its URL."""

    async def empty_tables() -> None:
        async with connection_to(url) as connection:
            tables = await connection.fetchval(
                """
                SELECT string_agg(oid::regclass::text, ', ') FROM pg_class
                WHERE relnamespace::regnamespace::text IN ('public', 'bf_jobs')
                    AND relkind = 'r'
                    AND relname NOT IN ('backfill_migrations', 'market_hours')
                """
            )
            await connection.execute(f"TRUNCATE {tables} RESTART IDENTITY")
            await connection.execute("DELETE FROM market_hours WHERE manual")

    blocking(empty_tables())
    return url


def as_user(url: str, user: str, password: str = "") -> str:
    """Return a server's URL for another login."""
    return url.replace("//postgres:@", f"//{user}:{quote(password, safe='')}@")


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until a condition holds; fail after a minute."""
    try:
        async with asyncio.timeout(60):
            while not await condition():  # noqa: ASYNC110  # what it waits for is in Postgres
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


HOUR: Final = HOUR_MS
DAY: Final = timedelta(days=1)
