"""Taking over the tables of another system: what they lack is added, and every row stays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.errors import SchemaMismatch, UsageError
from backfill.store.migrate import apply_pending, migrations
from backfill.store.pool import Connection, Database
from backfill.store.universe import by_ids

_NEEDED: Final = {
    "symbols": ("id", "ticker", "asset_type"),
    "ohlc_bars": ("symbol_id", "timeframe", "ts", "open", "high", "low", "close", "volume"),
}
_KEY: Final = ("symbol_id", "timeframe", "ts")
_TRADED: Final = ("stock", "crypto")

_COLUMNS: Final = """
    SELECT c.relname AS relation, a.attname AS name, format_type(a.atttypid, NULL) AS type,
        CASE WHEN t.typtype = 'e' THEN ARRAY(
            SELECT e.enumlabel::text
            FROM pg_enum AS e
            WHERE e.enumtypid = t.oid
            ORDER BY e.enumsortorder
        ) END AS labels
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE c.oid IN (
        to_regclass('symbols'), to_regclass('ohlc_bars'), to_regclass('watchlist_items')
    )
"""
_UNIQUE: Final = """
    SELECT EXISTS (
        SELECT FROM pg_index AS i
        WHERE i.indrelid = 'ohlc_bars'::regclass AND i.indisunique AND i.indpred IS NULL
            AND i.indnkeyatts = 3 AND (
                SELECT array_agg(a.attname::text ORDER BY a.attname)
                FROM pg_attribute AS a
                WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
            ) = ARRAY['symbol_id', 'timeframe', 'ts']
    )
"""
_OURS: Final = "SELECT to_regclass('backfill_progress') IS NOT NULL"
_UNSECURED: Final = """
    SELECT relname
    FROM pg_class
    WHERE oid IN ('symbols'::regclass, 'ohlc_bars'::regclass) AND NOT relrowsecurity
"""
_HAS_CAST: Final = """
    SELECT EXISTS (
        SELECT FROM pg_cast
        WHERE castsource = 'text'::regtype AND casttarget = to_regtype($1)
    )
"""
_COLUMNS_OF_BARS: Final = """
    ALTER TABLE ohlc_bars
        ADD COLUMN IF NOT EXISTS vwap double precision,
        ADD COLUMN IF NOT EXISTS trade_count bigint
"""
# Nothing of what was there says that a provider knows the symbol: a run has to find out.
_NOTE_SYMBOLS: Final = """
    UPDATE symbols
    SET adopted_at = now(),
        calendar = CASE WHEN asset_type::text = 'crypto' THEN '24/7' ELSE 'XNYS' END,
        set_aside = CASE
            WHEN asset_type::text <> ALL ('{stock,crypto}')
                THEN asset_type::text || 's are not fetched: only stocks and crypto pairs are'
            WHEN asset_type::text = 'crypto' AND ticker !~ '^(X:[A-Z0-9]+|[A-Z0-9]+/[A-Z]+)$'
                THEN 'not spelled as a pair: X:BTCUSD or BTC/USD'
            WHEN ticker !~ '^[A-Za-z0-9]+([.:/_-][A-Za-z0-9]+)*$'
                THEN 'not spelled as a ticker: AAPL or BRK.B'
        END
    WHERE adopted_at IS NULL
"""
_SET_ASIDE: Final = """
    SELECT ticker, set_aside FROM symbols WHERE set_aside IS NOT NULL ORDER BY ticker
"""
_SERIES: Final = """
    SELECT symbol_id, timeframe::text AS timeframe, count(*) AS bars, min(ts) AS oldest
    FROM ohlc_bars
    GROUP BY symbol_id, timeframe
"""
_WATCHED: Final = """
    CREATE OR REPLACE VIEW watched AS
    SELECT symbol_id, timeframes, since, paused, priority, added_at
    FROM watchlist
    UNION ALL
    SELECT i.symbol_id, '{%s}'::text[]::timeframe[], NULL::text, false, 0, min(i.added_at)
    FROM watchlist_items AS i
    JOIN symbols AS s ON s.id = i.symbol_id
    WHERE s.set_aside IS NULL
        AND NOT EXISTS (SELECT FROM watchlist AS w WHERE w.symbol_id = i.symbol_id)
    GROUP BY i.symbol_id
"""
# The migrations give the role what their own tables take; these draw ids from sequences, and one
# more table is read.
_GRANTS: Final = """
    DO $$
    DECLARE
        drawn regclass;
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'backfill_runner') THEN
            RETURN;
        END IF;
        FOR drawn IN
            SELECT c.oid
            FROM pg_class AS c
            JOIN pg_depend AS d ON d.objid = c.oid AND d.deptype IN ('a', 'i')
            WHERE c.relkind = 'S' AND d.refobjid IN ('symbols'::regclass, 'ohlc_bars'::regclass)
        LOOP
            EXECUTE format('GRANT USAGE ON SEQUENCE %s TO backfill_runner', drawn);
        END LOOP;
        IF to_regclass('watchlist_items') IS NOT NULL THEN
            GRANT SELECT ON watchlist_items TO backfill_runner;
            CREATE POLICY backfill_runner ON watchlist_items
                FOR SELECT TO backfill_runner USING (true);
        END IF;
    END
    $$
"""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What taking over the tables takes, and how to say it; no row is changed but in ``symbols``.

    ``values`` add labels to enums, each in a transaction of its own: Postgres lets nobody use a
    label before that. ``before`` and ``after`` go around the migrations, all in one transaction.
    """

    steps: tuple[str, ...]
    values: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]


