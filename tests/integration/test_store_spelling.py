"""One instrument is one row, whoever writes it how; and what belongs to it reaches every venue."""

import asyncio
from datetime import date
from uuid import UUID, uuid4

import pytest

from backfill.core.series import Alias, Symbol
from backfill.core.ticker import spelling_of
from backfill.core.timeframe import Timeframe
from backfill.errors import UsageError
from backfill.store import actions, life, progress, spelling, universe
from backfill.store.pool import Connection, Database
from tests.integration.store_kit import new_series, rows, value

pytestmark = pytest.mark.one_database

RUN = UUID(int=3)
BARS = """
    INSERT INTO ohlc_bars (symbol_id, timeframe, ts, open, high, low, close, volume)
    SELECT $1, 'd1', day + interval '5 hours', price, price, price, price, 100
    FROM (VALUES
        (timestamptz '2024-06-03 00:00Z', 400.0::double precision), ('2024-06-04 00:00Z', 404.0),
        ('2024-06-05 00:00Z', 101.0), ('2024-06-06 00:00Z', 102.0)
    ) AS b (day, price)
    RETURNING ts
"""
PROGRESS = """
    UPDATE backfill_progress
    SET provider = 'massive', feed = 'sip', adjustment = 'raw', newest_bar = '2024-06-06 05:00Z',
        oldest_bar = '2024-06-03 05:00Z', coverage = '{[2024-06-03 04:00Z,2024-06-07 04:00Z)}'
    WHERE symbol_id = $1
    RETURNING symbol_id
"""
SPLIT = """
    INSERT INTO splits (ticker, execution_date, split_from, split_to)
    VALUES ($1, '2024-06-05', 1, 4)
    RETURNING ticker
"""
WAITS = """
    SELECT EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    )
"""
ADJUSTED = "SELECT close FROM ohlc_bars_adjusted WHERE symbol_id = $1 ORDER BY ts"


async def register(database: Database, *tickers: str) -> list[Symbol]:
    return await database.run(lambda connection: universe.register(connection, tickers))


async def with_bars(database: Database, ticker: str) -> Symbol:
    """A symbol with four daily bars of it, between which its price falls to a quarter."""
    [series] = await new_series(database, ticker, Timeframe.d1)
    await database.run(lambda connection: progress.claim(connection, [series], uuid4()))
    await rows(database, BARS, series.symbol.id)
    await rows(database, PROGRESS, series.symbol.id)
    return series.symbol


async def test_whoever_adds_one_instrument_at_once_in_two_spellings_adds_one_row(
    database: Database, database_url: str
) -> None:
    async with Database.connect(database_url) as other:
        waiting: list[asyncio.Task[list[Symbol]]] = []

        async def first(connection: Connection) -> list[Symbol]:
            found = await universe.register(connection, ["BTC/USD"])
            waiting.append(asyncio.create_task(register(other, "BTC-USD")))
            while not waiting[0].done() and not await value(database, WAITS):
                await asyncio.wait(waiting, timeout=0.01)
            return found

        assert await database.run(first) == await waiting[0]


async def test_of_several_spellings_at_once_the_first_is_the_name(database: Database) -> None:
    [symbol] = await register(database, "BRK-B", "BRK.B")
    assert symbol.ticker == "BRK-B"
    assert (await register(database, "BRK.B", "BTC-USDT", "BTC/USD"))[0] == symbol
    tether, dollar = await register(database, "BTCUSDT", "BTCUSD")
    assert (tether.ticker, dollar.ticker) == ("BTC-USDT", "BTC/USD")


async def test_two_pairs_that_one_word_would_stand_for_are_told_apart(database: Database) -> None:
    await register(database, "BTC/USDT")
    with pytest.raises(UsageError, match="BTCU/SDT can't be told from another symbol"):
        await register(database, "BTCU/SDT")


async def test_rows_that_were_written_by_hand_in_two_spellings_each_stay_what_they_are(
    database: Database,
) -> None:
    await rows(
        database,
        "INSERT INTO symbols (ticker, asset_type) VALUES ('BRK.B', 'stock'), ('BRK-B', 'stock') "
        "RETURNING id",
    )
    found = await register(database, "BRK-B", "BRK.B")
    assert [one.ticker for one in found] == ["BRK-B", "BRK.B"]


