"""The provider's client, and an upsert for each bar by asyncpg's ``executemany``."""

import asyncio
from typing import Final

import asyncpg

from bench.peers.job import Job, done
from bench.peers.massive_client import batches, symbol_id

_UPSERT: Final = """
    INSERT INTO ohlc_bars (
        symbol_id, timeframe, ts, open, high, low, close, volume, vwap, trade_count
    )
    VALUES ($1, $2::text::timeframe, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (symbol_id, timeframe, ts) DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low,
        close = excluded.close, volume = excluded.volume, vwap = excluded.vwap,
        trade_count = excluded.trade_count
"""


async def _load(job: Job) -> None:
    connection = await asyncpg.connect(job.database)
    try:
        for load in job.loads:
            for batch in batches(job, load, await symbol_id(connection, load)):
                await connection.executemany(_UPSERT, batch)
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(_load(Job.given()))
    done()
