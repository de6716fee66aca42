"""A page's worth of bars: straight into the table where it holds none of them, merged elsewhere."""

from collections.abc import AsyncIterator

import asyncpg
import numpy as np
import pytest

from backfill.core.bars import Bars
from backfill.core.timeframe import MINUTE_MS
from backfill.store.counts import Counts
from backfill.store.migrate import apply_pending
from backfill.store.pool import Connection, Database
from tests.integration.store_kit import (
    START,
    bars_of,
    chunk,
    claimed,
    minutes,
    rows,
    value,
    write,
)

MANY = 1200


@pytest.fixture(
    params=[
        "integer GENERATED ALWAYS AS IDENTITY",
        "bigint GENERATED ALWAYS AS IDENTITY",
        "uuid DEFAULT gen_random_uuid()",
    ],
    ids=lambda declared: declared.split()[0],
)
async def any_database(request: pytest.FixtureRequest, empty_url: str) -> AsyncIterator[Database]:
    """A database whose symbols had their own type of id before the first migration."""
    connection = await asyncpg.connect(empty_url)
    await connection.execute(
        f"CREATE TABLE symbols (id {request.param} PRIMARY KEY, "
        "ticker text NOT NULL UNIQUE, asset_type text NOT NULL)"
    )
    await connection.close()

    async def adopt(connection: Connection) -> None:
        await connection.execute("SET LOCAL backfill.adopting = 'on'")
        await apply_pending(connection)

    async with Database.connect(empty_url) as database:
        await database.run(adopt)
        yield database


async def test_a_page_is_copied_bit_for_bit_whatever_the_type_of_the_ids(
    any_database: Database,
) -> None:
    run_id, (series,) = await claimed(any_database)
    bars = minutes(MANY)  # every third lacks vwap and count
    [counts] = await write(any_database, run_id, chunk(series, bars))
    assert counts == Counts(inserted=MANY)
    assert (await bars_of(any_database, series)).equals(bars)
    [again] = await write(any_database, run_id, chunk(series, bars))
    assert again == Counts(unchanged=MANY)


async def test_a_row_that_is_there_after_all_costs_the_page_nothing(database: Database) -> None:
    run_id, (series,) = await claimed(database)
    bars = minutes(MANY)
    await rows(
        database,
        "INSERT INTO ohlc_bars VALUES ($1, 'm1', to_timestamp($2), 1, 1, 1, 1, 1)",
        series.symbol.id,
        (START + 7 * MINUTE_MS) / 1000,
    )
    [counts] = await write(database, run_id, chunk(series, bars))
    assert counts == Counts(inserted=MANY - 1, updated=1)
    assert (await bars_of(database, series)).equals(bars)


async def test_a_page_on_both_sides_of_what_is_stored_touches_only_what_differs(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database)
    bars = minutes(3 * MANY)
    inner = bars.take(slice(MANY, 2 * MANY))
    await write(database, run_id, chunk(series, inner))
    writer = await value(database, "SELECT xmin::text FROM ohlc_bars LIMIT 1")
    changed = np.arange(len(bars)) == MANY + 5
    page = Bars(
        bars.ts_ms, bars.open, bars.high, bars.low, bars.close,
        np.where(changed, 5.0, bars.volume), bars.vwap, bars.trade_count,
    )  # fmt: skip
    [counts] = await write(database, run_id, chunk(series, page))
    assert counts == Counts(inserted=2 * MANY, updated=1, unchanged=MANY - 1)
    assert (await bars_of(database, series)).equals(page)
    untouched = "SELECT count(*) FROM ohlc_bars WHERE xmin::text = $1"
    assert await value(database, untouched, writer) == MANY - 1
    change = (await rows(database, "SELECT * FROM backfill_changes"))[0]
    assert (change["inserted"], change["updated"]) == (3 * MANY, 1)
