"""The tables as the contracts list them, asked of Postgres itself."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from tests.conftest import _fresh
from tests.integration.store_kit import connection_to

_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN '!' ELSE '' END
    FROM pg_attribute
    WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
"""
_KEY = """
    SELECT array_agg(attname ORDER BY array_position(conkey, attnum))
    FROM pg_constraint
    JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
    WHERE conrelid = $1::regclass AND contype = 'p'
"""
_BAR = "INSERT INTO ohlc_bars VALUES ($1, 'd1', $2::text::timestamptz, $3, $4, $5, $6, $7, $8, $9)"
SOUND = {"open": 2.0, "high": 3.0, "low": 1.0, "close": 2.5, "volume": 0.0}
NAN, INF = float("nan"), float("inf")

# A "!" after a type: the column refuses NULL.
CONTRACT: dict[str, dict[str, str]] = {
    "symbols": {
        "id": "integer!",
        "ticker": "text!",
        "asset_type": "text!",
        "calendar": "text!",
        "listed_on": "date",
        "delisted_on": "date",
        "confirmed_at": "timestamp with time zone",
    },
    "ohlc_bars": {
        "symbol_id": "integer!",
        "timeframe": "timeframe!",
        "ts": "timestamp with time zone!",
        "open": "double precision!",
        "high": "double precision!",
        "low": "double precision!",
        "close": "double precision!",
        "volume": "double precision!",
        "vwap": "double precision",
        "trade_count": "bigint",
    },
    "backfill_runs": {
        "run_id": "uuid!",
        "started_at": "timestamp with time zone!",
        "finished_at": "timestamp with time zone",
        "mode": "text!",
        "status": "text!",
        "symbols_processed": "integer!",
        "calls": "integer!",
        "bars_inserted": "bigint!",
        "bars_updated": "bigint!",
        "bars_unchanged": "bigint!",
        "bars_rejected": "bigint!",
        "error": "text",
    },
    "backfill_progress": {
        "symbol_id": "integer!",
        "timeframe": "timeframe!",
        "provider": "text",
        "feed": "text",
        "adjustment": "text",
        "derived_from": "timeframe",
        "coverage": "tstzmultirange!",
        "wanted_from": "timestamp with time zone",
        "oldest_bar": "timestamp with time zone",
        "newest_bar": "timestamp with time zone",
        "claimed_by": "uuid",
        "claimed_until": "timestamp with time zone",
        "last_updated": "timestamp with time zone",
        "denied_range": "tstzrange",
        "denied_until": "timestamp with time zone",
    },
    "known_empty": {
        "symbol_id": "integer!",
        "timeframe": "timeframe!",
        "month": "date!",
        "reason": "text!",
        "asked_on": "date!",
        "slots": "tstzmultirange!",
        "expires_at": "timestamp with time zone",
        "confirmed_on": "date",
    },
    "watchlist": {"symbol_id": "integer!", "timeframes": "timeframe[]!", "since": "text"},
    "quarantined_bars": {
        "symbol_id": "integer!",
        "timeframe": "timeframe!",
        "ts": "timestamp with time zone!",
        "reason": "text!",
        "raw": "jsonb!",
    },
    "splits": {"ticker": "text!", "execution_date": "date!", "status": "text!"},
    "market_sessions": {
        "calendar": "text!",
        "session": "date!",
        "opens_at": "timestamp with time zone",
        "closes_at": "timestamp with time zone",
        "manual": "boolean!",
    },
    "market_hours": {
        "calendar": "text!",
        "feed": "text!",
        "first_session": "date!",
        "last_session": "date!",
        "opens": "time without time zone!",
        "closes": "time without time zone!",
        "night_opens": "time without time zone",
        "manual": "boolean!",
    },
    "provider_quota": {
        "provider": "text!",
        "key_id": "text!",
        "next_at": "timestamp with time zone!",
    },
    "archive_files": {
        "provider": "text!",
        "path": "text!",
        "etag": "text!",
        "checksum": "text",
        "bytes": "bigint!",
        "read_at": "timestamp with time zone!",
    },
}
KEYS = {
    "symbols": ["id"],
    "ohlc_bars": ["symbol_id", "timeframe", "ts"],
    "backfill_runs": ["run_id"],
    "backfill_progress": ["symbol_id", "timeframe"],
    "known_empty": ["symbol_id", "timeframe", "month", "reason", "asked_on"],
    "watchlist": ["symbol_id"],
    "splits": ["ticker", "execution_date"],
    "market_sessions": ["calendar", "session"],
    "market_hours": ["calendar", "feed", "first_session", "last_session", "manual"],
    "provider_quota": ["provider", "key_id"],
    "archive_files": ["provider", "path", "etag"],
}


@pytest.fixture(scope="module")
def schema_url(server: str, template: str) -> Iterator[str]:
    """The URL of a database that the tests of this file share, and leave without rows."""
    yield from _fresh(server, template)


