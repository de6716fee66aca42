"""R30: another system's tables are decided about before any change, or left as they are."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import pytest

from backfill.admin.adopt import Adopted, take_over
from backfill.core.coverage import Spans
from backfill.errors import SchemaMismatch, UsageError
from backfill.settings import Settings
from backfill.simulator import Simulator
from backfill.store import universe
from backfill.store.adopt import adopt, decide, found_series
from backfill.store.migrate import ensure_schema, migrate
from backfill.store.pool import Database
from backfill.store.read import stored_bars
from backfill.store.source import EVER
from backfill.store.times import to_ms
from tests.conftest import Cli, blocking, first_of
from tests.integration.store_kit import as_user, connection_to, rows

THEIRS: Final = """
    CREATE TYPE kind AS ENUM ('stock', 'future');
    CREATE TYPE bar_size AS ENUM ('m15', 'h1', 'h2', 'd1');
    CREATE TABLE symbols (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        ticker text NOT NULL UNIQUE,
        asset_type kind NOT NULL
    );
    CREATE TABLE ohlc_bars (
        symbol_id uuid NOT NULL REFERENCES symbols,
        timeframe bar_size NOT NULL,
        ts timestamptz NOT NULL,
        open numeric(20, 6) NOT NULL,
        high numeric(20, 6) NOT NULL,
        low numeric(20, 6) NOT NULL,
        close numeric(20, 6) NOT NULL,
        volume numeric(20, 2) NOT NULL
    );
    CREATE UNIQUE INDEX bars_key ON ohlc_bars (symbol_id, timeframe, ts);
    CREATE TABLE watchlist_items (symbol_id uuid NOT NULL, added_at timestamptz NOT NULL);
    INSERT INTO symbols (ticker, asset_type) VALUES ('AAPL', 'stock'), ('ESZ4', 'future');
    INSERT INTO watchlist_items SELECT id, '2024-01-01Z' FROM symbols WHERE ticker = 'AAPL';
    INSERT INTO ohlc_bars
    SELECT s.id, b.size::bar_size, b.ts::timestamptz, 1, 2, 1, 1.5, 10
    FROM symbols AS s,
        (VALUES ('d1', '2024-10-01 04:00Z'), ('d1', '2024-10-02 00:00Z'), ('h2', '2024-10-02Z'))
            AS b (size, ts)
    WHERE s.ticker = 'AAPL';
"""
# All that could have been changed of them: relations, columns, enums, policies, rights, rows.
EVERYTHING: Final = """
    SELECT 'relation', c.relname, c.relkind::text, c.relrowsecurity::text, c.relacl::text
    FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'column', a.attrelid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod),
        a.attnotnull::text
    FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0
    UNION ALL
    SELECT 'label', enumtypid::regtype::text, enumlabel, enumsortorder::text, '' FROM pg_enum
    UNION ALL
    SELECT 'type', typname, typtype::text, '', '' FROM pg_type
    WHERE typnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'policy', tablename, policyname, '', '' FROM pg_policies WHERE schemaname = 'public'
    UNION ALL
    SELECT 'function', proname, '', '', '' FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'bar', b::text, '', '', '' FROM ohlc_bars AS b
    UNION ALL
    SELECT 'symbol', s::text, '', '', '' FROM symbols AS s
    ORDER BY 1, 2, 3, 4