async def look(connection: Connection, provider: str) -> Adoption:
    """Look at the tables that are there and return what adopting them takes.

    Raises
    ------
    UsageError
        If there is nothing to adopt.
    SchemaMismatch
        If the tables lack what can't be added.
    """
    columns: dict[str, dict[str, Any]] = {}
    for row in await connection.fetch(_COLUMNS):
        columns.setdefault(row["relation"], {})[row["name"]] = row
    if await connection.fetchval(_OURS):
        raise UsageError("the database is backfill's already; run: backfill migrate")
    for table, needed in _NEEDED.items():
        if table not in columns:
            raise UsageError(f"there is no table {table} to adopt; run: backfill migrate")
        if lacking := [name for name in needed if name not in columns[table]]:
            raise SchemaMismatch(f"the table {table} has no column {', '.join(lacking)}")
    if not await connection.fetchval(_UNIQUE):
        raise SchemaMismatch(
            "ohlc_bars may hold a bar twice: CREATE UNIQUE INDEX ON ohlc_bars "
            f"({', '.join(_KEY)}) first"
        )
    timeframe = columns["ohlc_bars"]["timeframe"]
    if timeframe["labels"] is None:
        raise SchemaMismatch(f"ohlc_bars.timeframe is {timeframe['type']}, not an enum")
    parts = [
        _labels(timeframe, list(Timeframe)),
        _labels(columns["symbols"]["asset_type"], _TRADED),
        _labels(columns["ohlc_bars"].get("provider"), (provider,)),
    ]
    steps = [f"add to the type {kind}: {', '.join(names)}" for kind, names, _ in parts if names]
    before, after = [], [_NOTE_SYMBOLS, _GRANTS]
    if timeframe["type"] != "timeframe":
        # A domain won't do the other way round: Postgres compares no domain over an enum.
        steps.append(f"rename the type {timeframe['type']} to timeframe, the old name a domain")
        before.append(f"ALTER TYPE {timeframe['type']} RENAME TO timeframe")
        before.append(f"CREATE DOMAIN {timeframe['type']} AS timeframe")
    asset_type = columns["symbols"]["asset_type"]
    if asset_type["labels"] and not await connection.fetchval(_HAS_CAST, asset_type["type"]):
        before.append(f"CREATE CAST (text AS {asset_type['type']}) WITH INOUT AS ASSIGNMENT")
    added = [name for name in ("vwap", "trade_count") if name not in columns["ohlc_bars"]]
    if added:
        steps.append(f"add to ohlc_bars, empty: {', '.join(added)}")
        before.append(_COLUMNS_OF_BARS)
    steps.append(f"apply {len(migrations())} migrations: columns of symbols, tables of backfill")
    after += [
        f"ALTER TABLE {row['relname']} DISABLE ROW LEVEL SECURITY"
        for row in await connection.fetch(_UNSECURED)
    ]
    if {"symbol_id", "added_at"} <= columns.get("watchlist_items", {}).keys():
        steps.append(f"keep what watchlist_items lists, in {', '.join(timeframe['labels'])}")
        after.append(_WATCHED % ",".join(timeframe["labels"]))
    return Adoption(
        tuple(steps),
        tuple(statement for _, _, statements in parts for statement in statements),
        tuple(before),
        tuple(after),
    )


async def adopt(database: Database, adoption: Adoption) -> list[str]:
    """Do what `look` found, and return the names of the migrations that were applied."""
    for statement in adoption.values:

        async def add(connection: Connection, statement: str = statement) -> None:
            await connection.execute(statement)

        await database.run(add)

    async def take_over(connection: Connection) -> list[str]:
        for statement in adoption.before:
            await connection.execute(statement)
        applied = await apply_pending(connection)
        for statement in adoption.after:
            await connection.execute(statement)
        return applied

    return await database.run(take_over)


async def set_aside(connection: Connection) -> dict[str, str]:
    """Return why nothing is fetched for a symbol, by its ticker."""
    return {row["ticker"]: row["set_aside"] for row in await connection.fetch(_SET_ASIDE)}


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a series that were there: how many, and the start of the oldest."""

    series: Series
    bars: int
    oldest: datetime


async def found_series(connection: Connection) -> list[Found]:
    """Return the series that the table holds rows of, but for symbols that were set aside."""
    rows = await connection.fetch(_SERIES)
    symbols = await by_ids(connection, list({row["symbol_id"] for row in rows}))
    return [
        Found(
            Series(symbols[row["symbol_id"]], Timeframe(row["timeframe"])),
            row["bars"],
            row["oldest"],
        )
        for row in rows
        if symbols[row["symbol_id"]].set_aside is None
    ]


def _labels(column: Any, wanted: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Return an enum's name, the labels it lacks, and the statements that add them in order."""
    if column is None or column["labels"] is None:
        return "", [], []
    present = list(column["labels"])
    lacking = [str(one) for one in wanted if one not in present]
    return column["type"], lacking, list(_added(column["type"], present, [*map(str, wanted)]))


def _added(kind: str, present: list[str], wanted: list[str]) -> Iterator[str]:
    for at, label in enumerate(wanted):
        if label in present:
            continue
        following = next((one for one in wanted[at + 1 :] if one in present), None)
        place = f" BEFORE '{following}'" if following else ""
        yield f"ALTER TYPE {kind} ADD VALUE IF NOT EXISTS '{label}'{place}"
