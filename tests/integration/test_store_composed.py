"""`ohlc_bars_composed`: of each slot of an instrument the bar of the first source that has one."""

import json
import random
from collections.abc import Iterator
from typing import Any, Final

import pytest

from backfill import api
from backfill.admin.symbols import prefer
from backfill.errors import UsageError
from backfill.settings.environment import Secret
from backfill.store import universe
from backfill.store.pool import Database
from tests.integration.store_kit import connection_to, rows, value

pytestmark = pytest.mark.one_database

COINBASE, KRAKEN = "BTC/USD@coinbase", "BTC/USD@kraken"
COMPOSED: Final = """
    SELECT extract(epoch FROM c.ts)::integer / 60, c.source_symbol, c.provider, c.close
    FROM ohlc_bars_composed AS c
    JOIN symbols AS s ON s.id = c.symbol_id
    WHERE s.ticker = $1 AND c.timeframe = 'm1'
    ORDER BY c.ts
"""
ADD: Final = """
    INSERT INTO ohlc_bars (symbol_id, timeframe, ts, open, high, low, close, volume)
    SELECT s.id, 'm1', to_timestamp(60 * minute), s.id, s.id, s.id, s.id, 1
    FROM symbols AS s, unnest($2::integer[]) AS minute
    WHERE s.ticker = $1
    RETURNING symbol_id
"""
FROM: Final = """
    INSERT INTO backfill_progress (symbol_id, timeframe, provider, feed, adjustment, invalidated)
    SELECT id, 'm1', $2, 'f', $3, $4::text::tstzmultirange FROM symbols WHERE ticker = $1
    RETURNING symbol_id
"""


@pytest.fixture
def settings(database_url: str) -> api.Settings:
    return api.Settings(database_url=Secret(database_url))


async def hold(
    database: Database,
    ticker: str,
    minutes: Any,
    adjustment: str | None = "raw",
    invalidated: str = "{}",
) -> int:
    """Store bars of a symbol at some minutes, whose prices are the symbol's id; return that."""
    await database.run(lambda connection: universe.register(connection, [ticker]))
    provider = ticker.rpartition("@")[2] if "@" in ticker else "massive"
    await rows(database, FROM, ticker, provider, adjustment, invalidated)
    [row, *_] = await rows(database, ADD, ticker, list(minutes))
    return int(row[0])


async def composed(database: Database, ticker: str = "BTC/USD") -> dict[int, str]:
    """Whose bar the view has of each minute of a symbol."""
    return {row[0]: row[1] for row in await rows(database, COMPOSED, ticker)}


async def test_each_slot_is_the_first_source_s_that_has_it_whatever_the_order(
    database: Database, settings: api.Settings
) -> None:
    """Against a dictionary that is filled from the last source to the first."""
    dice = random.Random(19)
    sources = ["BTC/USD", COINBASE, KRAKEN]
    held = {one: sorted(dice.sample(range(60), 25)) for one in sources}
    ids = {one: await hold(database, one, minutes) for one, minutes in held.items()}
    providers = {"BTC/USD": "massive", COINBASE: "coinbase", KRAKEN: "kraken"}
    for named, order in (
        (["BTC/USD"], sources),
        ([KRAKEN], [KRAKEN, "BTC/USD", COINBASE]),
        (["btc-usd@coinbase", "BTC/USD@kraken"], [COINBASE, KRAKEN, "BTC/USD"]),
    ):
        assert await prefer(settings, named) == order
        expected = {minute: one for one in reversed(order) for minute in held[one]}
        found = await rows(database, COMPOSED, "BTC/USD")
        assert [tuple(row) for row in found] == [
            (minute, one, providers[one], ids[one]) for minute, one in sorted(expected.items())
        ]
    assert await composed(database, COINBASE) == {}  # it is of the plain symbol
    assert await value(database, "SELECT count(*) FROM ohlc_bars_composed") == len(expected)