async def test_a_spelling_is_one_symbol_s_until_no_series_is_from_it(database: Database) -> None:
    plain, venue = await register(database, "ETH/USD", "ETH/USD@tiny")

    async def spell(symbol: Symbol) -> object:
        wanted = [(symbol.id, "tiny", "ETH_USD")]
        return await database.run(lambda one: spelling.spell(one, wanted))

    assert venue.listing_of == plain.id
    assert await spell(plain) == {}
    assert await spell(venue) == {}  # nothing is from there
    assert await value(database, "SELECT symbol_id FROM provider_symbols") == venue.id
    await rows(
        database,
        "INSERT INTO backfill_progress (symbol_id, timeframe, provider) VALUES ($1, 'd1', 'tiny') "
        "RETURNING 1",
        venue.id,
    )
    assert await spell(plain) == {(plain.id, "tiny"): "ETH/USD@tiny"}
    assert [one.spelled_at for one in await register(database, "ETH/USD", "ETH/USD@tiny")] == [
        (), ("tiny",),
    ]  # fmt: skip


@pytest.mark.parametrize(("plain", "venue"), [("AAPL", "AAPL@tiny"), ("BRK-B", "BRK.B@tiny")])
async def test_a_split_reaches_every_venue_s_bars_under_whatever_name_it_is_listed(
    database: Database, plain: str, venue: str
) -> None:
    [symbol] = await register(database, plain)
    other = await with_bars(database, venue)
    await rows(database, SPLIT, symbol.listed_as)

    # Nothing is stored of the plain symbol: the venue's closes show that the split was one.
    await database.run(lambda connection: actions.judge_splits(connection, date(2024, 7, 1)))
    assert await rows(database, "SELECT status, tested, symbol_id FROM splits") == [
        ("applied", True, None)
    ]
    assert [row[0] for row in await rows(database, ADJUSTED, other.id)] == [100, 101, 101, 102]

    own = await with_bars(database, plain)
    await rows(database, "UPDATE splits SET symbol_id = $1 RETURNING 1", own.id)
    for one in (own, other):
        assert [row[0] for row in await rows(database, ADJUSTED, one.id)] == [100, 101, 101, 102]


async def test_a_former_name_is_every_venue_s_and_what_was_asked_under_another_leaves_all(
    database: Database,
) -> None:
    own = await with_bars(database, "META")
    other = await with_bars(database, "META@tiny")
    was = (Alias("FB", date(2012, 5, 18), date(2024, 6, 5)),)

    # The venue's provider told it, and it is the instrument's.
    left = await database.run(
        lambda connection: life.note_names(connection, RUN, other, was, date(2012, 5, 18))
    )

    assert left == 4
    found = await register(database, "META", "META@tiny")
    assert [one.aliases for one in found] == [was, was]
    assert await value(database, "SELECT DISTINCT symbol_id FROM symbol_aliases") == own.id
    for symbol in found:
        assert symbol.on(date(2020, 1, 2)).listed_as == "FB"
        assert await value(
            database, "SELECT count(*) FROM ohlc_bars WHERE symbol_id = $1", symbol.id
        ) == 2  # fmt: skip


def test_a_venue_s_ticker_is_another_symbol_than_the_plain_one() -> None:
    assert spelling_of("BTC-USD@kraken") == spelling_of("XXBTZUSD@kraken") != spelling_of("BTCUSD")


JUDGED = """
    SELECT ticker, execution_date, status, tested, symbol_id
    FROM splits
    ORDER BY ticker, execution_date
"""


async def test_splits_under_the_names_of_some_symbols_are_judged_as_among_all(
    database: Database,
) -> None:
    own, heir, other = [await with_bars(database, one) for one in ("META", "FB", "OTHER")]
    was = (Alias("FB", date(2012, 5, 18), date(2022, 6, 9)),)
    await database.run(
        lambda connection: life.note_names(connection, RUN, own, was, date(2012, 5, 18))
    )
    for ticker in ("META", "FB", "OTHER"):
        await rows(database, SPLIT, ticker)
    await rows(database, SPLIT.replace("2024-06-05", "2020-06-05"), "FB")

    async def judged(*symbols: Symbol) -> list[tuple[object, ...]]:
        named = [one.id for one in symbols] or None
        day = date(2024, 7, 1)
        await database.run(lambda one: actions.judge_splits(one, day, named))
        return [tuple(row) for row in await rows(database, JUDGED)]

    whole = await judged()
    assert {row[2] for row in whole} == {"applied"}
    afresh = "UPDATE splits SET status = 'announced', tested = false, symbol_id = NULL RETURNING 1"
    await rows(database, afresh)
    some = await judged(heir)
    assert [row for row in some if row[0] == "FB"] == [row for row in whole if row[0] == "FB"]
    assert {row[2] for row in some if row[0] != "FB"} == {"announced"}
    await judged(own)
    assert await judged(other) == whole
