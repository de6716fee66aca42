"""The provider's own client: its bars as rows of the table, batch by batch."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Final

import asyncpg
from massive import RESTClient

from bench.peers.job import Job
from bench.workload import KEY, PAGE_LIMIT, Load

Row = tuple[int, str, datetime, float, float, float, float, float, float, int]

COLUMNS: Final = (
    "symbol_id",
    "timeframe",
    "ts",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "trade_count",
)


async def symbol_id(connection: asyncpg.Connection, load: Load) -> int:
    """Return the key of a load's symbol."""
    return int(await connection.fetchval("SELECT id FROM symbols WHERE ticker = $1", load.ticker))


def batches(job: Job, load: Load, symbol: int) -> Iterator[list[Row]]:
    """Yield the bars of a load, a page's worth at a time."""
    client = RESTClient(KEY, base=job.provider)
    bars = client.list_aggs(
        load.ticker,
        1,
        "minute",
        load.start_ms,
        load.end_ms - 1,
        adjusted=False,
        sort="desc",
        limit=PAGE_LIMIT,
    )
    while batch := [
        (
            symbol,
            "m1",
            datetime.fromtimestamp(bar.timestamp / 1000, UTC),
            bar.open,
            bar.high,
            bar.low,
            bar.close,
            bar.volume,
            bar.vwap,
            bar.transactions,
        )
        for bar in islice(bars, PAGE_LIMIT)
    ]:
        yield batch
