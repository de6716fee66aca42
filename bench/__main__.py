"""How fast bars come from HTTP into the table, next to the fastest way to fill that table.

``python -m bench [--rounds N] [--years N]``. In each round: the real run loads the minutes of one
crypto pair from the simulator, in a process of its own, into an empty database; then one connection
copies the very same rows, binary, from memory into an identical table. Both use the same Postgres.
"""

import argparse
import asyncio
import io
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import structlog

from backfill import api
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.settings import Settings
from backfill.store.embedded import embedded_postgres

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@contextmanager
def simulator() -> Iterator[str]:
    arguments = [
        "simulate",
        "--quota",
        "unlimited",
        "--plan",
        "unlimited",
        "--now",
        NOW.isoformat(),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "backfill", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        yield json.loads(process.stdout.readline())["url"]  # type: ignore[union-attr]  # a pipe
    finally:
        process.terminate()
        process.communicate()


async def loaded(database: str, provider: str, years: int) -> tuple[int, float]:
    """Run the first load and return how many bars it stored, and in how many seconds."""
    settings = Settings(
        DATABASE_URL=database,
        MASSIVE_API_KEY="sim-key",
        BACKFILL_PROVIDER_URL=provider,
        BACKFILL_PLAN="unlimited",
    )
    job = api.Job(
        symbols=("X:BTCUSD",),
        timeframes=(Timeframe.m1,),
        first=Bound((NOW - timedelta(days=365 * years)).date()),
        as_of=NOW,
    )
    summary = await api.run(settings, job)
    return summary.bars.inserted, summary.duration_s


async def copied(database: str) -> float:
    """Copy the rows from memory into an identical table and return the seconds it took."""
    connection = await asyncpg.connect(database)
    try:
        rows = io.BytesIO()
        await connection.copy_from_query("SELECT * FROM ohlc_bars", output=rows, format="binary")
        rows.seek(0)
        await connection.execute("CREATE TABLE bench_limit (LIKE ohlc_bars INCLUDING ALL)")
        began = time.perf_counter()
        await connection.copy_to_table("bench_limit", source=rows, format="binary")
        took_s = time.perf_counter() - began
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        return took_s
    finally:
        await connection.close()


def logging_off() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--years", type=int, default=2)
    given = parser.parse_args()
    logging_off()
    ours, limits = [], []
    with tempfile.TemporaryDirectory(prefix="backfill-bench-") as folder:
        Path(folder).chmod(0o755)
        with embedded_postgres(Path(folder)) as database, simulator() as provider:
            asyncio.run(loaded(database, provider, given.years))  # the simulator draws its market
            asyncio.run(copied(database))
            for number in range(given.rounds):
                bars, took_s = asyncio.run(loaded(database, provider, given.years))
                limit_s = asyncio.run(copied(database))
                ours.append(bars / took_s)
                limits.append(bars / limit_s)
                print(
                    f"round {number + 1}: {bars:,} bars · run {bars / took_s:,.0f}/s · "
                    f"COPY limit {bars / limit_s:,.0f}/s"
                )
    ratio = statistics.median(ours) / statistics.median(limits)
    print(f"median: the run reaches {ratio:.2f} of the one-connection COPY limit")


if __name__ == "__main__":
    main()
