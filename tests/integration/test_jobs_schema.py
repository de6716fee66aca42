"""The queue's tables are as PgQueuer makes them; who may not make them does without."""

import asyncio
import json
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from backfill.errors import SchemaMismatch
from backfill.fetch.stop import StopSignal
from backfill.store import queue, queue_log
from backfill.store.migrate import migrate, migrations
from backfill.store.pool import Database
from backfill.store.queue_look import look
from backfill.workers.driver import StoreDriver
from backfill.workers.tables import queries
from tests.integration.store_kit import as_user, connection_to

OURS = ("leader", "schedule")
# What PostgreSQL knows of a schema's relations, by name: columns, indexes, constraints, triggers,
# functions and types.
CATALOG = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
            a.attidentity, pg_get_expr(d.adbin, d.adrelid), a.attnum
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'bf_jobs'::regnamespace AND c.relkind = 'r'
            AND c.relname <> ALL ($1::text[])
    """,
    "indexes": """
        SELECT indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'bf_jobs' AND tablename <> ALL ($1::text[])
    """,
    "constraints": """
        SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'bf_jobs'::regnamespace
            AND split_part(conrelid::regclass::text, '.', 2) <> ALL ($1::text[])
    """,
    "triggers": """
        SELECT tgname, pg_get_triggerdef(t.oid), $1::text[] FROM pg_trigger AS t
        JOIN pg_class AS c ON c.oid = t.tgrelid
        WHERE c.relnamespace = 'bf_jobs'::regnamespace
    """,
    "functions": """
        SELECT proname, prorettype::regtype::text, $1::text[] FROM pg_proc
        WHERE pronamespace = 'bf_jobs'::regnamespace
    """,
    "types": """
        SELECT t.typname, array_agg(e.enumlabel ORDER BY e.enumsortorder), $1::text[]
        FROM pg_type AS t JOIN pg_enum AS e ON e.enumtypid = t.oid
        WHERE t.typnamespace = 'bf_jobs'::regnamespace GROUP BY t.typname
    """,
    "sequences": """
        SELECT sequencename, data_type::text FROM pg_sequences
        WHERE schemaname = 'bf_jobs' AND sequencename <> ALL ($1::text[])
    """,
}


async def catalog(url: str) -> dict[str, set[tuple[Any, ...]]]:
    async with connection_to(url) as connection:
        return {
            name: {
                tuple(tuple(one) if isinstance(one, list) else one for one in row)
                for row in await connection.fetch(sql, list(OURS))
            }
            for name, sql in CATALOG.items()
        }


async def notices(url: str) -> list[dict[str, str]]:
    """Return what is told of a job that is put in, changed and taken out, and of all at once."""
    told: asyncio.Queue[str] = asyncio.Queue()
    put = "INSERT INTO bf_jobs.pgqueuer (priority, entrypoint, status) VALUES (0, 'one', 'queued')"
    async with connection_to(url) as connection:
        await connection.add_listener("ch_pgqueuer", lambda *heard: told.put_nowait(heard[-1]))
        await connection.execute(f"{put}; UPDATE bf_jobs.pgqueuer SET priority = 1")
        await connection.execute("DELETE FROM bf_jobs.pgqueuer")
        await connection.execute("TRUNCATE bf_jobs.pgqueuer; NOTIFY ch_pgqueuer, '{}'")
        heard = []
        while one := json.loads(await told.get()):
            assert datetime.fromisoformat(one.pop("sent_at")).tzinfo
            heard.append(one)
    return heard


async def test_the_migration_makes_what_the_installed_pgqueuer_would(
    database_url: str, empty_url: str
) -> None:
    async with Database.connect(empty_url) as database, connection_to(empty_url) as connection:
        await connection.execute(
            queries(StoreDriver(database, StopSignal())).qbe.build_install_query()
        )
    theirs = await catalog(empty_url)
    assert all(theirs.values())
    assert await catalog(database_url) == theirs
    assert await notices(database_url) == await notices(empty_url)
    async with Database.connect(database_url) as database:
        plan = await queries(StoreDriver(database, StopSignal())).plan_upgrade()
    # Its own words for what tells of a change are others, and do the same.
    assert [one.partition("(")[0] for one in plan.statements] == [
        "CREATE OR REPLACE FUNCTION bf_jobs.fn_pgqueuer_changed"
    ]
    assert not plan.notes


@pytest.mark.direct
async def test_who_may_make_no_schema_migrates_all_the_same_and_is_told_what_a_queue_takes(
    server: str, empty_url: str
) -> None:
    role = f"lodger_{uuid4().hex[:8]}"
    async with connection_to(empty_url) as connection:
        await connection.execute(
            f"CREATE ROLE {role} LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO {role}"
        )
        try:
            async with Database.connect(as_user(empty_url, role)) as database:
                await migrate(database)
                with pytest.raises(SchemaMismatch, match="has no queue"):
                    await look(database)
                with pytest.raises(SchemaMismatch, match="has no queue"):
                    await queue.in_queue(database, lambda one: queue_log.deaths(one, 1))
            for one in migrations():  # as the message says, by the owner, with psql
                if one.name in {"jobs", "schedule"}:
                    await connection.execute(one.sql)
            await connection.execute(f"GRANT backfill_runner TO {role}")
            async with Database.connect(as_user(empty_url, role)) as database:
                assert not (await look(database)).counts
        finally:
            await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_schema_of_that_name_that_is_anothers_is_refused(empty_url: str) -> None:
    async with connection_to(empty_url) as connection:
        await connection.execute("CREATE SCHEMA bf_jobs; CREATE TABLE bf_jobs.pgqueuer (id int)")
    async with Database.connect(empty_url) as database:
        with pytest.raises(SchemaMismatch, match="what backfill did not make"):
            await migrate(database)
    async with connection_to(empty_url) as connection:
        assert await connection.fetchval("SELECT to_regclass('public.ohlc_bars')") is None


async def test_the_migrations_of_the_queue_can_run_twice(database_url: str) -> None:
    before = await catalog(database_url)
    async with connection_to(database_url) as connection:
        for one in migrations():
            if one.name in {"jobs", "schedule"}:
                await connection.execute(one.sql)
    assert await catalog(database_url) == before