"""
# What is done to their tables first, and what the refusal says of it.
REFUSED: Final = {
    "a view": (
        "ALTER TABLE symbols RENAME TO listed; CREATE VIEW symbols AS SELECT * FROM listed",
        "symbols is a view",
    ),
    "a column that must be filled": (
        """
        ALTER TABLE ohlc_bars ADD feed text NOT NULL DEFAULT 'x';
        ALTER TABLE ohlc_bars ALTER feed DROP DEFAULT
        """,
        r"ohlc_bars.feed may not be null.*ALTER feed SET DEFAULT",
    ),
    "an id that must be given": ("ALTER TABLE symbols ALTER id DROP DEFAULT", "symbols.id may not"),
    "a vwap that must be known": (
        "ALTER TABLE ohlc_bars ADD vwap numeric NOT NULL DEFAULT 0",
        "ohlc_bars.vwap may not be null",
    ),
    "stamps without a zone": (
        "ALTER TABLE ohlc_bars ALTER ts TYPE timestamp",
        r"ohlc_bars.ts has no time zone.*AT TIME ZONE",
    ),
    "floats of four bytes": (
        "ALTER TABLE ohlc_bars ALTER high TYPE real",
        "ohlc_bars.high is real",
    ),
    "whole volumes": ("ALTER TABLE ohlc_bars ALTER volume TYPE bigint", "volume is bigint"),
    "a column by a name of ours": (
        "ALTER TABLE symbols ADD calendar text DEFAULT 'NYSE'",
        "symbols.calendar is there already",
    ),
    "a table by a name of ours": ("CREATE TABLE splits (a text)", "are taken: splits"),
    "a type by a name of ours": ("CREATE TYPE timeframe AS ENUM ('d1')", "a type timeframe beside"),
    "bars that may come twice": ("DROP INDEX bars_key", "ohlc_bars may hold a bar twice"),
    "tickers that may come twice": (
        "ALTER TABLE symbols DROP CONSTRAINT symbols_ticker_key",
        "symbols may hold a ticker twice",
    ),
    "one instrument twice": (
        """
        INSERT INTO symbols (ticker, asset_type)
        VALUES ('BRK.B', 'stock'), ('BRK-B', 'stock'), ('ES=F', 'future')
        """,
        "one instrument under several tickers: BRK-B and BRK.B. Keep one row of each",
    ),
    "a key that is checked late": (
        "ALTER TABLE symbols ADD UNIQUE (asset_type, ticker) DEFERRABLE INITIALLY DEFERRED",
        "symbols has a deferrable unique constraint",
    ),
    "timeframes in words": (
        "ALTER TABLE ohlc_bars ALTER timeframe TYPE text",
        "ohlc_bars.timeframe is text",
    ),
    "ids of two types": (
        """
        ALTER TABLE ohlc_bars DROP CONSTRAINT ohlc_bars_symbol_id_fkey;
        ALTER TABLE ohlc_bars ALTER symbol_id TYPE bigint USING 1
        """,
        "symbols.id is uuid and ohlc_bars.symbol_id bigint",
    ),
    "timeframes of another schema": (
        "CREATE SCHEMA app; ALTER TYPE bar_size SET SCHEMA app",
        r"the type app.bar_size is in another schema.*ALTER TYPE app.bar_size SET SCHEMA",
    ),
    "stamps that no calendar has": (
        """
        INSERT INTO ohlc_bars
        SELECT symbol_id, timeframe, '-infinity', 1, 2, 1, 1, 1 FROM ohlc_bars LIMIT 1
        """,
        "ohlc_bars holds stamps before the year 1",
    ),
    "no volume": ("ALTER TABLE ohlc_bars DROP volume", "has no column volume"),
}


async def _execute(url: str, sql: str) -> None:
    async with connection_to(url) as connection:
        await connection.execute(sql)


@pytest.fixture
def theirs(empty_url: str) -> str:
    """A database that another system filled; one of its days lies off the grid."""
    blocking(_execute(empty_url, THEIRS))
    return empty_url


async def _everything(database: Database) -> list[Any]:
    return [tuple(row) for row in await rows(database, EVERYTHING)]


async def _dump(url: str) -> str | None:
    """What pg_dump writes of a database; None where there is none that can read the server."""
    program = shutil.which("pg_dump")
    if program is None:
        return None
    async with connection_to(url) as connection:
        server = connection.get_server_version().major
    version = re.search(r"\) (\d+)", await asyncio.to_thread(_printed, program, "--version"))
    if version is None or int(version[1]) < server:
        return None
    dump = await asyncio.to_thread(_printed, program, url)
    return re.sub(r"^\\(un)?restrict .*$", "", dump, flags=re.MULTILINE)  # a random word


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def _adopt(database: Database, *, clean: bool = False) -> Adopted:
    return await take_over(database, Settings.load(), clean=clean, tell=lambda _: None)


@pytest.mark.attack(1)
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.wide if at % 3 else ())
        for at, case in enumerate(REFUSED)
    ],
)
async def test_what_cannot_be_kept_right_is_refused_before_the_first_change(
    theirs: str, case: str
) -> None:
    sql, said = REFUSED[case]
    await _execute(theirs, sql)
    dump = await _dump(theirs)
    async with Database.connect(theirs) as database:
        before = await _everything(database)
        with pytest.raises(SchemaMismatch, match=said):
            await _adopt(database)
        for act in (migrate, ensure_schema):
            with pytest.raises(SchemaMismatch, match=r"did not make.*backfill migrate --adopt"):
                await act(database)
        assert await _everything(database) == before
    assert await _dump(theirs) == dump


async def test_a_login_that_does_not_own_the_tables_adopts_nothing(theirs: str) -> None:
    await _execute(
        theirs, "CREATE ROLE adopting LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO adopting"
    )
    try:
        async with Database.connect(as_user(theirs, "adopting")) as database:
            before = await _everything(database)
            with pytest.raises(SchemaMismatch, match="adopt with the login that owns it"):
                await _adopt(database)
            assert await _everything(database) == before
    finally:
        await _execute(theirs, "DROP OWNED BY adopting; DROP ROLE adopting")


@pytest.mark.attack(1)
def test_every_command_refuses_another_system_s_tables_in_one_line(
    simulate: Callable[..., Simulator], cli: Callable[..., Cli], theirs: str
) -> None:
    blocking(_execute(theirs, "ALTER TABLE ohlc_bars ALTER ts TYPE timestamp"))
    simulator = simulate()
    run = cli(simulator, DATABASE_URL=theirs)
    for words in (("migrate",), ("run", "--symbol", "AAPL"), ("migrate", "--adopt")):
        ended = run(*words)
        assert (ended.code, len(ended.err.splitlines())) == (3, 1), ended.err
    assert simulator.calls == []


async def _undisturbed(database: Database) -> tuple[list[Any], list[Any]]:
    """The watched timeframes, and what went to quarantine: what a kill could change."""
    watched = await rows(database, "SELECT timeframes::text FROM watched")
    moved = await rows(database, "SELECT ts, reason FROM quarantined_bars")
    return [tuple(row) for row in watched], [tuple(row) for row in moved]


ADOPTED: Final = (
    [("{m15,h1,d1}",)],
    [(datetime(2024, 10, 2, tzinfo=UTC), "off_grid")],
)


@pytest.mark.attack(1)
@pytest.mark.parametrize(
    "done",
    [*first_of(3, 0, 8), *(pytest.param(at, marks=pytest.mark.soak) for at in (1, 2, 4, 5, 6, 7))],
)
async def test_an_adoption_that_was_killed_is_finished_by_the_next(theirs: str, done: int) -> None:
    """It dies after its decision, among the enum's labels, or before the rows are moved."""
    async with Database.connect(theirs) as database:
        standing = await database.run(partial(decide, provider="massive", clean=True))
        values = standing.adoption.values
        assert len(values) == 8
        for statement in values[:done]:
            await _execute(theirs, statement)
        if done == len(values):
            assert await adopt(database, standing)
        else:
            with pytest.raises(SchemaMismatch):  # nobody but the next adoption goes on
                await ensure_schema(database)
        result = await _adopt(database)  # by what was decided, not by what is asked now
        assert (result.bars, result.cleaned) == (2, 1)
        assert await _undisturbed(database) == ADOPTED
        await ensure_schema(database)
        with pytest.raises(UsageError, match=r"nothing is left to do$"):
            await _adopt(database, clean=True)


