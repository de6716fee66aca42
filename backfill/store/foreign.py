"""The tables of another system as the catalog tells of them, and what of them can't be kept right.

Everything is decided from these facts before the first change: what `refusal` names can't be mended
by adding columns, labels and tables.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from backfill.core.timeframe import Timeframe
from backfill.store.pool import Connection

TRADED: Final = ("stock", "crypto", "fx")

_SYMBOLS, _BARS, _LISTS = "symbols", "ohlc_bars", "watchlist_items"
_TEXT: Final = {"text", "character varying", "citext"}
_IDS: Final = {"smallint", "integer", "bigint", "uuid"}
_NUMBERS: Final = {"double precision", "numeric"}
_COUNTS: Final = {"bigint", "numeric"}
_NEEDED: Final = {
    _SYMBOLS: {"id": _IDS, "ticker": _TEXT, "asset_type": _TEXT},
    _BARS: {
        "symbol_id": _IDS,
        "timeframe": set[str](),
        "ts": {"timestamp with time zone"},
        **dict.fromkeys(("open", "high", "low", "close", "volume"), _NUMBERS),
    },
}
"""The columns that must be there, and the types that they may have; an enum is looked at apart."""
_ALLOWED: Final = {
    _SYMBOLS: {"listed_on": {"date"}, "delisted_on": {"date"}, "figi": _TEXT,
               "created_at": {"timestamp with time zone"}},
    _BARS: {"vwap": _NUMBERS, "trade_count": _COUNTS, "provider": _TEXT},
}  # fmt: skip
"""Columns that may be there and mean here what they mean there."""
_OWN: Final = (
    "calendar", "confirmed_at", "reference_at", "successor_figi", "successor_listed_on",
    "retired_on", "spelling", "set_aside", "adopted_at", "kept_from", "renamed_to", "renamed_on",
    "gone_on", "unknown_runs", "unwatched_at", "listing_of", "listing_precedence",
)  # fmt: skip
"""Columns that the migrations add to ``symbols``: of these names none may be there already."""
_NAMES: Final = ("timeframe", "asset_type", "provider")
"""Columns that may be enums."""
_FILLED: Final = {_SYMBOLS: {"ticker", "asset_type"}, _BARS: {"provider", *_NEEDED[_BARS]}}
"""Columns that a run gives a value; any other needs a default of its own or may be null."""
MADE: Final = (
    "known_empty", "watchlist", "quarantined_bars", "backfill_runs", "backfill_changes", "splits",
    "dividends", "action_syncs", "market_sessions", "market_hours", "provider_quota",
    "quota_call", "quota_ticket", "symbol_aliases", "uncounted_writes", "provider_symbols",
    "archive_files", "imported_files", "backfill_notices",
    "symbol_names", "watched", "adjustment_factors", "ohlc_bars_regular", "ohlc_bars_adjusted",
    "ohlc_bars_composed", "symbol_id",
)  # fmt: skip
"""Names of relations and types that the migrations make."""

# What the relations are, whose, and by which columns their rows are surely told apart.
_TABLES_SQL: Final = """
    SELECT
        c.relname AS name,
        c.relkind::text AS kind,
        pg_has_role(c.relowner, 'USAGE') AS owned,
        c.relrowsecurity AS secured,
        COALESCE(k.keys, '{}') AS keys,
        COALESCE(k.deferrable, false) AS deferrable
    FROM pg_class AS c
    LEFT JOIN LATERAL (
        SELECT
            array_agg(key.columns) FILTER (
                WHERE i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid
            ) AS keys,
            bool_or(NOT i.indimmediate) AS deferrable
        FROM pg_index AS i
        CROSS JOIN LATERAL (
            SELECT string_agg(a.attname, ',' ORDER BY a.attname) AS columns
            FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS n (attnum, nth)
            JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = n.attnum
            WHERE n.nth <= i.indnkeyatts
        ) AS key
        WHERE i.indrelid = c.oid AND i.indisunique
    ) AS k ON true
    WHERE c.relnamespace = quote_ident(current_schema())::regnamespace
        AND c.relname IN ('symbols', 'ohlc_bars', 'watchlist_items')
