"""Migrations: ordered, checksummed, all that are missing in one transaction under one lock.

So whoever else looks sees the schema of before or of after, and a process that dies in between
leaves the one of before.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import asyncpg

from backfill.core.dataclass import dataclass
from backfill.errors import DatabaseError, SchemaMismatch
from backfill.store.faults import said
from backfill.store.pool import Connection, Database
from backfill.store.session import Rows

_GUARD, _INITIAL = "20261124000000", "20261124000001"
_LOCK: Final = 0x6261636B66696C6C  # "backfill" in ASCII
_WAIT_S: Final = 50
"""How long to wait for whoever holds the lock; less than a statement may take."""
# Waits for whoever is migrating, longer than for any other lock.
_LOCKED: Final = f"""
    SET LOCAL lock_timeout = '{_WAIT_S}s';
    SELECT pg_advisory_xact_lock({_LOCK});
    SET LOCAL lock_timeout = '20s'
"""
# Makes the ledger. Where it is as it should be it stays unlocked: others read it meanwhile.
_LEDGER: Final = """
    CREATE TABLE IF NOT EXISTS backfill_migrations (
        version text PRIMARY KEY,
        name text NOT NULL,
        checksum text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
    DO $$
    BEGIN
        IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = 'backfill_migrations'::regclass)
        THEN
            ALTER TABLE backfill_migrations ENABLE ROW LEVEL SECURITY;
        END IF;
    END
    $$
"""
# Lets the role of runs, where there is one, read a table, where that is.
SHOW_RUNNER: Final = """
    DO $$
    BEGIN
        IF to_regclass('{table}') IS NOT NULL
            AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner')
        THEN
            GRANT SELECT ON {table} TO backfill_runner;
            IF NOT EXISTS (
                SELECT FROM pg_policy
                WHERE polrelid = '{table}'::regclass AND polname = 'backfill_runner'
            ) THEN
                CREATE POLICY backfill_runner ON {table}
                    FOR SELECT TO backfill_runner USING (true);
            END IF;
        END IF;
    END
    $$
"""
# What a query of today's schema meets in another one.
_OF_ANOTHER_SCHEMA: Final = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedObjectError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InsufficientPrivilegeError,
)
# What was migrated here, and by which files?
_APPLIED: Final = "SELECT version, name, checksum FROM backfill_migrations"
# May this login read which files the Supabase CLI applied, if it did any?
_MAY_READ_PUSHED: Final = """
    SELECT EXISTS (
        SELECT FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'supabase_migrations' AND c.relname = 'schema_migrations'
            AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
    )
"""
# Which did it apply?
_PUSHED: Final = "SELECT version FROM supabase_migrations.schema_migrations"
# Whether anything was ever migrated here.
_HAS_LEDGER: Final = "SELECT to_regclass('backfill_migrations') IS NOT NULL AS ledger"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file ``<version>_<name>.sql``."""

    version: str
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """A digest of the file, whatever its line ends."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return the migrations that this version ships, in order."""
    found = []
    for path in sorted(_folder().glob("*.sql")):
        version, _, name = path.stem.partition("_")
        found.append(Migration(version, name, path.read_text(encoding="utf-8")))
    return found


async def migrate(database: Database) -> list[str]:
    """Apply what is missing and return the names of what was applied.

    Where nothing is, any login that may read the ledger may ask. Whoever else is migrating is
    waited for.

    Raises
    ------
    SchemaMismatch
        If the database is newer than this version, an applied migration has changed, something
        is missing and the login may not apply it, or somebody else doesn't come to an end.
    """
    row = await database.fetch_row(_HAS_LEDGER)
    missing = await _missing(database) if row["ledger"] else migrations()
    if not missing:
        return []

    async def apply(connection: Connection) -> list[str]:
        try:
            return await apply_pending(connection)
        except asyncpg.RaiseError as error:  # the guard's
            raise SchemaMismatch(said(error)) from None
        except asyncpg.InsufficientPrivilegeError as error:
            raise SchemaMismatch(
                f"{len(missing)} migration(s) are not applied, and this login may not do it "
                f"({said(error)}); run backfill migrate with the login that owns the tables"
            ) from None

    return await database.run(apply)


async def apply_pending(connection: Connection) -> list[str]:
    """Apply the migrations that are missing, in the transaction at hand; return their names.

    Raises
    ------
    SchemaMismatch
        As `migrate` does, but for what the login may do.
    """
    await lock_schema(connection)
    await connection.execute(_LEDGER)
    missing = await _pending(connection, migrations())
    for migration in missing:
        await _apply(connection, migration)
    return [f"{one.version}_{one.name}" for one in missing]


