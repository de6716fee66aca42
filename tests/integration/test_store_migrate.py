"""R27: one schema, one path to it."""

import asyncio
import dataclasses
from typing import Any

import asyncpg
import pytest

from backfill.errors import DatabaseError, SchemaMismatch
from backfill.store import migrate as migrating
from backfill.store.foreign import MADE
from backfill.store.migrate import Migration, apply_pending, ensure_schema, migrate, migrations
from backfill.store.pool import Database
from backfill.store.session import WORKING
from tests.integration.store_kit import MIGRATION, connection_to, database_name, until

TABLES = {
    "symbols",
    "ohlc_bars",
    "backfill_runs",
    "backfill_progress",
    "known_empty",
    "watchlist",
    "quarantined_bars",
    "uncounted_writes",
    "provider_symbols",
    "imported_files",
    "backfill_changes",
    "backfill_notices",
    "symbol_aliases",
    "splits",
    "dividends",
    "action_syncs",
    "market_sessions",
    "market_hours",
    "provider_quota",
    "archive_files",
    "pgqueuer",
    "pgqueuer_log",
    "pgqueuer_schedules",
    "pgqueuer_statistics",
    "leader",
    "schedule",
}
_TABLES_NOW = """
    SELECT relname FROM pg_class
    WHERE relnamespace::regnamespace::text IN ('public', 'bf_jobs') AND relkind = 'r'
"""


async def _tables(url: str) -> set[str]:
    async with connection_to(url) as connection:
        return {row["relname"] for row in await connection.fetch(_TABLES_NOW)}


async def _ledger(url: str) -> list[tuple[str, str]]:
    async with connection_to(url) as connection:
        rows = await connection.fetch("SELECT version, checksum FROM backfill_migrations")
        return [(row["version"], row["checksum"]) for row in rows]


async def _execute(url: str, *statements: str) -> None:
    async with connection_to(url) as connection:
        for statement in statements:
            await connection.execute(statement)


def _names() -> list[str]:
    return [f"{one.version}_{one.name}" for one in migrations()]


async def test_an_empty_database_gets_every_table_and_a_line_in_the_ledger(empty_url: str) -> None:
    async with Database.connect(empty_url) as database:
        assert await migrate(database) == _names()
    assert await _tables(empty_url) >= TABLES | {"backfill_migrations"}
    assert await _ledger(empty_url) == [(one.version, one.checksum) for one in migrations()]


async def test_a_second_migration_applies_nothing(empty_url: str) -> None:
    async with Database.connect(empty_url) as database:
        await migrate(database)
        assert await migrate(database) == []
    assert len(await _ledger(empty_url)) == len(migrations())


async def test_eight_at_the_same_time_apply_each_migration_once(empty_url: str) -> None:
    async def one() -> list[str]:
        async with Database.connect(empty_url) as database:
            return await migrate(database)

    applied = await asyncio.gather(*(one() for _ in range(8)))
    assert sorted(name for names in applied for name in names) == _names()
    assert await _tables(empty_url) >= TABLES


async def test_a_role_that_another_database_of_the_server_is_just_adding_is_used(
    server: str, template: str, empty_url: str
) -> None:
    name = database_name(empty_url)
    async with connection_to(server) as beside, connection_to(server) as watcher:
        await beside.execute("ALTER ROLE backfill_runner RENAME TO parked_runner")
        try:
            adding = beside.transaction()
            await adding.start()
            await beside.execute("CREATE ROLE backfill_runner NOLOGIN")
            async with Database.connect(empty_url) as database:
                task = asyncio.create_task(migrate(database))

                async def waits() -> bool:
                    return bool(
                        await watcher.fetchval(
                            "SELECT EXISTS (SELECT FROM pg_stat_activity "
                            "WHERE datname = $1 AND wait_event_type = 'Lock')",
                            name,
                        )
                    )

                await until(waits, "the migration waits for the role")
                await adding.commit()
                assert await task == _names()
        finally:
            await beside.execute(f"DROP DATABASE {name} WITH (FORCE)")
            await beside.execute("DROP ROLE IF EXISTS backfill_runner")
            await beside.execute("ALTER ROLE parked_runner RENAME TO backfill_runner")


