"""The table of bars as people have it: in partitions, or with triggers that drop rows (R9, R30)."""

from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest

from backfill.core.bars import Bars
from backfill.core.coverage import Spans
from backfill.errors import RowsDropped
from backfill.store.counts import Counts
from backfill.store.pool import Connection, Database
from backfill.store.progress import invalidate
from tests.integration.store_kit import (
    START,
    bars_of,
    chunk,
    claimed,
    known,
    minutes,
    rows,
    span_of,
    value,
    write,
)

PARTITIONED: Final = {
    "range": """
        PARTITION BY RANGE (ts);
        CREATE TABLE bars_2023 PARTITION OF ohlc_bars
            FOR VALUES FROM (MINVALUE) TO ('2023-11-14 23:00Z');
        CREATE TABLE bars_2024 PARTITION OF ohlc_bars
            FOR VALUES FROM ('2023-11-14 23:00Z') TO (MAXVALUE);
    """,
    "list": """
        PARTITION BY LIST (timeframe);
        CREATE TABLE bars_m1 PARTITION OF ohlc_bars FOR VALUES IN ('m1');
        CREATE TABLE bars_other PARTITION OF ohlc_bars DEFAULT;
    """,
}
_MINE: Final = """
    CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
"""


async def partition(database: Database, by: str) -> None:
    """Make the empty table of bars one in partitions."""

    async def work(connection: Connection) -> None:
        await connection.execute(
            f"""
            ALTER TABLE ohlc_bars RENAME TO plain_bars;
            CREATE TABLE ohlc_bars (LIKE plain_bars INCLUDING ALL) {PARTITIONED[by]}
            DROP TABLE plain_bars CASCADE;
            """
        )

    await database.run(work)


async def test_counts_of_trades_in_decimals_are_read_as_those_in_whole_numbers(
    database: Database,
) -> None:
    async def alter(connection: Connection) -> None:
        await connection.execute(
            """
            ALTER TABLE ohlc_bars RENAME TO plain_bars;
            CREATE TABLE ohlc_bars (LIKE plain_bars INCLUDING ALL);
            DROP TABLE plain_bars CASCADE;
            ALTER TABLE ohlc_bars ALTER vwap TYPE numeric, ALTER trade_count TYPE numeric;
            """
        )

    await database.run(alter)
    run_id, (series,) = await claimed(database)
    bars = minutes(600)
    assert await write(database, run_id, chunk(series, bars)) == [Counts(inserted=600)]
    assert await write(database, run_id, chunk(series, bars)) == [Counts(unchanged=600)]


@pytest.mark.parametrize("by", ["nothing", "range", "list"])
async def test_bars_in_partitions_are_loaded_merged_withdrawn_and_counted_as_in_a_plain_table(
    database: Database, by: str
) -> None:
    if by in PARTITIONED:
        await partition(database, by)
    run_id, (series,) = await claimed(database)
    bars = minutes(700)
    first, more = bars.take(slice(0, 600)), bars.take(slice(590, 700))
    assert await write(database, run_id, chunk(series, first)) == [Counts(inserted=600)]
    assert await write(database, run_id, chunk(series, more)) == [
        Counts(inserted=100, unchanged=10)
    ]
    corrected = replace(bars, volume=bars.volume + (np.arange(700) % 7 == 0))
    assert await write(database, run_id, chunk(series, corrected)) == [
        Counts(updated=100, unchanged=600)
    ]
    assert (await bars_of(database, series)).equals(corrected)

    async def reload(connection: Connection) -> None:
        await invalidate(connection, series, span_of(bars))

    await database.run(reload)
    left = corrected.take(np.arange(700) % 100 > 0)
    assert await write(database, run_id, chunk(series, left, claims=span_of(bars))) == [
        Counts(unchanged=693, withdrawn=7)
    ]
    assert (await bars_of(database, series)).equals(left)


@pytest.mark.parametrize("count", [10, 600])
async def test_bars_that_a_trigger_drops_are_told_and_nothing_is_claimed(
    database: Database, count: int
) -> None:
    run_id, (series,) = await claimed(database)
    await _drop_when(database, "BEFORE INSERT", "WHEN (new.ts > '2023-11-14 22:15Z')")
    bars = minutes(count)
    with pytest.raises(RowsDropped, match=r"dropped \d+ of \d+ bars by its trigger.s. audit: noth"):
        await write(database, run_id, chunk(series, bars))
    assert (await known(database, series)).coverage == Spans()
    assert await value(database, "SELECT count(*) FROM ohlc_bars") == 0


async def test_bars_that_a_trigger_keeps_as_they_were_are_told(database: Database) -> None:
    run_id, (series,) = await claimed(database)
    bars = minutes(10)
    await write(database, run_id, chunk(series, bars))
    await _drop_when(database, "BEFORE UPDATE OR DELETE", "")
    with pytest.raises(RowsDropped, match="dropped 10 of 10"):
        await write(database, run_id, chunk(series, replace(bars, volume=bars.volume + 1)))
    await database.run(lambda connection: invalidate(connection, series, span_of(bars)))
    with pytest.raises(RowsDropped, match="dropped 10 of 10"):
        await write(database, run_id, chunk(series, Bars.empty(), claims=span_of(bars)))
    assert (await known(database, series)).invalidated == span_of(bars)
    assert len(await rows(database, "SELECT FROM quarantined_bars")) == 0
    assert int((await bars_of(database, series)).ts_ms[0]) == START


async def _drop_when(database: Database, on: str, when: str) -> None:
    async def work(connection: Any) -> None:
        await connection.execute(
            f"""
            {_MINE}
            CREATE TRIGGER audit {on} ON ohlc_bars FOR EACH ROW {when} EXECUTE FUNCTION drops();
            """
        )

    await database.run(work)