@pytest.fixture
async def owner(schema_url: str) -> AsyncIterator[Any]:
    """A plain connection as the owner of the tables, in a transaction that is taken back."""
    async with connection_to(schema_url) as connection:
        trial = connection.transaction()
        await trial.start()
        yield connection
        await trial.rollback()


@pytest.mark.parametrize("table", CONTRACT)
async def test_a_table_has_the_columns_of_the_contract(owner: Any, table: str) -> None:
    found = dict(tuple(row) for row in await owner.fetch(_COLUMNS, table))
    wanted = CONTRACT[table]
    assert {name: found.get(name) for name in wanted} == wanted


async def test_ohlc_bars_has_the_columns_of_the_contract_in_order_and_no_other(owner: Any) -> None:
    found = [row["attname"] for row in await owner.fetch(_COLUMNS, "ohlc_bars")]
    assert found == list(CONTRACT["ohlc_bars"])


@pytest.mark.parametrize("table", KEYS)
async def test_a_table_has_the_primary_key_of_the_contract(owner: Any, table: str) -> None:
    assert await owner.fetchval(_KEY, table) == KEYS[table]


async def test_nothing_but_symbols_is_ever_referred_to_and_never_by_ohlc_bars(owner: Any) -> None:
    rows = await owner.fetch(
        "SELECT conrelid::regclass::text, confrelid::regclass::text "
        "FROM pg_constraint WHERE contype = 'f'"
    )
    assert {tuple(row) for row in rows} == {
        ("backfill_progress", "symbols"),
        ("imported_files", "symbols"),
        ("provider_symbols", "symbols"),
        ("symbol_aliases", "symbols"),
        ("symbols", "symbols"),
        ("watchlist", "symbols"),
    }


async def test_the_nine_timeframes_are_the_values_of_one_type(owner: Any) -> None:
    rows = await owner.fetch("SELECT unnest(enum_range(NULL::timeframe))::text")
    names = ["m1", "m5", "m15", "m30", "h1", "h4", "d1", "w1", "mn1"]
    assert [row[0] for row in rows] == names


async def test_a_ticker_is_there_once(owner: Any) -> None:
    insert = "INSERT INTO symbols (ticker, asset_type) VALUES ('AAPL', 'stock') RETURNING id"
    assert await owner.fetchval(insert) > 0
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.fetchval(insert)


async def _store(owner: Any, **values: Any) -> None:
    row = SOUND | values
    await owner.execute(
        _BAR, 1, "2024-11-11 05:00Z", *(row[name] for name in SOUND), row.get("vwap"), None
    )


async def test_a_bar_is_found_by_the_plain_name_of_its_timeframe(owner: Any) -> None:
    await _store(owner)
    assert await owner.fetchval("SELECT count(*) FROM ohlc_bars WHERE timeframe = 'd1'") == 1
    assert await owner.fetchval("SELECT count(*) FROM ohlc_bars WHERE timeframe = 'w1'") == 0


async def test_a_bar_that_stands_still_in_price_and_volume_is_sound(owner: Any) -> None:
    await _store(owner, open=1e-300, high=1e-300, low=1e-300, close=1e-300)
    assert await owner.fetchval("SELECT volume = 0 FROM ohlc_bars")


@pytest.mark.parametrize(
    "values",
    [
        *({name: NAN} for name in SOUND),
        {name: NAN for name in SOUND if name != "volume"},
        *({name: INF} for name in SOUND),
        *({name: -INF} for name in SOUND),
        {"open": INF, "high": INF},
        {name: INF for name in SOUND if name != "volume"},
        {"low": 0.0},
        {"low": -1.0},
        {"low": 2.25},  # above open
        {"low": 3.5},  # above high
        {"close": 0.5},
        {"open": 3.5},
        {"close": 3.5},
        {"high": 2.25},  # below close
        {"volume": -1.0},
        {"volume": -5e-324},
    ],
    ids=str,
)
async def test_a_bar_that_cannot_be_true_is_refused_by_the_table(
    owner: Any, values: dict[str, float]
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await _store(owner, **values)


@pytest.mark.parametrize("column", SOUND)
async def test_prices_and_volume_are_never_unknown(owner: Any, column: str) -> None:
    with pytest.raises(asyncpg.NotNullViolationError):
        await _store(owner, **{column: None})


async def test_a_status_that_nobody_knows_is_refused(owner: Any) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.execute(
            "INSERT INTO backfill_runs (run_id, mode, provider, status) "
            "VALUES (gen_random_uuid(), 'default', 'massive', 'done')"
        )


async def test_a_reason_that_nobody_knows_is_refused(owner: Any) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.execute("INSERT INTO known_empty VALUES (1, 'd1', '2024-11-01', 'lost', '{}')")
