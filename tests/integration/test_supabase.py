"""The migrations as the Supabase CLI applies them, and what the commands make of it (`make hosts`).

``BACKFILL_TEST_SUPABASE`` names the program ``supabase``. The server has to listen on an address:
the CLI reads no URL of a socket.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from backfill.simulator import Simulator
from backfill.store.migrate import migrations
from tests import hosts
from tests.conftest import Cli, blocking, query
from tests.integration.store_kit import MIGRATION, as_user, connection_to, database_name

pytestmark = pytest.mark.soak
CLI: Final = os.environ.get("BACKFILL_TEST_SUPABASE")
FILES: Final = sorted(MIGRATION.parent.glob("*.sql"))
EVERY: Final = [one.version for one in migrations()]
OWNER: Final = "owner_without_more"

Ended = subprocess.CompletedProcess[str]


@pytest.fixture
def url(server: str, empty_url: str) -> Iterator[str]:
    """The URL of an empty database, under a login that owns it and is no superuser."""
    if CLI is None:
        hosts.lacking("BACKFILL_TEST_SUPABASE names no supabase")
    if "@127.0.0.1:" not in server:
        hosts.lacking("the server listens on a socket, which the Supabase CLI can't be told")

    async def own() -> None:
        async with connection_to(server) as connection:
            await connection.execute(f"CREATE ROLE {OWNER} LOGIN CREATEROLE")
            await connection.execute(f"ALTER DATABASE {database_name(empty_url)} OWNER TO {OWNER}")

    async def leave() -> None:
        async with connection_to(empty_url) as connection:
            await connection.execute(f"DROP OWNED BY {OWNER} CASCADE")
            await connection.execute(f"ALTER DATABASE {database_name(empty_url)} OWNER TO postgres")
            await connection.execute(f"DROP ROLE {OWNER}")

    blocking(own())
    yield as_user(empty_url, OWNER)
    blocking(leave())


@pytest.fixture
def push(url: str, tmp_path: Path) -> Callable[..., Ended]:
    """Apply files as `supabase db push` does, from a project that holds just them."""
    folder = tmp_path / "supabase" / "migrations"
    folder.mkdir(parents=True)
    shared = "?sslmode=disable"  # the CLI insists on TLS, which this server has not

    def pushed(*flags: str, files: list[Path] = FILES, **own: str) -> Ended:
        for path in files:
            shutil.copy(path, folder)
        for name, sql in own.items():
            folder.joinpath(f"{name.lstrip('_')}.sql").write_text(sql, encoding="utf-8")
        return subprocess.run(
            [str(CLI), "db", "push", "--yes", "--db-url", url.partition("?")[0] + shared, *flags],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DO_NOT_TRACK": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return pushed


@pytest.fixture
def run(
    url: str, simulate: Callable[..., Simulator], cli: Callable[..., Cli]
) -> Callable[..., tuple[int, str]]:
    """Run a command on that database; its exit code and what it says of a fault."""
    command = cli(simulate(), DATABASE_URL=url, BACKFILL_PLAN="unlimited", BACKFILL_LOG="console")

    def ran(*words: str) -> tuple[int, str]:
        ended = command(*words)
        return ended.code, ended.err.strip().splitlines()[-1] if ended.code else ended.out

    return ran


FETCH: Final = ("run", "AAPL", "--from", "2024-10-01", "--to", "2024-10-31")


def versions(url: str, ledger: str) -> list[str]:
    """The versions that a ledger names."""
    return [row["version"] for row in query(url, f"SELECT version FROM {ledger} ORDER BY 1")]


def test_a_run_takes_what_the_supabase_cli_applied_for_its_own(
    push: Callable[..., Ended], run: Callable[..., tuple[int, str]], url: str
) -> None:
    applied = push()
    assert applied.returncode == 0, applied.stderr
    assert versions(url, "supabase_migrations.schema_migrations") == EVERY

    code, said = run(*FETCH)
    assert code == 0, said
    assert query(url, "SELECT count(*) AS bars FROM ohlc_bars")[0]["bars"] == 23
    assert versions(url, "backfill_migrations") == EVERY
    assert run("migrate") == (0, "the schema is up to date\n")
    again = push()
    assert (again.returncode, "Applying" in again.stderr) == (0, False), again.stderr

    # An upgrade: the CLI has applied the newest file, of which nothing is noted yet.
    query(url, "DELETE FROM backfill_migrations WHERE version = $1", EVERY[-1])
    assert run(*FETCH)[0] == 0
    assert versions(url, "backfill_migrations") == EVERY

    # A file that neither has applied is another thing.
    for ledger in ("backfill_migrations", "supabase_migrations.schema_migrations"):
        query(url, f"DELETE FROM {ledger} WHERE version = $1", EVERY[-1])
    code, said = run(*FETCH)
    assert (code, "backfill migrate" in said) == (3, True), said
    assert run("migrate")[0] == 0
    assert run(*FETCH)[0] == 0


def test_the_supabase_cli_takes_a_database_that_backfill_migrated_and_has_bars(
    push: Callable[..., Ended], run: Callable[..., tuple[int, str]], url: str
) -> None:
    assert run(*FETCH)[0] == 0
    bars = query(url, "SELECT * FROM ohlc_bars ORDER BY ts")
    applied = push()
    assert applied.returncode == 0, applied.stderr
    assert query(url, "SELECT * FROM ohlc_bars ORDER BY ts") == bars
    assert versions(url, "supabase_migrations.schema_migrations") == EVERY
    assert run(*FETCH)[0] == 0


def test_files_that_come_to_a_project_with_newer_ones_of_its_own_take_include_all(
    push: Callable[..., Ended], run: Callable[..., tuple[int, str]], url: str
) -> None:
    own = {"_20991231000000_own": "CREATE TABLE own_table (id integer)"}
    assert push(files=[], **own).returncode == 0
    refused = push(**own)
    assert (refused.returncode, "--include-all" in refused.stderr) == (1, True), refused.stderr
    applied = push("--include-all", **own)
    assert applied.returncode == 0, applied.stderr
    assert run(*FETCH)[0] == 0


def test_the_cli_changes_nothing_beside_tables_of_another_system(
    push: Callable[..., Ended], url: str
) -> None:
    query(url, "CREATE TABLE symbols (id integer PRIMARY KEY)")
    refused = push()
    assert refused.returncode == 1
    assert "backfill did not make: symbols; nothing was changed" in refused.stderr
    tables = query(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert [row["tablename"] for row in tables] == ["symbols"]