async def test_files_that_psql_applied_twice_are_taken_over_by_migrate(empty_url: str) -> None:
    for one in migrations():
        await _execute(empty_url, one.sql, one.sql)
    before = await _tables(empty_url)
    async with Database.connect(empty_url) as database:
        await ensure_schema(database)
    assert await _tables(empty_url) == before | {"backfill_migrations"}
    assert len(await _ledger(empty_url)) == len(migrations())


async def test_a_migration_that_fails_leaves_nothing_of_itself(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration("29990101000000", "broken", "CREATE TABLE half_done (); SELECT 1 / 0;")
    shipped = [*migrations(), broken]
    monkeypatch.setattr(migrating, "migrations", lambda: shipped)
    async with Database.connect(empty_url) as database:
        with pytest.raises(Exception, match="division by zero"):
            await migrate(database)
    assert await _tables(empty_url) == set()


async def test_a_first_migration_that_ends_half_way_leaves_the_next_an_empty_database(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *rest = migrations()
    lost = Migration("20261124000002", "lost", "SELECT pg_terminate_backend(pg_backend_pid());")
    async with Database.connect(empty_url, dataclasses.replace(WORKING, tries=1)) as database:
        with monkeypatch.context() as patched:
            patched.setattr(migrating, "migrations", lambda: [first, lost, *rest])
            with pytest.raises(DatabaseError):
                await ensure_schema(database)
        assert await _tables(empty_url) == set()
        await ensure_schema(database)
    assert len(await _ledger(empty_url)) == len(migrations())


async def test_eight_that_look_at_an_empty_database_wait_for_the_one_that_migrates(
    empty_url: str,
) -> None:
    async def one() -> None:
        async with Database.connect(empty_url) as database:
            await ensure_schema(database)

    await asyncio.gather(*(one() for _ in range(8)))
    assert await _ledger(empty_url) == [(one.version, one.checksum) for one in migrations()]


async def _waits_for_a_lock(connection: Any, url: str) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity "
            "WHERE datname = $1 AND wait_event = 'advisory')",
            database_name(url),
        )
    )


async def test_who_meets_an_upgrade_at_work_waits_for_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Migration("29990101000000", "later", "CREATE TABLE later ();")
    shipped = [*migrations(), later]
    monkeypatch.setattr(migrating, "migrations", lambda: shipped)
    async with (
        connection_to(database_url) as beside,
        connection_to(database_url) as watcher,
        Database.connect(database_url) as database,
    ):
        async with beside.transaction():
            await apply_pending(beside)
            task = asyncio.create_task(ensure_schema(database))
            await until(lambda: _waits_for_a_lock(watcher, database_url), "it waits")
        await task


@pytest.mark.parametrize("act", [migrate, ensure_schema])
async def test_a_migration_that_does_not_end_is_told_in_a_line(
    database_url: str, monkeypatch: pytest.MonkeyPatch, act: Any
) -> None:
    shipped = [*migrations(), Migration("29990101000000", "later", "CREATE TABLE later ();")]
    monkeypatch.setattr(migrating, "migrations", lambda: shipped)
    monkeypatch.setattr(migrating, "_LOCKED", migrating._LOCKED.replace("50s", "20ms"))
    async with connection_to(database_url) as beside, beside.transaction():
        await beside.execute(migrating._LOCKED)
        async with Database.connect(database_url) as database:
            with pytest.raises(SchemaMismatch, match="another process has been migrating"):
                await act(database)


