"""Through PgBouncer in transaction mode: connections are shared, and nobody notices (R21)."""

import asyncio
import os
from typing import Any

import pytest

from backfill.store.pool import CONNECTIONS, Database
from backfill.store.server import server
from tests.hosts import PGBOUNCER, POOL_SIZE, lacking


@pytest.fixture(autouse=True)
def pooler() -> None:
    """Skip what needs a pooler where none is named."""
    if PGBOUNCER not in os.environ:
        lacking(f"{PGBOUNCER} names no pgbouncer: nothing goes through a pooler")


async def _backend(connection: Any) -> int:
    return int(await connection.fetchval("SELECT pg_backend_pid()"))


async def test_two_runs_that_take_turns_are_given_the_same_connection(database_url: str) -> None:
    async with Database.connect(database_url) as one, Database.connect(database_url) as other:
        backends = [await database.run(_backend) for database in (one, other) * 3]
    assert len(set(backends)) == 1


async def test_more_work_than_there_are_connections_waits_for_its_turn(database_url: str) -> None:
    async def hold(connection: Any) -> int:
        await connection.execute("SELECT pg_sleep(0.2)")
        return await _backend(connection)

    async with Database.connect(database_url) as one, Database.connect(database_url) as other:
        backends = await asyncio.gather(
            *(database.run(hold) for database in (one, other) for _ in range(CONNECTIONS))
        )
    assert len(set(backends)) == POOL_SIZE


async def test_statements_that_stand_alone_never_meet_each_other(database_url: str) -> None:
    async with Database.connect(database_url) as one, Database.connect(database_url) as other:
        asked = [(database, nth) for nth in range(200) for database in (one, other)]
        rows = await asyncio.gather(
            *(database.fetch_row("SELECT $1::integer", nth) for database, nth in asked)
        )
    assert [row[0] for row in rows] == [nth for _, nth in asked]


async def test_a_pooler_is_noticed(database_url: str) -> None:
    async with Database.connect(database_url) as database:
        assert (await database.run(server)).is_pooled
