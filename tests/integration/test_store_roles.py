"""Who may read and write: the owner, members of backfill_runner, nobody else."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from backfill.core.checks import Reason
from backfill.core.empty import EmptyReason
from backfill.core.terms import Quota
from backfill.errors import SchemaMismatch
from backfill.store import migrate as migrating
from backfill.store.counts import Counts
from backfill.store.migrate import Migration, ensure_schema, migrate, migrations
from backfill.store.pool import Database
from backfill.store.progress import release
from backfill.store.quota import DatabaseSlots
from backfill.store.runs import RunEnd, finish_run, start_run
from tests.integration.store_kit import (
    NOW,
    START,
    as_user,
    bar,
    bars_of,
    chunk,
    claim,
    connection_to,
    empty,
    minutes,
    new_series,
    write,
)

Login = Callable[[str], AbstractAsyncContextManager[str]]

# One row for each table, in an order that foreign keys allow; then what changes and removes it.
ROWS = {
    "symbols": "(id, ticker, asset_type) VALUES (7, 'AAPL', 'stock')",
    "ohlc_bars": "VALUES (7, 'd1', '2024-11-11 05:00Z', 1, 1, 1, 1, 0)",
    "backfill_progress": "(symbol_id, timeframe) VALUES (7, 'd1')",
    "known_empty": "VALUES (7, 'd1', '2024-11-01', 'absent', '{}')",
    "watchlist": "(symbol_id) VALUES (7)",
    "quarantined_bars": (
        "(symbol_id, timeframe, ts, reason, raw, run_id) "
        "VALUES (7, 'd1', now(), 'price', '{}', gen_random_uuid())"
    ),
    "backfill_changes": (
        "VALUES (gen_random_uuid(), 7, 'd1', '[2024-11-11 05:00Z,2024-11-11 05:00Z]', 1, 0, 0)"
    ),
    "backfill_runs": "(run_id, mode, provider) VALUES (gen_random_uuid(), 'default', 'massive')",
    "splits": "VALUES ('AAPL', '2020-08-31', 1, 4)",
    "dividends": "VALUES ('AAPL', '2024-11-08', 'CD', 0.25, 'USD', '2024-11-14', now())",
    "action_syncs": "VALUES ('massive', 'splits', '2024-11-11')",
    "market_sessions": "VALUES ('XNYS', '2024-11-11', NULL, NULL, true)",
    "market_hours": "VALUES ('XNYS', 'sip', '2024-11-11', '2024-11-11', '04:00', '20:00')",
    "provider_quota": "VALUES ('massive', 'key')",
    "archive_files": "VALUES ('binance', 'a.zip', 'x', NULL, 9, now())",
    "backfill_notices": "(destination, name, timeframe) VALUES ('a digest', 'AAPL', 'd1')",
}
CHANGES = {
    "symbols": "figi = 'x'",
    "ohlc_bars": "volume = 1",
    "backfill_progress": "feed = 'x'",
    "known_empty": "expires_at = now()",
    "watchlist": "paused = true",
    "quarantined_bars": "reason = 'volume'",
    "backfill_changes": "updated = 1",
    "backfill_runs": "calls = 1",
    "splits": "status = 'applied'",
    "dividends": "pay_date = '2024-11-15'",
    "action_syncs": "next_from = '2024-11-11'",
    "market_sessions": "manual = true",
    "market_hours": "manual = true",
    "provider_quota": "recent = '{now}'",
    "archive_files": "bytes = 10",
    "backfill_notices": "trouble = 'stale'",
}


@pytest.fixture
def login(database_url: str) -> Login:
    """Let a new role log in: as a member of backfill_runner, or as a stranger with all grants."""

    @asynccontextmanager
    async def make(kind: str) -> AsyncIterator[str]:
        name = f"{kind}_{uuid4().hex[:8]}"
        async with connection_to(database_url) as owner:
            await owner.execute(f"CREATE ROLE {name} LOGIN")
            try:
                await owner.execute(
                    f"GRANT backfill_runner TO {name}"
                    if kind == "member"
                    else f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}"
                )
                yield as_user(database_url, name)
            finally:
                await owner.execute(f"DROP OWNED BY {name}")
                await owner.execute(f"DROP ROLE {name}")

    return make


_SHIPPED = "DELETE FROM market_hours"
"""Hours come with the schema, and would be in the way of counting."""


async def _fill(url: str) -> None:
    async with connection_to(url) as connection:
        await connection.execute(_SHIPPED)
        for table, row in ROWS.items():
            await connection.execute(f"INSERT INTO {table} {row}")


async def test_a_member_of_the_runner_role_reads_and_writes_every_table(
    database_url: str, login: Login
) -> None:
    async with login("member") as url, connection_to(url) as member:
        done: dict[str, list[Any]] = {}
        await member.execute(_SHIPPED)
        for table, row in ROWS.items():
            done[table] = [
                await member.execute(f"INSERT INTO {table} {row}"),
                await member.execute(f"UPDATE {table} SET {CHANGES[table]}"),
                await member.fetchval(f"SELECT count(*) FROM {table}"),
            ]
        assert done == {table: ["INSERT 0 1", "UPDATE 1", 1] for table in ROWS}
        for table in reversed(ROWS):
            assert await member.execute(f"DELETE FROM {table}") == "DELETE 1", table


async def test_a_stranger_with_every_grant_sees_nothing_and_changes_nothing(
    database_url: str, login: Login
) -> None:
    await _fill(database_url)
    async with login("stranger") as url, connection_to(url) as stranger:
        for table in [*ROWS, "backfill_migrations"]:
            assert await stranger.fetchval(f"SELECT count(*) FROM {table}") == 0, table
            assert await stranger.execute(f"DELETE FROM {table}") == "DELETE 0", table
        for table, change in CHANGES.items():
            assert await stranger.execute(f"UPDATE {table} SET {change}") == "UPDATE 0", table
    async with connection_to(database_url) as owner:
        for table in ROWS:
            assert await owner.fetchval(f"SELECT count(*) FROM {table}") == 1, table


async def test_a_stranger_with_every_grant_adds_nothing(database_url: str, login: Login) -> None:
    async with login("stranger") as url, connection_to(url) as stranger:
        for table, row in ROWS.items():
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await stranger.execute(f"INSERT INTO {table} {row}")


async def test_a_run_as_a_member_of_the_runner_role_does_all_that_a_run_does(
    database_url: str, login: Login
) -> None:
    bars = minutes(1200)
    async with login("member") as url, Database.connect(url) as database:
        await ensure_schema(database)
        run_id = uuid4()
        await start_run(database, run_id, "default", "massive")
        slots = DatabaseSlots(database, "massive", "key", Quota.parse("5/1s"))
        taken = await slots.take([1, 1])
        await slots.note([(taken.calls[0], 0.1)], taken.calls[1:], leaving=True)
        await slots.pause(0.1)
        (series,) = await new_series(database, "AAPL")
        assert await claim(database, [series], run_id) is None
        page = chunk(
            series,
            bars,
            rejected=bar(low=0.0),
            reasons=(Reason.price,),
            empty=[empty(NOW.date().replace(day=1), EmptyReason.absent, (START, START + 1))],
        )
        assert await write(database, run_id, page) == [Counts(inserted=len(bars), rejected=1)]
        await database.run(lambda connection: release(connection, run_id))
        end = RunEnd("ok", 1, 1, 0, 0, 0, Counts(inserted=len(bars)), [], None, 0)
        await database.run(lambda connection: finish_run(connection, run_id, end))
    async with Database.connect(database_url) as owner:
        assert (await bars_of(owner, series)).equals(bars)


async def test_a_member_of_the_runner_role_may_ask_whether_a_migration_is_due(
    database_url: str, login: Login
) -> None:
    async with login("member") as url, Database.connect(url) as database:
        assert await migrate(database) == []


async def test_a_member_of_the_runner_role_may_not_migrate_and_is_told_who_may(
    database_url: str, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Migration("29990101000000", "later", "CREATE TABLE later ();")
    shipped = [*migrations(), later]
    monkeypatch.setattr(migrating, "migrations", lambda: shipped)
    async with login("member") as url, Database.connect(url) as database:
        with pytest.raises(SchemaMismatch, match=r"1 migration.* login that owns the tables"):
            await migrate(database)
    async with connection_to(database_url) as owner:
        assert await owner.fetchval("SELECT to_regclass('later')") is None