async def test_a_later_migration_is_applied_to_a_database_that_has_the_first(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Migration("29990101000000", "later", "CREATE TABLE later ();")
    shipped = [*migrations(), later]
    monkeypatch.setattr(migrating, "migrations", lambda: shipped)
    async with Database.connect(database_url) as database:
        with pytest.raises(SchemaMismatch, match="backfill migrate"):
            await ensure_schema(database)
        assert "later" not in await _tables(database_url)
        assert await migrate(database) == ["29990101000000_later"]
        await ensure_schema(database)
    assert "later" in await _tables(database_url)


@pytest.mark.parametrize("pushed", [True, False], ids=["all-of-it", "a-part"])
async def test_what_the_supabase_cli_has_applied_is_noted_if_it_is_all_that_is_missing(
    database_url: str, monkeypatch: pytest.MonkeyPatch, *, pushed: bool
) -> None:
    later = Migration("29990101000000", "later", "CREATE TABLE IF NOT EXISTS later ();")
    other = dataclasses.replace(later, version="29990101000001", name="other")
    shipped = [*migrations(), later, other]
    monkeypatch.setattr(migrating, "migrations", lambda: shipped)
    await _execute(
        database_url,
        "CREATE SCHEMA supabase_migrations",
        "CREATE TABLE supabase_migrations.schema_migrations "
        "(version text NOT NULL PRIMARY KEY, statements text[], name text)",
        *(
            f"INSERT INTO supabase_migrations.schema_migrations VALUES ('{one.version}')"
            for one in (shipped if pushed else shipped[:-1])
        ),
        later.sql,
    )
    async with Database.connect(database_url) as database:
        if pushed:
            await ensure_schema(database)
            assert await migrate(database) == []
        else:
            with pytest.raises(SchemaMismatch, match=r"2 migration.*backfill migrate"):
                await ensure_schema(database)
    known = [one for one in shipped if pushed or one not in (later, other)]
    assert await _ledger(database_url) == [(one.version, one.checksum) for one in known]


@pytest.mark.parametrize("act", [migrate, ensure_schema])
async def test_a_file_that_changed_after_it_was_applied_is_refused_by_its_name(
    database_url: str, monkeypatch: pytest.MonkeyPatch, act: Any
) -> None:
    first, *rest = migrations()
    changed = [dataclasses.replace(first, sql=first.sql + "\n-- more\n"), *rest]
    monkeypatch.setattr(migrating, "migrations", lambda: changed)
    async with Database.connect(database_url) as database:
        with pytest.raises(SchemaMismatch, match=f"{first.version}_{first.name} has changed"):
            await act(database)


@pytest.mark.parametrize("act", [migrate, ensure_schema])
async def test_a_database_newer_than_the_code_is_refused_by_the_name_of_its_migration(
    database_url: str, act: Any
) -> None:
    await _execute(
        database_url,
        "INSERT INTO backfill_migrations (version, name, checksum) VALUES ('2999', 'next', 'x')",
    )
    async with Database.connect(database_url) as database:
        with pytest.raises(SchemaMismatch, match=r"newer than this version.*2999_next"):
            await act(database)


async def test_an_empty_database_is_migrated_by_whoever_comes_first(empty_url: str) -> None:
    async with Database.connect(empty_url) as database:
        await ensure_schema(database)
        await ensure_schema(database)
    assert await _tables(empty_url) >= TABLES


@pytest.mark.parametrize("name", ["symbols", "ohlc_bars"])
async def test_a_table_of_another_system_is_refused_and_left_as_it_is(
    empty_url: str, name: str
) -> None:
    await _execute(empty_url, f"CREATE TABLE {name} (id integer PRIMARY KEY, theirs text)")
    async with Database.connect(empty_url) as database:
        with pytest.raises(SchemaMismatch, match="backfill migrate --adopt"):
            await ensure_schema(database)
    assert await _tables(empty_url) == {name}


async def test_no_file_of_sql_changes_a_schema_that_holds_another_system_s_table(
    empty_url: str,
) -> None:
    """The first file says so; databases that began without it need it no more."""
    await _execute(empty_url, "CREATE TABLE splits (id integer PRIMARY KEY)")
    first, second, *_ = migrations()
    with pytest.raises(asyncpg.RaiseError, match="did not make: splits; nothing was changed"):
        await _execute(empty_url, first.sql)
    assert await _tables(empty_url) == {"splits"}
    await _execute(empty_url, "DROP TABLE splits")
    async with Database.connect(empty_url) as database:
        await migrate(database)
        await _execute(
            empty_url, f"DELETE FROM backfill_migrations WHERE version = '{first.version}'"
        )
        await ensure_schema(database)
        assert await migrate(database) == []
    assert (second.version, second.checksum) in await _ledger(empty_url)


async def test_the_guard_knows_every_name_that_the_migrations_make(database_url: str) -> None:
    async with connection_to(database_url) as connection:
        made = await connection.fetch(
            """
            SELECT relname FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'p', 'c')
                AND relname NOT IN ('backfill_migrations', 'backfill_progress')
            """
        )
    guard, *others = [one.sql for one in migrations()]
    unknown = [row["relname"] for row in made if f"'{row['relname']}'" not in guard]
    # What came after the guard is looked for by the migration that makes it.
    looked_for = {name for name in unknown for sql in others if f"to_regclass('{name}')" in sql}
    assert set(unknown) == looked_for
    assert {row["relname"] for row in made} <= {*MADE, "symbols", "ohlc_bars"}


async def test_symbols_with_uuid_ids_give_their_type_to_every_column_that_names_one(
    empty_url: str,
) -> None:
    theirs = """
        CREATE TABLE symbols (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            ticker text NOT NULL UNIQUE,
            asset_type text NOT NULL
        )
    """
    await _execute(
        empty_url,
        theirs,
        "INSERT INTO symbols (ticker, asset_type) VALUES ('AAPL', 'stock')",
        "SET backfill.adopting = 'on'",  # as adoption does: nobody else takes tables over
        *(one.sql for one in migrations()),
    )
    async with connection_to(empty_url) as connection:
        types = await connection.fetch(
            """
            SELECT table_name, data_type FROM information_schema.columns
            WHERE column_name = 'symbol_id' AND table_schema = 'public'
                AND table_name IN (
                    SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'
                )
            """
        )
        assert {row["data_type"] for row in types} == {"uuid"}
        assert {row["table_name"] for row in types} == {
            "ohlc_bars", "backfill_progress", "known_empty", "watchlist", "quarantined_bars",
            "backfill_changes", "symbol_aliases", "splits", "provider_symbols", "imported_files",
        }  # fmt: skip
        assert await connection.fetchval("SELECT calendar FROM symbols") == "XNYS"
        await connection.execute(
            """
            INSERT INTO ohlc_bars SELECT id, 'd1', '2024-11-11 05:00Z', 1, 1, 1, 1, 0 FROM symbols
            """
        )
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await connection.execute(
                "INSERT INTO backfill_progress (symbol_id, timeframe) "
                "VALUES (gen_random_uuid(), 'd1')"
            )


def test_the_checksum_is_of_the_text_and_not_of_its_line_ends() -> None:
    unix = Migration("1", "x", "SELECT 1;\nSELECT 2;\n")
    windows = Migration("1", "x", "SELECT 1;\r\nSELECT 2;\r\n")
    assert unix.checksum == windows.checksum
    assert unix.checksum != Migration("1", "x", "SELECT 1;\nSELECT 3;\n").checksum


def test_a_migration_is_read_from_its_file_as_it_is() -> None:
    version, _, name = MIGRATION.stem.partition("_")
    assert migrations()[1] == Migration(version, name, MIGRATION.read_text(encoding="utf-8"))


async def test_every_table_has_row_level_security_and_a_policy_for_the_runner(
    database_url: str,
) -> None:
    async with connection_to(database_url) as connection:
        unguarded = await connection.fetch(_TABLES_NOW + " AND NOT relrowsecurity")
        assert [row["relname"] for row in unguarded] == []
        policies = await connection.fetch(
            "SELECT tablename FROM pg_policies WHERE 'backfill_runner' = ANY (roles)"
        )
    assert {row["tablename"] for row in policies} == TABLES | {"backfill_migrations"}


async def test_the_runner_cannot_log_in(database_url: str) -> None:
    async with connection_to(database_url) as connection:
        role = await connection.fetchrow(
            "SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles "
            "WHERE rolname = 'backfill_runner'"
        )
    assert tuple(role) == (False, False, False, False)