"""
# Their columns: the declared type, the type below a domain, the labels of an enum.
_COLUMNS_SQL: Final = """
    SELECT
        c.relname AS relation,
        a.attname AS name,
        format_type(a.atttypid, NULL) AS type,
        format_type(COALESCE(NULLIF(t.typbasetype, 0), a.atttypid), NULL) AS base,
        pg_has_role(t.typowner, 'USAGE') AS owned,
        CASE WHEN t.typtype = 'e' THEN ARRAY(
            SELECT e.enumlabel::text
            FROM pg_enum AS e
            WHERE e.enumtypid = t.oid
            ORDER BY e.enumsortorder
        ) END AS labels,
        (a.attnotnull OR t.typnotnull) AS not_null,
        a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL AS has_default,
        a.attgenerated <> '' AS generated
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE c.relnamespace = quote_ident(current_schema())::regnamespace
        AND c.relname IN ('symbols', 'ohlc_bars', 'watchlist_items')
    ORDER BY c.relname, a.attnum
"""
# Which of our own names are taken, by a relation or a type.
_TAKEN_SQL: Final = """
    SELECT relname::text AS name
    FROM pg_class
    WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname = ANY ($1::text[])
    UNION
    SELECT typname::text
    FROM pg_type
    WHERE typnamespace = quote_ident(current_schema())::regnamespace AND typname = ANY ($1::text[])
"""
# What else decides: an enum by our name, a cast that is there already, the server, the login.
_SURROUNDINGS_SQL: Final = """
    SELECT
        to_regtype('timeframe') IS NOT NULL AS has_timeframe,
        EXISTS (
            SELECT FROM pg_cast
            WHERE castsource = 'text'::regtype AND casttarget = to_regtype($1)
        ) AS has_cast,
        current_setting('server_version_num')::integer AS server,
        has_schema_privilege(current_schema(), 'CREATE') AS may_create
"""


class Column(msgspec.Struct, frozen=True):
    """A column: its declared type, the type below a domain, and the labels of an enum."""

    type: str
    base: str
    owned: bool
    labels: list[str] | None
    not_null: bool
    has_default: bool
    generated: bool


class Table(msgspec.Struct, frozen=True):
    """A relation; ``keys`` are the columns of its unique indexes, by name, joined by commas."""

    kind: str
    owned: bool
    secured: bool
    keys: list[str]
    deferrable: bool
    columns: dict[str, Column]


class Facts(msgspec.Struct, frozen=True):
    """All that is decided from: the tables by name, and what surrounds them.

    ``taken`` are names of ours that something else has, ``server`` is Postgres' version number.
    """

    tables: dict[str, Table]
    taken: list[str]
    has_timeframe: bool
    has_cast: bool
    server: int
    may_create: bool

    @property
    def timeframe(self) -> Column:
        """The column ``ohlc_bars.timeframe``."""
        return self.tables[_BARS].columns["timeframe"]

    @property
    def has_watchlist(self) -> bool:
        """Whether there is a list of watched symbols that can be read."""
        lists = self.tables.get(_LISTS)
        return lists is not None and {"symbol_id", "added_at"} <= lists.columns.keys()

    @property
    def has_tables(self) -> bool:
        """Whether there is something to adopt."""
        return self.tables.keys() >= _NEEDED.keys()


async def facts(connection: Connection) -> Facts:
    """Look at the tables in the schema that comes first on the path."""
    columns: dict[str, dict[str, Column]] = {}
    for row in await connection.fetch(_COLUMNS_SQL):
        values = {name: row[name] for name in Column.__struct_fields__}
        columns.setdefault(row["relation"], {})[row["name"]] = Column(**values)
    tables = {
        row["name"]: Table(
            row["kind"],
            row["owned"],
            row["secured"],
            [key for key in row["keys"] if key is not None],
            row["deferrable"],
            columns.get(row["name"], {}),
        )
        for row in await connection.fetch(_TABLES_SQL)
    }
    asset_type = columns.get(_SYMBOLS, {}).get("asset_type")
    around = await connection.fetchrow(_SURROUNDINGS_SQL, asset_type.type if asset_type else "text")
    taken = sorted(row["name"] for row in await connection.fetch(_TAKEN_SQL, list(MADE)))
    return Facts(tables, taken, **around)


def refusal(found: Facts) -> str | None:
    """Return the first thing that can't be kept right, and what mends it; None if all can."""
    return next(_refusals(found), None)


