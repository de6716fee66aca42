"""The Postgres of the benchmark: an embedded server, and a fresh database for each contestant."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import asyncpg

from backfill.store.embedded import embedded_postgres
from bench.build import HERE, Build
from bench.workload import Load

BARS: Final = """
    SELECT s.ticker, b.ts, b.open, b.high, b.low, b.close, b.volume, b.vwap, b.trade_count
    FROM ohlc_bars AS b
    JOIN symbols AS s ON s.id = b.symbol_id
"""
"""The bars of a database, in the form in which `Database.digest` compares them."""

_NAME: Final = "bench"


@dataclass(frozen=True, slots=True)
class Digest:
    """The rows of a table in two numbers, whatever their order."""

    rows: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the WAL stood, and how many bars of a schema had ever been rewritten, at a time."""

    schema: str
    wal: int
    rewritten: int


@dataclass(frozen=True, slots=True)
class Writes:
    """What was done to a table of bars since a mark: rows updated or deleted, rows left dead."""

    wal_bytes: int
    rewritten_rows: int
    dead_rows: int


class Database:
    """A database of the benchmark's server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def execute(self, *statements: str) -> None:
        """Run statements, each in a transaction of its own."""
        _run(self.url, statements)

    def value(self, query: str) -> Any:
        """Return the first value of a query's only row."""
        return self._row(query)[0]

    def version(self) -> str:
        """Return the version of the server."""
        return str(self._row("SHOW server_version")[0])

    def digest(self, loads: Sequence[Load] | None, bars: str = BARS) -> Digest:
        """Return the digest of the bars of some loads, or of all there are.

        ``bars`` is the query for all bars, in the form of `BARS`.
        """
        where, arguments = "", []
        if loads is not None:
            where = """
                JOIN unnest($1::text[], $2::timestamptz[], $3::timestamptz[])
                    AS l (ticker, first, last)
                ON b.ticker = l.ticker AND b.ts >= l.first AND b.ts < l.last
            """
            arguments = [
                [load.ticker for load in loads],
                [load.start for load in loads],
                [load.end for load in loads],
            ]
        row = self._row(
            f"""
            SELECT count(*), coalesce(bit_xor(hash_record_extended(ROW(
                b.ticker::text, b.ts, b.open, b.high, b.low, b.close,
                b.volume, b.vwap, b.trade_count
            ), 0)), 0)
            FROM ({bars}) AS b {where}
            """,
            *arguments,
        )
        return Digest(*row)

    def export(self, file: Path) -> None:
        """Write the rows of ``ohlc_bars`` to a file, by their key, as a binary COPY reads them."""

        async def copy() -> None:
            connection = await asyncpg.connect(self.url)
            try:
                await connection.copy_from_query(
                    "SELECT * FROM ohlc_bars ORDER BY symbol_id, timeframe, ts",
                    output=file,
                    format="binary",
                )
            finally:
                await connection.close()

        asyncio.run(copy())

    def settle(self, schema: str = "public") -> Mark:
        """Vacuum, checkpoint, and return what to count the writes to a schema's bars from."""
        self.execute("VACUUM ANALYZE", "CHECKPOINT")
        return Mark(schema, self._wal(), self._rewritten(schema))

    def writes_since(self, mark: Mark) -> Writes:
        """Return what was written since `settle`."""
        return Writes(
            wal_bytes=self._wal() - mark.wal,
            rewritten_rows=self._rewritten(mark.schema) - mark.rewritten,
            dead_rows=self._counted("n_dead_tup", mark.schema),
        )

    def _wal(self) -> int:
        return int(self._row("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")[0])

    def _rewritten(self, schema: str) -> int:
        return self._counted("n_tup_upd + n_tup_del", schema)

    def _counted(self, column: str, schema: str) -> int:
        row = self._row(
            f"SELECT sum({column}) FROM pg_stat_user_tables "
            "WHERE relname = 'ohlc_bars' AND schemaname = $1",
            schema,
        )
        return int(row[0] or 0)

    def _row(self, query: str, *arguments: object) -> Any:
        async def fetch() -> Any:
            connection = await asyncpg.connect(self.url)
            try:
                return await connection.fetchrow(query, *arguments)
            finally:
                await connection.close()

        return asyncio.run(fetch())


class Server:
    """The embedded server: its settings are Postgres' own defaults."""

    def __init__(self, url: str, folder: Path) -> None:
        self._admin = Database(url)
        self.postmaster = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        self.version = self._admin.version()

    @classmethod
    @contextmanager
    def start(cls) -> Iterator[Self]:
        """Run a server in a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="backfill-bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            with embedded_postgres(folder) as url:
                yield cls(url, folder)

    def prepare(self, tickers: Sequence[str], build: Build = HERE) -> None:
        """Make the schema that every fresh database starts with, these symbols registered."""
        template = self.named(_template(build))
        environment = os.environ | {"DATABASE_URL": template.url}
        commands = [["migrate"], ["symbols", "add", *tickers]] if tickers else [["migrate"]]
        for arguments in commands:
            subprocess.run(
                [build.python, "-m", "backfill", *arguments],
                cwd=build.folder,
                env=environment,
                check=True,
                capture_output=True,
            )

    @contextmanager
    def fresh(self, build: Build = HERE) -> Iterator[Database]:
        """Yield a database with the schema and no bars; all that came before is on the disk."""
        self._admin.execute(
            f"DROP DATABASE IF EXISTS {_NAME} WITH (FORCE)",
            f"CREATE DATABASE {_NAME} TEMPLATE {_template(build)}",
            "CHECKPOINT",
        )
        yield Database(self._url(_NAME))
        self._admin.execute(f"DROP DATABASE {_NAME} WITH (FORCE)")

    def named(self, name: str) -> Database:
        """Return a database of this name, made anew without any table."""
        self._admin.execute(
            f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}"
        )
        return Database(self._url(name))

    def copied(self, name: str, original: str) -> Database:
        """Return a database of this name, made anew as a copy of another that nobody uses."""
        self._admin.execute(
            f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
            f"CREATE DATABASE {name} TEMPLATE {original} STRATEGY FILE_COPY",
            "CHECKPOINT",
        )
        return Database(self._url(name))

    def _url(self, name: str) -> str:
        return self._admin.url.replace("/postgres?", f"/{name}?")


def _template(build: Build) -> str:
    return f"schema_of_{build.name.replace(' ', '_')}"


def _run(url: str, statements: Sequence[str]) -> None:
    async def execute() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(execute())
