"""The files of archives that were read, and what is asked for again once one was replaced."""

from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from backfill.core.archive import FileRead, Held
from backfill.core.coverage import Span, Spans
from backfill.core.series import Series
from backfill.core.timeframe import Timeframe
from backfill.store import archive, progress, spelling, universe
from backfill.store.pool import Database
from backfill.store.times import to_ms
from tests.integration.store_kit import rows

pytestmark = pytest.mark.one_database

RUN = UUID(int=3)
JULY = Span(to_ms(datetime(2024, 7, 1, tzinfo=UTC)), to_ms(datetime(2024, 8, 1, tzinfo=UTC)))
FILE = FileRead("a/BTCUSDT-1m-2024-07.zip", "one", "00ff", 9)
HELD = Held("BTCUSDT", Timeframe.m1, JULY)
FILL = """
    UPDATE backfill_progress
    SET provider = 'binance', feed = 'spot', adjustment = 'raw',
        derived_from = CASE WHEN timeframe = 'm5' THEN 'm1'::timeframe END,
        coverage = '{[2024-06-10 00:00Z,2024-07-20 00:00Z)}'
    RETURNING symbol_id
"""


async def _kept(database: Database) -> dict[tuple[str, Timeframe], Any]:
    """Keep m1, m5 made of it, and h1 of two pairs, and return what is known of each series."""

    async def keep(connection: Any) -> None:
        symbols = await universe.register(connection, ["BTC/USDT", "ETH/USDT"])
        every = [
            Series(one, timeframe)
            for one in symbols
            for timeframe in (Timeframe.m1, Timeframe.m5, Timeframe.h1)
        ]
        await progress.claim(connection, every, RUN)
        await spelling.spell(
            connection, [(one.id, "binance", one.ticker.replace("/", "")) for one in symbols]
        )

    await database.run(keep)
    await rows(database, FILL)
    return await _known(database)


async def _known(database: Database) -> dict[tuple[str, Timeframe], Any]:
    async def load(connection: Any) -> dict[tuple[str, Timeframe], Any]:
        symbols = await universe.found_by(connection, ["BTC/USDT", "ETH/USDT"])
        every = [
            Series(one, timeframe)
            for one in symbols.values()
            for timeframe in (Timeframe.m1, Timeframe.m5, Timeframe.h1)
        ]
        known = await progress.load_progress(connection, every)
        return {(one.symbol.ticker, one.timeframe): known[one.key] for one in every}

    return await database.run(load)


async def test_a_replaced_file_takes_its_period_out_of_what_it_fed_and_of_nothing_else(
    database: Database,
) -> None:
    before = await _kept(database)
    await database.run(lambda one: archive.note_read(one, "binance", FILE))
    assert await database.run(lambda one: archive.reopen(one, "binance", FILE, HELD)) == 2
    after = await _known(database)
    for key, held in before.items():
        july = held.coverage & Spans.of(JULY)
        assert july
        fed = key in {("BTC/USDT", Timeframe.m1), ("BTC/USDT", Timeframe.m5)}
        assert after[key].coverage == (held.coverage - july if fed else held.coverage)
        # What is rolled up from it is only rolled up anew.
        again = key == ("BTC/USDT", Timeframe.m1)
        assert after[key].invalidated == (july if again else Spans())
    assert await database.run(lambda one: archive.files_read(one, "binance")) == []


async def test_a_file_of_the_whole_market_takes_its_period_out_of_all_its_symbols(
    database: Database,
) -> None:
    await _kept(database)
    market = Held(None, Timeframe.m1, JULY)
    await database.run(lambda one: archive.note_read(one, "binance", FILE))
    assert await database.run(lambda one: archive.reopen(one, "binance", FILE, market)) == 4
    assert await database.run(lambda one: archive.reopen(one, "massive", FILE, market)) == 0


async def test_every_version_of_a_file_that_was_read_is_known_once(database: Database) -> None:
    nameless = FileRead(FILE.path, None, None, 7)
    later = FileRead(FILE.path, "two", "ff00", 11)
    for file in (FILE, nameless, later, FILE):
        await database.run(partial(archive.note_read, provider="binance", file=file))
    found = await database.run(lambda one: archive.files_read(one, "binance"))
    # What nobody has looked at for longest comes first.
    assert found == [nameless, later, FILE]
    await database.run(partial(archive.note_checked, provider="binance", file=nameless))
    found = await database.run(lambda one: archive.files_read(one, "binance"))
    assert found == [later, FILE, nameless]
    assert await database.run(lambda one: archive.files_read(one, "massive")) == []