async def test_a_symbol_without_listings_is_as_the_table_has_it(database: Database) -> None:
    stored = "SELECT * FROM ohlc_bars ORDER BY ts"
    [symbol] = await database.run(lambda connection: universe.register(connection, ["AAPL"]))
    await rows(database, ADD, "AAPL", [1, 2, 3])  # nothing is known of these, not even a provider
    seen = await rows(database, "SELECT * FROM ohlc_bars_composed ORDER BY ts")
    assert [tuple(row)[:10] for row in seen] == [tuple(row) for row in await rows(database, stored)]
    assert [tuple(row)[10:] for row in seen] == [("AAPL", None)] * 3
    assert list(seen[0].keys())[:10] == list((await rows(database, stored))[0].keys())
    assert symbol.id == seen[0]["symbol_id"]


@pytest.mark.parametrize(
    ("plain", "other", "taken"),
    [
        pytest.param("raw", "raw", {1: "AAPL", 2: "AAPL@finnhub"}, id="raw"),
        pytest.param("split", "split", {1: "AAPL", 2: "AAPL@finnhub"}, id="split"),
        pytest.param("raw", "split", {1: "AAPL"}, id="raw and split"),
        pytest.param("split", "raw", {1: "AAPL"}, id="split and raw"),
        pytest.param(None, "raw", {1: "AAPL"}, id="of the first it isn't known"),
        pytest.param(None, None, {1: "AAPL"}, id="of neither it is known"),
    ],
)
async def test_bars_of_two_adjustments_are_never_put_side_by_side(
    database: Database, plain: str | None, other: str | None, taken: dict[int, str]
) -> None:
    await hold(database, "AAPL", [1], plain)
    await hold(database, "AAPL@finnhub", [1, 2], other)
    assert await composed(database, "AAPL") == taken


@pytest.mark.parametrize("outdated", ["AAPL", "AAPL@finnhub"])
async def test_after_a_split_adjusted_sources_stand_apart_until_each_is_fetched_again(
    database: Database, outdated: str
) -> None:
    old = "{[1970-01-01 00:00Z,1970-01-02 00:00Z)}"
    for ticker, minutes in (("AAPL", [1]), ("AAPL@finnhub", [1, 2])):
        again = old if ticker == outdated else "{}"
        await hold(database, ticker, minutes, "split", again)
    assert await composed(database, "AAPL") == {1: "AAPL"}
    fetched = "UPDATE backfill_progress SET invalidated = '{}' RETURNING 1"
    await rows(database, fetched)
    assert await composed(database, "AAPL") == {1: "AAPL", 2: "AAPL@finnhub"}


@pytest.mark.parametrize(
    ("plain", "listing", "taken"),
    [
        # (loaded, asked for last), of November 2024: the 1st is a Friday.
        pytest.param((1, 8), (1, 8), "both", id="asked for on one day"),
        pytest.param((1, 8), (1, 4), "both", id="one is late, and none was found to be outdated"),
        pytest.param((6, 8), (1, 4), "plain", id="the listing was not asked for since"),
        pytest.param((1, 4), (6, 8), "plain", id="the plain one was not asked for since"),
        pytest.param((6, 8), (1, 6), "both", id="it was asked for on that day"),
        pytest.param((2, 2), (1, 1), "both", id="on a Saturday no split takes effect"),
        pytest.param((4, 4), (1, 1), "plain", id="on the Monday after it one may"),
    ],
)
@pytest.mark.parametrize("adjustment", ["split", "raw"])
async def test_a_split_adjusted_source_that_was_not_asked_for_since_another_was_loaded_stands_apart(
    database: Database,
    plain: tuple[int, int],
    listing: tuple[int, int],
    taken: str,
    adjustment: str,
) -> None:
    dated = """
        UPDATE backfill_progress
        SET loaded_at = make_timestamptz(2024, 11, $2, 15, 0, 0, 'UTC'),
            answered_at = make_timestamptz(2024, 11, $3, 15, 0, 0, 'UTC')
        WHERE symbol_id = $1
        RETURNING 1
    """
    for ticker, minutes, days in (("AAPL", [1], plain), ("AAPL@finnhub", [1, 2], listing)):
        await rows(database, dated, await hold(database, ticker, minutes, adjustment), *days)
    both = {1: "AAPL", 2: "AAPL@finnhub"}
    expected = both if taken == "both" or adjustment == "raw" else {1: "AAPL"}
    assert await composed(database, "AAPL") == expected


