"""A table that holds much else: a run reads the bars that it is about, by the primary key."""

import asyncio
from collections.abc import Callable
from typing import Any

from backfill.simulator import Simulator
from tests.conftest import NOW, Cli
from tests.integration.store_kit import connection_to, until

_SYMBOLS = 4
# Minutes of other symbols, and a memory for sorts that is as small beside them as the usual one is
# beside millions: the planner weighs what it would there.
_FILL = f"""
    WITH other AS (
        INSERT INTO symbols (ticker, asset_type, calendar)
        SELECT 'X:L' || n || 'USD', 'crypto', '24/7' FROM generate_series(1, {_SYMBOLS}) AS n
        RETURNING id
    )
    INSERT INTO ohlc_bars (symbol_id, timeframe, ts, open, high, low, close, volume)
    SELECT id, 'm1', timestamptz '2020-01-01Z' + minute * interval '1 minute', 1, 1, 1, 1, 1
    FROM other, generate_series(1, 40000) AS minute;
    ANALYZE ohlc_bars;
    DO $$
    BEGIN
        EXECUTE format('ALTER DATABASE %I SET work_mem = ''64kB''', current_database());
    END
    $$;
"""
# How many rows were read, of the table from its begin on, and by its primary key.
_READ = """
    SELECT t.seq_tup_read, i.idx_tup_read
    FROM pg_stat_user_tables AS t
    JOIN pg_stat_user_indexes AS i USING (relid)
    WHERE t.relname = 'ohlc_bars'
"""
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
DAY = ("--symbols", "AAPL", "-t", "m1", "-t", "m5", "--as-of", NOW.isoformat(), "--json")


def test_a_run_reads_no_more_of_a_large_table_than_what_it_is_about(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], database_url: str
) -> None:
    backfill = cli(simulate())
    assert backfill("migrate").code == 0
    asyncio.run(_done(database_url, _FILL))

    def read(*command: str) -> tuple[int, int]:
        """Return how many rows of the table a command read, in either way."""
        before = asyncio.run(_read(database_url))
        assert backfill(*command).code == 0
        after = asyncio.run(_read(database_url))
        return after[0] - before[0], after[1] - before[1]

    week = ("--from", "2024-03-04", "--to", "2024-03-09")
    seq, found = read("run", *DAY, *week)
    assert seq == 0
    bars = 5 * 960 * 6 // 5
    assert found <= 3 * bars
    seq, found = read("run", *DAY, "--from", "2024-03-05", "--to", "2024-03-06", "--reload")
    assert seq == 0
    assert found <= 2 * bars // 5


async def _done(url: str, statements: str) -> None:
    async with connection_to(url) as connection:
        await connection.execute(statements)


async def _read(url: str) -> tuple[int, int]:
    """Return how many rows were read by sessions that are over; a session tells it at its end."""
    async with connection_to(url) as connection:

        async def is_alone() -> bool:
            return bool(await connection.fetchval(_OTHERS) == 1)

        await until(is_alone, "the sessions of the command to end")
        row: Any = await connection.fetchrow(_READ)
        return row[0], row[1]