@pytest.mark.attack(1)
async def test_rows_off_the_grid_can_be_moved_after_all(theirs: str) -> None:
    async with Database.connect(theirs) as database:
        assert (await _adopt(database)).cleaned == 0
        with pytest.raises(UsageError, match="nothing is left to do but --clean"):
            await _adopt(database)
        assert (await _adopt(database, clean=True)).cleaned == 1
        assert await _undisturbed(database) == ADOPTED
        # Adopted by a version that kept no record of it.
        await rows(database, "DROP TABLE backfill_adoption")
        assert (await _adopt(database, clean=True)).cleaned == 0


async def test_a_policy_for_the_runner_that_is_there_already_stays(theirs: str) -> None:
    await _execute(theirs, "CREATE POLICY backfill_runner ON watchlist_items USING (true)")
    async with Database.connect(theirs) as database:
        assert (await _adopt(database)).bars == 2
        await ensure_schema(database)


async def test_a_row_without_a_price_moves_no_other_row_s_values(theirs: str) -> None:
    await _execute(
        theirs,
        """
        ALTER TABLE ohlc_bars ALTER volume DROP NOT NULL;
        UPDATE ohlc_bars SET volume = CASE WHEN ts >= '2024-10-02Z' THEN 7 END
        """,
    )
    async with Database.connect(theirs) as database:
        await _adopt(database)
        [found] = await database.run(found_series)
        bars = await database.run(partial(stored_bars, series=found.series, spans=Spans.of(EVER)))
    assert bars.ts_ms.tolist() == [to_ms(datetime(2024, 10, 2, tzinfo=UTC))]
    assert bars.close.tolist() == [1.5]
    assert bars.volume.tolist() == [7]