async def test_imported_bars_that_were_adjusted_on_a_day_nobody_knows_stand_apart(
    database: Database,
) -> None:
    await hold(database, "AAPL", [1], "split")
    await hold(database, "AAPL@import", [1, 2], "split")
    assert await composed(database, "AAPL") == {1: "AAPL"}
    await hold(database, "BTC/USD", [1], "raw")
    await hold(database, "BTC/USD@import", [1, 2], "raw")
    assert await composed(database) == {1: "BTC/USD", 2: "BTC/USD@import"}


async def test_a_preferred_source_decides_which_adjustment_is_shown(
    database: Database, settings: api.Settings
) -> None:
    await hold(database, "AAPL", [1, 2], "raw")
    await hold(database, "AAPL@finnhub", [2, 3], "split")
    await hold(database, "AAPL@alpaca", [3, 4], "raw")
    assert await composed(database, "AAPL") == {
        1: "AAPL", 2: "AAPL", 3: "AAPL@alpaca", 4: "AAPL@alpaca"
    }  # fmt: skip
    await prefer(settings, ["AAPL@finnhub"])
    assert await composed(database, "AAPL") == {2: "AAPL@finnhub", 3: "AAPL@finnhub"}


async def test_a_source_that_was_only_registered_hides_nothing(database: Database) -> None:
    """The plain symbol comes with its first listing, and may never be fetched."""
    await hold(database, COINBASE, [1, 2])
    await rows(database, FROM, "BTC/USD", None, None, "{}")  # claimed, and no page came
    assert await composed(database) == {1: COINBASE, 2: COINBASE}


async def test_dollars_and_their_coins_are_never_composed(
    database: Database, settings: api.Settings
) -> None:
    await hold(database, "BTC/USD", [1])
    await hold(database, "BTC/USDT@binance", [1, 2])
    await hold(database, "BTC/USDT", [3])
    assert await composed(database) == {1: "BTC/USD"}
    assert await composed(database, "BTC/USDT") == {
        1: "BTC/USDT@binance", 2: "BTC/USDT@binance", 3: "BTC/USDT"
    }  # fmt: skip
    with pytest.raises(UsageError, match="BTC/USDT is not of the instrument of BTC/USD"):
        await prefer(settings, ["BTC/USD", "BTC/USDT"])
    with pytest.raises(UsageError, match="BTC/USD@kraken is not known"):
        await prefer(settings, [KRAKEN])


@pytest.mark.parametrize("named", ["c.symbol_id = 1", "s.ticker = 'BTC/USD'"])
async def test_a_range_of_one_symbol_is_read_by_the_primary_key_alone(
    database: Database, database_url: str, named: str
) -> None:
    await hold(database, "BTC/USD", range(50))
    await hold(database, COINBASE, range(100))
    asked = f"""
        EXPLAIN (FORMAT json)
        SELECT c.* FROM ohlc_bars_composed AS c JOIN symbols AS s ON s.id = c.symbol_id
        WHERE {named} AND c.timeframe = 'm1' AND c.ts >= '1970-01-01 00:10Z'
            AND c.ts < '1970-01-01 00:20Z'
    """
    async with connection_to(database_url) as connection, connection.transaction():
        # There are too few rows for the planner to bother.
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = 0")
        [plan] = json.loads(await connection.fetchval(asked))
    scans = [one for one in _nodes(plan["Plan"]) if one.get("Relation Name") == "ohlc_bars"]
    assert {one.get("Index Name") for one in scans} == {"ohlc_bars_pkey"}
    assert len(scans) == 3  # has it bars at all; the range; does a source before it have the bar
    bounded = [one["Index Cond"] for one in scans if "ts >=" in one["Index Cond"]]
    assert len(bounded) == 1


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for one in plan.get("Plans", ()):
        yield from _nodes(one)


async def test_whoever_asks_the_view_asks_with_rights_of_their_own(database: Database) -> None:
    if await value(database, "SELECT current_setting('server_version_num')::integer") < 150_000:
        pytest.skip("views ask with the rights of their owner there")
    options = "SELECT reloptions FROM pg_class WHERE relname = 'ohlc_bars_composed'"
    assert await value(database, options) == ["security_invoker=true"]