def _refusals(found: Facts) -> Iterator[str]:
    for name in found.tables:
        yield from _of_table(found, name)
    timeframe = found.timeframe
    if timeframe.labels is None:
        yield f"ohlc_bars.timeframe is {timeframe.type}, not an enum of names such as d1"
    elif "." in timeframe.type:
        yield (
            f"the type {timeframe.type} is in another schema than ohlc_bars: move it there "
            f"(ALTER TYPE {timeframe.type} SET SCHEMA …)"
        )
    elif timeframe.type != "timeframe" and found.has_timeframe:
        yield f"there is a type timeframe beside {timeframe.type}; rename it"
    ids = found.tables[_SYMBOLS].columns["id"].base, found.tables[_BARS].columns["symbol_id"].base
    if ids[0] != ids[1]:
        yield f"symbols.id is {ids[0]} and ohlc_bars.symbol_id {ids[1]}; make them the same"
    if found.taken:
        yield f"names that backfill needs are taken: {', '.join(found.taken)}; rename those"
    if not found.may_create:
        yield "this login may create nothing in the schema; adopt with the login that may"


def _of_table(found: Facts, name: str) -> Iterator[str]:
    table = found.tables[name]
    if table.kind not in {"r", "p"}:
        yield f"{name} is a view or another relation, not a table"
    if not table.owned:
        yield f"the table {name} is another login's; adopt with the login that owns it"
    if name == _LISTS:
        return
    lacking = [column for column in _NEEDED[name] if column not in table.columns]
    if lacking:
        yield f"the table {name} has no column {', '.join(lacking)}"
        return
    key = "ticker" if name == _SYMBOLS else "symbol_id,timeframe,ts"
    if ",".join(sorted(key.split(","))) not in table.keys:
        yield (
            f"{name} may hold a {'ticker' if name == _SYMBOLS else 'bar'} twice: "
            f"CREATE UNIQUE INDEX ON {name} ({key.replace(',', ', ')}) first"
        )
    if table.deferrable:
        yield f"{name} has a deferrable unique constraint, which no upsert can use"
    for column, of in table.columns.items():
        yield from _of_column(name, column, of)


def _of_column(table: str, name: str, column: Column) -> Iterator[str]:
    where = f"{table}.{name}"
    allowed = _NEEDED[table].get(name) or _ALLOWED[table].get(name)
    if table == _SYMBOLS and name in _OWN:
        yield f"{where} is there already, and backfill keeps something else by that name; rename it"
    if table == _BARS and name == "ts" and column.base == "timestamp without time zone":
        yield (
            f"{where} has no time zone, so its hours can't be told: "
            f"ALTER TABLE {table} ALTER {name} TYPE timestamptz USING {name} AT TIME ZONE 'UTC', "
            "if UTC is what it holds"
        )
    elif column.labels is not None and name in _NAMES:
        if not column.owned:
            yield f"the type {column.type} is another login's; adopt with the login that owns it"
    elif allowed and column.base not in allowed:
        kinds = " or ".join(sorted(allowed))
        yield f"{where} is {column.base}, and only {kinds} keeps its values as they are"
    if column.generated and (allowed or name in _FILLED[table]):
        yield f"{where} is generated, so backfill can't write it"
    elif column.not_null and name in {"vwap", "trade_count"}:
        yield f"{where} may not be null, and not every bar has one: DROP NOT NULL first"
    elif (
        column.not_null
        and not column.has_default
        and not column.generated
        and name not in _FILLED[table]
    ):
        yield (
            f"{where} may not be null and has no default, and backfill has no value for it: "
            f"ALTER TABLE {table} ALTER {name} SET DEFAULT … first"
        )


def known_timeframes(found: Facts) -> tuple[list[str], list[str]]:
    """Return the enum's labels that are timeframes here, and those that are not."""
    ours = set(map(str, Timeframe))
    labels = found.timeframe.labels or []
    return [one for one in labels if one in ours], [one for one in labels if one not in ours]