@pytest.mark.attack(1)
async def test_two_adoptions_at_once_are_one(theirs: str) -> None:
    async with Database.connect(theirs) as one, Database.connect(theirs) as other:
        results = await asyncio.gather(
            _adopt(one, clean=True), _adopt(other, clean=True), return_exceptions=True
        )
        assert [type(result) for result in results if not isinstance(result, UsageError)]
        assert await _undisturbed(one) == ADOPTED


@pytest.mark.attack(1)
async def test_bars_of_timeframes_that_nobody_knows_here_stay_and_poison_nothing(
    theirs: str,
) -> None:
    async with Database.connect(theirs) as database:
        result = await _adopt(database)
        assert "leave as they are, and never touch, bars of h2" in result.steps
        [kept] = await rows(database, "SELECT count(*) FROM ohlc_bars WHERE timeframe = 'h2'")
        assert kept[0] == 1
        watched = await database.run(universe.watched)
        assert [[str(one) for one in entry.timeframes] for entry in watched] == [
            ["m15", "h1", "d1"]
        ]


@pytest.mark.attack(1)
async def test_the_lists_of_watched_symbols_show_each_login_what_is_its_own(theirs: str) -> None:
    await _execute(
        theirs,
        """
        ALTER TABLE watchlist_items ENABLE ROW LEVEL SECURITY;
        CREATE ROLE visitor LOGIN;
        GRANT SELECT ON watchlist_items, symbols TO visitor;
        """,
    )
    try:
        async with Database.connect(theirs) as database:
            await _adopt(database)
            await _execute(theirs, "GRANT SELECT ON watched, watchlist TO visitor")
            assert len(await rows(database, "SELECT * FROM watched")) == 1
            if (await rows(database, "SHOW server_version_num"))[0][0] < "150000":
                pytest.skip("before PostgreSQL 15 a view asks with its owner's rights")
        async with Database.connect(as_user(theirs, "visitor")) as database:
            assert await rows(database, "SELECT * FROM watched") == []
    finally:
        await _execute(theirs, "DROP OWNED BY visitor; DROP ROLE visitor")
