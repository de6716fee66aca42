"""Round trips: counted where a page is written, a series is leased, a run goes on (R31)."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill.core.coverage import Spans
from backfill.core.empty import EmptyReason
from backfill.core.paging import Chunk
from backfill.core.rollup import roll_up
from backfill.core.series import Series
from backfill.core.timeframe import HOUR_MS, MINUTE_MS, Timeframe
from backfill.errors import DatabaseError
from backfill.store import progress, quote
from backfill.store.pool import Connection, Database
from backfill.store.times import to_time
from backfill.store.trip import copied_in, copied_out, only_value
from tests.conftest import blocking
from tests.faults.proxy import Proxy
from tests.integration.store_kit import (
    CALENDAR,
    MONTH,
    SOURCE,
    START,
    bars_of,
    chunk,
    claim,
    claimed,
    connection_to,
    empty,
    known,
    minutes,
    rows,
    value,
    write,
)

MANY, FEW = 1200, 40
WHOLE_HOUR = START - START % HOUR_MS


@pytest.fixture
async def far(database_url: str, proxy: Proxy) -> AsyncIterator[Database]:
    """A database behind the proxy, its first connection open and warm."""
    async with Database.connect(proxy.url(database_url)) as database:
        yield database


@pytest.fixture
def trips(proxy: Proxy) -> Callable[[], AbstractContextManager[list[int]]]:
    """Count the round trips of a block; none of them may ask what a type is."""

    @contextmanager
    def counted() -> Any:
        counts: list[int] = []
        asked: list[bool] = []
        before = proxy.round_trips
        proxy.act_at(b"typeinfo_tree", lambda: asked.append(True))
        yield counts
        counts.append(proxy.round_trips - before)
        assert not asked

    return counted


# What a page costs.


async def test_a_page_of_new_bars_takes_three_round_trips_the_last_of_which_nobody_waits_for(
    far: Database, trips: Callable[[], AbstractContextManager[list[int]]]
) -> None:
    run_id, (series,) = await claimed(far)
    bars = minutes(MANY)
    with trips() as count:
        await write(far, run_id, chunk(series, bars, empty=(empty(MONTH, EmptyReason.no_trades),)))
    assert count[0] <= 3  # the server's leave to send the rows comes while they are on their way
    assert (await bars_of(far, series)).equals(bars)


@pytest.mark.parametrize("number", [0, FEW])
async def test_a_small_page_takes_three_at_most(
    far: Database, trips: Callable[[], AbstractContextManager[list[int]]], number: int
) -> None:
    run_id, (series,) = await claimed(far)
    with trips() as count:
        await write(far, run_id, chunk(series, minutes(number)))
    assert count[0] <= 3
    assert await value(far, "SELECT count(*) FROM ohlc_bars") == number


async def test_a_page_among_stored_bars_takes_four_at_most(
    far: Database, trips: Callable[[], AbstractContextManager[list[int]]]
) -> None:
    run_id, (series,) = await claimed(far)
    bars = minutes(3 * MANY)
    await write(far, run_id, chunk(series, bars.take(slice(MANY, 2 * MANY))))
    with trips() as count:
        await write(far, run_id, chunk(series, bars))
    assert count[0] <= 4
    assert (await bars_of(far, series)).equals(bars)


async def cut_in_the_second_hour(database: Database) -> tuple[UUID, Series, Chunk, Chunk]:
    """Write the newer of two pages that meet half past one; return the chunks of the older one."""
    run_id, (fine, coarse) = await claimed(database, "AAPL", Timeframe.m1, Timeframe.h1)
    bars = minutes(180, WHOLE_HOUR)
    older, newer = bars.parted(WHOLE_HOUR + 3 * HOUR_MS // 2)
    source = replace(SOURCE, derived_from=Timeframe.m1)

    def hours(upto: int, since: int = 0) -> Chunk:
        span = Spans.of((WHOLE_HOUR + since * HOUR_MS, WHOLE_HOUR + upto * HOUR_MS))
        rolled = roll_up(bars.take(span.holds(bars.ts_ms)), CALENDAR.grid(Timeframe.h1))
        return Chunk(coarse, source, rolled, span)

    await write(database, run_id, chunk(fine, newer), hours(3, since=2))
    seam = newer.take(newer.ts_ms < WHOLE_HOUR + 2 * HOUR_MS)
    return run_id, coarse, chunk(fine, older, seam=seam), hours(2)


async def test_a_page_that_meets_the_one_before_within_an_hour_takes_no_more_than_another(
    far: Database, trips: Callable[[], AbstractContextManager[list[int]]]
) -> None:
    run_id, coarse, fine_page, hours_page = await cut_in_the_second_hour(far)
    with trips() as count:
        await write(far, run_id, fine_page, hours_page)
    assert count[0] <= 3
    assert len(await bars_of(far, coarse)) == 3


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE ohlc_bars SET volume = 5000 WHERE ts = $1",
        "DELETE FROM ohlc_bars WHERE ts = $1",
        "DELETE FROM ohlc_bars WHERE ts BETWEEN $1 AND $1 + interval '29 minutes'",
    ],
)
async def test_an_hour_is_made_of_what_is_stored_of_the_page_before_if_that_has_changed(
    far: Database, meanwhile: str
) -> None:
    run_id, coarse, fine_page, hours_page = await cut_in_the_second_hour(far)
    await rows(far, meanwhile, to_time(int(fine_page.seam.ts_ms[0])))
    await write(far, run_id, fine_page, hours_page)
    held = roll_up(await bars_of(far, fine_page.series), CALENDAR.grid(Timeframe.h1))
    assert (await bars_of(far, coarse)).volume.tolist() == pytest.approx(held.volume.tolist())
    assert not np.isclose(held.volume[1], hours_page.bars.volume[1])


async def test_what_nobody_keeps_of_the_base_outdates_no_hour_that_was_rolled_up_with_it(
    far: Database,
) -> None:
    run_id, coarse, fine_page, hours_page = await cut_in_the_second_hour(far)
    seam = fine_page.seam
    first, end = (to_time(int(ms)) for ms in (seam.ts_ms[0], seam.ts_ms[-1] + MINUTE_MS))
    await rows(
        far, "DELETE FROM ohlc_bars WHERE timeframe = 'm1' AND ts >= $1 AND ts < $2", first, end
    )
    uncovered = """
        UPDATE backfill_progress
        SET coverage = coverage - tstzmultirange(tstzrange($1, $2))
        WHERE timeframe = 'm1'
    """
    await rows(far, uncovered, first, end)
    await write(far, run_id, fine_page, hours_page)
    assert (await bars_of(far, coarse)).volume[1] == hours_page.bars.volume[1]
    held = await known(far, coarse)
    assert held.coverage.holds(hours_page.bars.ts_ms).all()


async def test_a_series_is_leased_in_two_round_trips_and_released_in_one(
    far: Database, trips: Callable[[], AbstractContextManager[list[int]]]
) -> None:
    run_id, series = await claimed(far, "AAPL", Timeframe.m1, Timeframe.d1)
    with trips() as count:
        assert await claim(far, series, run_id) is None
    assert count == [2]
    with trips() as count:
        await far.run(lambda one: progress.release(one, run_id, series))
    assert count == [1]
    assert await value(far, "SELECT count(*) FROM backfill_progress WHERE claimed_by IS NULL") == 2


async def test_what_does_nothing_takes_no_round_trip(
    far: Database, trips: Callable[[], AbstractContextManager[list[int]]]
) -> None:
    async def nothing(connection: Connection) -> None:
        del connection

    with trips() as count:
        await far.run(nothing)
    assert count == [0]


# What is put off.


async def test_what_is_put_off_is_done_in_its_order_and_seen_by_what_comes_after(
    database: Database,
) -> None:
    async def numbers() -> AsyncIterator[bytes]:
        yield b"2\n3\n"

    async def work(connection: Connection) -> tuple[Any, str]:
        connection.later("CREATE TEMP TABLE t (x integer) ON COMMIT DROP")
        connection.later("INSERT INTO t VALUES ($1)", 1)
        await connection.copy_later("COPY t FROM STDIN", numbers())
        connection.later("UPDATE t SET x = x * 10")
        (seen,) = await connection.ask("SELECT x FROM t ORDER BY x")
        return seen, await connection.execute("DELETE FROM t WHERE x > $1", 10)

    seen, told = await database.run(work)
    assert [row["x"] for row in seen] == [10, 20, 30]
    assert told == "DELETE 2"


async def test_a_fault_in_what_was_put_off_takes_all_of_the_transaction_back(
    database: Database,
) -> None:
    await rows(database, "CREATE TABLE noted (note text)")

    async def work(connection: Connection) -> None:
        connection.later("INSERT INTO noted VALUES ($1)", "noted")
        connection.later("SELECT 1 / 0")

    with pytest.raises(DatabaseError, match="division by zero"):
        await database.run(work)
    assert await value(database, "SELECT count(*) FROM noted") == 0


# What stands behind asyncpg's doors.


async def test_asyncpg_sends_whole_strings_around_a_copy_and_reads_only_that(
    database_url: str,
) -> None:
    async def numbers() -> AsyncIterator[bytes]:
        for number in range(5000):
            yield f"{number}\n".encode()

    async with (
        asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool,
        pool.acquire() as session,
    ):
        told = await copied_in(
            session,
            "BEGIN; SELECT 'rows that nobody reads' FROM generate_series(1, 1000);"
            "CREATE TEMP TABLE t (x integer); COPY t FROM STDIN; UPDATE t SET x = 2 * x",
            numbers(),
        )
        assert told == "UPDATE 5000"
        copied = await copied_out(
            session,
            "SELECT * FROM t; DELETE FROM t WHERE x = 0;"
            "COPY (SELECT sum(x)::text FROM t) TO STDOUT (FORMAT binary); COMMIT",
        )
        assert only_value(copied) == b"24995000"
        large = "COPY (SELECT repeat('x', 5000000)) TO STDOUT (FORMAT binary)"
        assert only_value(await copied_out(session, large)) == b"x" * 5_000_000
        with pytest.raises(asyncpg.DivisionByZeroError):
            await copied_in(session, "SELECT 1 / 0; COPY t FROM STDIN", numbers())
        with pytest.raises(asyncpg.DivisionByZeroError):
            await copied_out(session, "SELECT 1 / 0; COPY (SELECT 1) TO STDOUT")
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            await copied_in(session, "COPY t FROM STDIN; SELECT 1", _no_numbers())
        assert await session.fetchval("SELECT count(*) FROM t") == 4999


async def _no_numbers() -> AsyncIterator[bytes]:
    yield b"x\n"


# Values in statements.

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
TIMES = st.datetimes(
    min_value=datetime(1, 1, 3),  # noqa: DTZ001  # hypothesis adds the zone
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5))]),
)


START_HERE = datetime.fromisoformat("2024-11-12T12:00")
"""A time without its zone."""


def _same(read: Any, given: Any) -> bool:
    return bool(read == given) or (read != read and given != given)  # noqa: PLR0124  # NaN


@given(
    texts=st.lists(st.none() | TEXTS),
    whole=st.integers(-(2**63) + 1, 2**63 - 1),
    doubles=st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
    double=st.floats(),
    times=st.lists(TIMES | st.none()),
    days=st.lists(st.dates() | st.none()),
    flags=st.lists(st.booleans()),
    ids=st.lists(st.uuids()),
)
def test_the_server_reads_every_value_as_it_was_meant(
    database_url: str,
    texts: list[str | None],
    whole: int,
    doubles: list[float | None],
    double: float,
    times: list[datetime | None],
    days: list[date | None],
    flags: list[bool],
    ids: list[UUID],
) -> None:
    async def read(strings: str) -> None:
        async with connection_to(database_url) as connection:
            await connection.execute(f"SET standard_conforming_strings = {strings}")
            statement = quote.bound(
                "SELECT $1::text[], $2::bigint, 1 - $2::numeric, $3::float8[], $4::float8[], "
                "$5::float8, $6::timestamptz[], $7::date[], $8::boolean[], $9::uuid[], $10::text",
                texts, whole, doubles, quote.numbers(doubles), double, times, days, flags, ids,
                "".join(filter(None, texts)),
            )  # fmt: skip
            row = list(await connection.fetchrow(statement))
            assert _same(row.pop(5), double)
            assert row == [
                texts, whole, 1 - whole, doubles, doubles, times, days, flags, ids,
                "".join(filter(None, texts)),
            ]  # fmt: skip

    for strings in ("on", "off"):
        blocking(read(strings))


@pytest.mark.parametrize("unfit", [object(), b"bytes", START_HERE, timedelta(1), [[]]])
def test_what_no_statement_can_hold_is_refused(unfit: object) -> None:
    with pytest.raises(TypeError):
        quote.bound("SELECT $1", unfit)


async def test_rows_come_with_the_types_of_json(database: Database) -> None:
    async def work(connection: Connection) -> list[list[dict[str, Any]]]:
        return await connection.ask(
            'SELECT $$a\n"b"\\$$ AS text, NULL AS nothing, 1.5 AS number, true AS flag',
            "SELECT 1 AS x WHERE false",
        )

    row = {"text": 'a\n"b"\\', "nothing": None, "number": 1.5, "flag": True}
    assert await database.run(work) == [[row], []]
