"""The provider's client, asyncpg's COPY into a staging table, and one merge for each batch."""

import asyncio
from typing import Final

import asyncpg

from bench.peers.job import Job, done
from bench.peers.massive_client import COLUMNS, batches, symbol_id

_STAGE: Final = "CREATE TEMPORARY TABLE staged (LIKE ohlc_bars)"
_MERGE: Final = """
    INSERT INTO ohlc_bars
    SELECT * FROM staged
    ON CONFLICT (symbol_id, timeframe, ts) DO UPDATE
    SET open = excluded.open, high = excluded.high, low = excluded.low,
        close = excluded.close, volume = excluded.volume, vwap = excluded.vwap,
        trade_count = excluded.trade_count
"""


async def _load(job: Job) -> None:
    connection = await asyncpg.connect(job.database)
    try:
        await connection.execute(_STAGE)
        for load in job.loads:
            for batch in batches(job, load, await symbol_id(connection, load)):
                async with connection.transaction():
                    await connection.execute("TRUNCATE staged")
                    await connection.copy_records_to_table("staged", records=batch, columns=COLUMNS)
                    await connection.execute(_MERGE)
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(_load(Job.given()))
    done()
