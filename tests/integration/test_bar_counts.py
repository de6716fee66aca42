"""`status` tells the bars that are stored, whoever wrote them, and mostly needs to count none."""

import random
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import pytest

from backfill.core.checks import Reason
from backfill.core.coverage import Span
from backfill.core.series import Series
from backfill.core.timeframe import MINUTE_MS, Timeframe
from backfill.store import holdings as store
from backfill.store.pool import Connection, Database
from backfill.store.progress import lock_progress, release
from backfill.store.source import expel
from tests.integration.store_kit import (
    SOURCE,
    START,
    bar,
    chunk,
    claim,
    claimed,
    connection_to,
    minutes,
    new_series,
    rows,
    value,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BY_HAND = {
    "insert": "INSERT INTO ohlc_bars SELECT symbol_id, timeframe, ts - interval '10 years', open, "
    "high, low, close, volume FROM ohlc_bars WHERE extract(minute FROM ts) = 7 "
    "ON CONFLICT DO NOTHING",
    "delete": "DELETE FROM ohlc_bars WHERE extract(minute FROM ts) = 3",
    "move": "UPDATE ohlc_bars SET ts = ts - interval '20 years' WHERE extract(minute FROM ts) = 5",
    "truncate": "TRUNCATE ohlc_bars",
}


async def told(database: Database, series: list[Series]) -> dict[tuple[object, Timeframe], int]:
    held = await database.run(lambda connection: store.holdings(connection, series))
    return {key: one.bars for key, one in held.items()}


async def stored(database: Database) -> dict[tuple[object, Timeframe], int]:
    found = await rows(
        database, "SELECT symbol_id, timeframe::text, count(*) FROM ohlc_bars GROUP BY 1, 2"
    )
    return {(row[0], Timeframe(row[1])): row[2] for row in found}


async def is_kept(database: Database) -> bool:
    """Whether what is kept of every series is all, so that nothing has to be counted."""
    return bool(
        await value(
            database,
            "SELECT NOT EXISTS (SELECT FROM uncounted_writes) "
            "AND NOT EXISTS (SELECT FROM backfill_progress WHERE bars IS NULL)",
        )
    )


async def test_counts_stay_true_and_kept_through_all_that_pages_do(database: Database) -> None:
    run_id, [m1, m5] = await claimed(database, "AAPL", Timeframe.m1, Timeframe.m5)
    every = minutes(1200)
    other = replace(SOURCE, feed="iex")

    async def expelled(connection: Connection) -> None:
        await lock_progress(connection, [m1], run_id)
        span = Span(START, START + 100 * MINUTE_MS)
        await expel(connection, run_id, m1, span, most=30, reason=Reason.before_listing)

    steps: list[Callable[[], Awaitable[object]]] = [
        lambda: write(database, run_id, chunk(m1, every.take(slice(600, 1200)))),  # copied
        lambda: write(database, run_id, chunk(m1, every.take(slice(590, 610)))),  # merged
        lambda: write(database, run_id, chunk(m1, every.take(slice(0, 700)))),  # both
        lambda: write(database, run_id, chunk(m1, every, is_all=True)),  # unchanged
        lambda: write(
            database,
            run_id,
            chunk(m1, every.take(every.ts_ms % (3 * MINUTE_MS) != 0), is_all=True,
                  claims=chunk(m1, every).claims),
        ),  # some are withdrawn
        lambda: write(database, run_id, chunk(m5, bar(START - START % (5 * MINUTE_MS)))),
        lambda: database.run(expelled),
        lambda: write(
            database,
            run_id,
            replace(chunk(m1, every.take(slice(0, 50))), source=other, replaces=SOURCE),
        ),  # the bars of another source leave
    ]  # fmt: skip
    for number, step in enumerate(steps):
        await step()
        expected = await stored(database)
        assert expected, number
        assert await is_kept(database), number
        assert await told(database, [m1, m5]) == expected, number


@pytest.mark.parametrize("deed", BY_HAND)
@pytest.mark.attack(12)
async def test_a_write_by_hand_is_counted_once_and_then_kept(database: Database, deed: str) -> None:
    run_id, [m1] = await claimed(database)
    await write(database, run_id, chunk(m1, minutes(200)))
    await database.run(lambda connection: release(connection, run_id))

    await rows(database, BY_HAND[deed])

    assert not await is_kept(database)
    assert await told(database, [m1]) == await stored(database)
    assert await is_kept(database)
    assert await told(database, [m1]) == await stored(database)


@pytest.mark.attack(12)
async def test_whatever_writers_do_at_once_what_is_told_is_what_is_stored(
    database: Database, database_url: str
) -> None:
    chance = random.Random(16)
    run_id, [m1] = await claimed(database)
    other = (await new_series(database, "MSFT"))[0]
    both = [m1, other]
    async with connection_to(database_url) as hand:
        for _ in range(25):
            trial = hand.transaction()
            await trial.start()
            await hand.execute(BY_HAND[chance.choice(("insert", "delete"))])
            steps: list[Callable[[], Awaitable[object]]] = [
                lambda: told(database, both),
                lambda: write(
                    database,
                    run_id,
                    chunk(m1, minutes(30, START + chance.randrange(90) * 100 * MINUTE_MS)),
                ),
                lambda: told(database, both),
            ]
            chance.shuffle(steps)
            for step in steps[: chance.randrange(4)]:
                await step()
            await (trial.commit() if chance.random() < 0.7 else trial.rollback())
            assert await told(database, both) == await stored(database)
    await claim(database, [other], uuid4())
    assert await told(database, both) == await stored(database)


async def test_bars_that_were_there_before_the_series_are_counted_when_it_is_claimed(
    database: Database,
) -> None:
    [series] = await new_series(database, "AAPL")
    insert = (
        "INSERT INTO ohlc_bars SELECT $1, 'm1', to_timestamp(n * 60), 1, 1, 1, 1, 1 "
        "FROM generate_series(1, 30) AS n"
    )
    await rows(database, insert, series.symbol.id)
    assert await told(database, [series]) == {series.key: 30}
    run_id = uuid4()
    assert await claim(database, [series], run_id) is None
    await write(database, run_id, chunk(series, minutes(5)))
    assert await told(database, [series]) == {series.key: 35}
    assert await is_kept(database)


async def test_of_very_many_writers_none_is_noted_any_more_and_bars_are_always_counted(
    database: Database, database_url: str
) -> None:
    run_id, [m1] = await claimed(database)
    await write(database, run_id, chunk(m1, minutes(200)))
    await rows(
        database,
        "INSERT INTO uncounted_writes (transaction_id) SELECT n FROM generate_series(1, 1000) AS n",
    )
    for _ in range(3):
        await rows(database, BY_HAND["insert"])
        assert await value(database, "SELECT count(*) FROM uncounted_writes") == 1001
        assert await told(database, [m1]) == await stored(database)


async def test_what_a_trigger_writes_behind_a_page_is_noted_as_well(database: Database) -> None:
    run_id, [m1] = await claimed(database)
    await rows(
        database,
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "DELETE FROM ohlc_bars WHERE extract(minute FROM ts) = 3; RETURN NULL; END $$",
    )
    await rows(
        database,
        "CREATE TRIGGER forget AFTER INSERT ON ohlc_bars "
        "FOR EACH STATEMENT EXECUTE FUNCTION forget()",
    )
    await write(database, run_id, chunk(m1, minutes(200)))
    assert await told(database, [m1]) == await stored(database)


async def test_whoever_may_only_write_bars_may_still_do_so(
    database: Database, database_url: str
) -> None:
    run_id, [m1] = await claimed(database)
    await write(database, run_id, chunk(m1, minutes(200)))
    await rows(database, "CREATE ROLE writer_of_bars")
    try:
        await rows(database, "GRANT SELECT, DELETE ON ohlc_bars TO writer_of_bars")
        await rows(
            database,
            "CREATE POLICY writer ON ohlc_bars TO writer_of_bars USING (true) WITH CHECK (true)",
        )
        async with connection_to(database_url) as connection:
            await connection.execute("SET ROLE writer_of_bars")
            await connection.execute(BY_HAND["delete"])
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("SELECT FROM uncounted_writes")
        assert await told(database, [m1]) == await stored(database) != {m1.key: 200}
    finally:
        await rows(database, "DROP OWNED BY writer_of_bars")
        await rows(database, "DROP ROLE writer_of_bars")


async def test_where_a_trigger_is_off_or_a_table_has_parts_bars_are_counted(
    database: Database,
) -> None:
    run_id, [m1] = await claimed(database)
    await write(database, run_id, chunk(m1, minutes(200)))
    for off, on in (
        ("ALTER TABLE ohlc_bars DISABLE TRIGGER backfill_uncounted", None),
        (
            "ALTER TABLE ohlc_bars ENABLE ALWAYS TRIGGER backfill_uncounted",
            "CREATE TABLE part () INHERITS (ohlc_bars)",
        ),
    ):
        await rows(database, off)
        if on:
            await rows(database, on)
        await rows(database, "UPDATE backfill_progress SET bars = 7")
        assert await told(database, [m1]) == {m1.key: 200}