async def lock_schema(connection: Connection) -> None:
    """Hold back whoever else changes the schema to this transaction's end; wait for them first."""
    try:
        await connection.execute(_LOCKED)
    except asyncpg.LockNotAvailableError:
        raise SchemaMismatch(
            f"another process has been migrating the database for {_WAIT_S} s; "
            "try again when it is done"
        ) from None


async def _apply(connection: Connection, migration: Migration) -> None:
    await connection.execute(migration.sql)
    await connection.execute(
        "INSERT INTO backfill_migrations (version, name, checksum) VALUES ($1, $2, $3)",
        migration.version,
        migration.name,
        migration.checksum,
    )
    # A run reads the ledger to see that the schema is its own; it never writes it.
    await connection.execute(SHOW_RUNNER.format(table="backfill_migrations"))


async def ensure_schema(database: Database) -> None:
    """Migrate an empty database; see that any other is up to date, once nobody is migrating it.

    What the Supabase CLI has applied is applied once more, which changes nothing, and noted.

    Raises
    ------
    SchemaMismatch
        If it isn't, or holds tables of another system; then nothing is changed.
    """
    if not database.has_ledger:
        await migrate(database)
        return
    if await _missing(database) and (missing := await database.run(_still_missing)):
        pushed = await database.run(_pushed)
        if not pushed.issuperset(one.version for one in missing):
            raise _not_applied(missing)
        await migrate(database)


async def check_schema(database: Database) -> None:
    """See that a database is up to date, by reading alone: on a replica, and by any login.

    Raises
    ------
    SchemaMismatch
        If it isn't, empty or in the middle of a migration included.
    """
    if missing := await lacking(database):
        raise _not_applied(missing)


async def lacking(database: Database) -> list[Migration]:
    """Return the migrations that a database lacks, whoever may be migrating it.

    Raises
    ------
    SchemaMismatch
        If it is newer than this version, or an applied migration has changed.
    """
    return await _missing(database) if database.has_ledger else migrations()


async def ask_today(database: Database, *queries: str) -> list[Rows]:
    """Return the rows of queries of today's schema, which is looked at in the same round trip.

    Raises
    ------
    SchemaMismatch
        As `ensure_schema` does, which is asked where anything is amiss.
    """
    if database.has_ledger:
        try:
            applied, *found = await database.ask(_APPLIED, *queries)
        except DatabaseError as error:
            if not isinstance(error.__cause__, _OF_ANOTHER_SCHEMA):
                raise
        else:
            if not _lacking(applied, migrations()):
                return found
    await ensure_schema(database)
    return await database.ask(*queries)


def _not_applied(missing: list[Migration]) -> SchemaMismatch:
    return SchemaMismatch(f"{len(missing)} migration(s) are not applied", mend="backfill migrate")


async def _missing(database: Database) -> list[Migration]:
    (applied,) = await database.ask(_APPLIED)
    return _lacking(applied, migrations())


async def _still_missing(connection: Connection) -> list[Migration]:
    """Return what is missing when whoever is migrating has come to an end."""
    await lock_schema(connection)
    return await _pending(connection, migrations())


async def _pushed(connection: Connection) -> set[str]:
    """Return the versions that the Supabase CLI says it has applied."""
    if not await connection.fetchval(_MAY_READ_PUSHED):
        return set()
    return {row["version"] for row in await connection.fetch(_PUSHED)}


async def _pending(connection: Connection, shipped: list[Migration]) -> list[Migration]:
    return _lacking(await connection.fetch(_APPLIED), shipped)


def _lacking(applied: Iterable[Mapping[str, Any]], shipped: list[Migration]) -> list[Migration]:
    """Return which migrations the rows of the ledger lack."""
    known = {migration.version: migration for migration in shipped}
    for row in applied:
        migration = known.get(row["version"])
        if migration is None:
            raise SchemaMismatch(
                f"the database is newer than this version of backfill (migration "
                f"{row['version']}_{row['name']}); upgrade backfill"
            )
        if migration.checksum != row["checksum"]:
            raise SchemaMismatch(
                f"migration {row['version']}_{row['name']} has changed since it was applied; "
                "restore the file as it was"
            )
    done = {row["version"] for row in applied}
    if _INITIAL in done:
        done.add(_GUARD)  # it looks before the first change, which is long past
    return [migration for migration in shipped if migration.version not in done]


def _folder() -> Path:
    """The migrations beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"
