"""Symbols and the watchlist: which series there are to keep (R25)."""

import asyncio
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

import pytest

from backfill.core.checks import Reason
from backfill.core.series import Symbol
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Reference
from backfill.errors import UsageError
from backfill.store import universe
from backfill.store.holdings import Holding, holdings
from backfill.store.pool import Database
from backfill.store.status import claimed_series, quarantined
from backfill.store.times import to_time
from tests.integration.store_kit import (
    START,
    bar,
    chunk,
    claimed,
    minutes,
    new_series,
    rows,
    value,
    write,
)

pytestmark = pytest.mark.one_database


async def _register(database: Database, *tickers: str) -> list[Symbol]:
    return await database.run(lambda connection: universe.register(connection, tickers))


async def _watch(
    database: Database, tickers: list[str], *timeframes: Timeframe, since: str | None = None
) -> None:
    await database.run(
        lambda connection: universe.watch(
            connection, tickers, universe.WatchChange(timeframes or None, since)
        )
    )


async def _forget(database: Database, *symbols: Symbol) -> None:
    ids = [symbol.id for symbol in symbols]
    await database.run(lambda connection: universe.forget(connection, ids))


async def _tickers(database: Database) -> list[str]:
    return [row["ticker"] for row in await rows(database, "SELECT ticker FROM symbols ORDER BY 1")]


async def test_new_symbols_are_registered_in_the_order_given_with_what_their_form_tells(
    database: Database,
) -> None:
    found = await _register(database, "MSFT", "X:BTCUSD", "AAPL", "MSFT")
    assert [(one.ticker, one.asset_type, one.calendar, one.confirmed) for one in found] == [
        ("MSFT", "stock", "XNYS", False),
        ("X:BTCUSD", "crypto", "24/7", False),
        ("AAPL", "stock", "XNYS", False),
    ]


async def test_a_symbol_that_is_there_keeps_its_id_and_what_is_known_of_it(
    database: Database,
) -> None:
    (first,) = await _register(database, "AAPL")
    await rows(database, "UPDATE symbols SET calendar = '24/7', listed_on = '1980-12-12'")
    other, again = await _register(database, "MSFT", "AAPL")
    assert (again.id, again.calendar, again.listed_on) == (first.id, "24/7", date(1980, 12, 12))
    assert other.id != first.id


async def test_one_bad_ticker_registers_none(database: Database) -> None:
    with pytest.raises(UsageError, match="is not a symbol"):
        await _register(database, "AAPL", "DROP TABLE")
    assert await _tickers(database) == []


async def test_a_ticker_is_bound_and_never_read_as_sql(database: Database) -> None:
    quoted = "A'; DROP TABLE symbols; --"
    found = await database.run(lambda connection: universe.by_ticker(connection, [quoted]))
    assert found == []
    await _watch(database, ["AAPL"], Timeframe.d1, since="'); DROP TABLE symbols; --")
    assert await value(database, "SELECT since FROM watchlist") == "'); DROP TABLE symbols; --"


async def test_registering_the_same_symbols_at_once_gives_everyone_the_same_ids(
    database: Database,
) -> None:
    found = await asyncio.gather(*(_register(database, "AAPL", "MSFT", "NVDA") for _ in range(6)))
    assert all(one == found[0] for one in found)
    assert len(await _tickers(database)) == 3


async def test_tickers_that_are_not_there_are_left_out_and_the_order_kept(
    database: Database,
) -> None:
    aapl, msft = await _register(database, "AAPL", "MSFT")
    asked = ["MSFT", "GONE", "AAPL"]
    found = await database.run(lambda connection: universe.by_ticker(connection, asked))
    assert found == [msft, aapl]


async def test_the_watchlist_holds_what_was_put_on_it(database: Database) -> None:
    await _watch(database, ["MSFT", "AAPL"], Timeframe.m1, Timeframe.d1, since="2y")
    await _watch(database, ["NVDA"], Timeframe.w1)
    entries = await database.run(universe.watched)
    assert [
        (entry.symbol.ticker, entry.timeframes, entry.since, entry.paused) for entry in entries
    ] == [
        ("AAPL", (Timeframe.m1, Timeframe.d1), "2y", False),
        ("MSFT", (Timeframe.m1, Timeframe.d1), "2y", False),
        ("NVDA", (Timeframe.w1,), None, False),
    ]


async def test_watching_again_changes_what_is_named_and_nothing_else(database: Database) -> None:
    async def change(**named: Any) -> tuple[Any, ...]:
        change = universe.WatchChange(**named)
        await database.run(lambda connection: universe.watch(connection, ["AAPL"], change))
        (entry,) = await database.run(universe.watched)
        return entry.timeframes, entry.since, entry.priority, entry.provider, entry.paused

    minutes_and_days = (Timeframe.m1, Timeframe.d1)
    assert await change(timeframes=minutes_and_days, since="2y", provider="massive") == (
        *(minutes_and_days, "2y", 0, "massive", False),
    )
    await rows(database, "UPDATE watchlist SET paused = true")
    assert await change(priority=5) == (minutes_and_days, "2y", 5, "massive", True)
    assert await change(since="90d") == (minutes_and_days, "90d", 5, "massive", True)
    assert await change(timeframes=(Timeframe.w1,)) == (
        *((Timeframe.w1,), "90d", 5, "massive", True),
    )
    assert await change() == ((Timeframe.w1,), "90d", 5, "massive", True)
    assert await change(since="default", provider="default", priority=0) == (
        *((Timeframe.w1,), None, 0, None, True),
    )


async def test_unwatching_says_what_was_watched_and_keeps_symbols_and_bars(
    database: Database,
) -> None:
    run_id, (series,) = await claimed(database, "AAPL")
    await write(database, run_id, chunk(series, minutes(3)))
    await _watch(database, ["AAPL", "MSFT"], Timeframe.d1)
    await _register(database, "NVDA")
    gone = await database.run(
        lambda connection: universe.unwatch(connection, ["AAPL", "NVDA", "GONE"])
    )
    assert gone == ["AAPL"]
    assert [one.symbol.ticker for one in await database.run(universe.watched)] == ["MSFT"]
    assert await _tickers(database) == ["AAPL", "MSFT", "NVDA"]
    assert await value(database, "SELECT count(*) FROM ohlc_bars") == 3


async def test_known_symbols_are_those_confirmed_or_watched_by_ticker(database: Database) -> None:
    zts, aapl, _ = await _register(database, "ZTS", "AAPL", "TYPO")
    for symbol in (zts, aapl):
        await database.run(partial(universe.confirm, symbol_ids=[symbol.id]))
    await _watch(database, ["MSFT"], Timeframe.d1)
    found = await database.run(universe.known_symbols)
    assert [(one.ticker, one.confirmed) for one in found] == [
        ("AAPL", True),
        ("MSFT", False),
        ("ZTS", True),
    ]


async def test_a_symbol_stays_confirmed_since_the_first_time(database: Database) -> None:
    (symbol,) = await _register(database, "AAPL")

    async def confirmed_at() -> Any:
        await database.run(lambda connection: universe.confirm(connection, [symbol.id]))
        return await value(database, "SELECT confirmed_at FROM symbols")

    first = await confirmed_at()
    assert first is not None
    assert await confirmed_at() == first


async def test_what_the_reference_tells_is_noted_and_what_it_leaves_out_is_kept(
    database: Database,
) -> None:
    (symbol,) = await _register(database, "META")

    async def note(**fields: Any) -> Symbol:
        reference = replace(Reference("META", None, None, None), **fields)
        await database.run(
            lambda connection: universe.note_reference(connection, symbol.id, reference)
        )
        return (await _register(database, "META"))[0]

    listed, delisted = date(2012, 5, 18), date(2024, 1, 2)
    found = await note(listed_on=listed, delisted_on=delisted, figi="BBG000MM2P62")
    assert found.confirmed
    assert found.reference_at is not None
    assert (found.listed_on, found.delisted_on) == (listed, delisted)
    found = await note()
    assert (found.listed_on, found.delisted_on) == (listed, None)
    assert await value(database, "SELECT figi FROM symbols") == "BBG000MM2P62"


async def test_a_symbol_that_nobody_knows_leaves_nothing(database: Database) -> None:
    _, series = await claimed(database, "TYPO", Timeframe.m1, Timeframe.d1)
    _, others = await claimed(database, "AAPL")
    await _forget(database, series[0].symbol)
    assert await _tickers(database) == ["AAPL"]
    left = await rows(database, "SELECT symbol_id FROM backfill_progress")
    assert [row[0] for row in left] == [others[0].symbol.id]


async def test_a_watched_symbol_that_nobody_knows_stays_watched(database: Database) -> None:
    _, (series,) = await claimed(database, "SOON")
    await _watch(database, ["SOON"], Timeframe.d1)
    await _forget(database, series.symbol)
    assert await _tickers(database) == ["SOON"]
    assert len(await database.run(universe.watched)) == 1
    assert await value(database, "SELECT count(*) FROM backfill_progress") == 0


async def test_a_confirmed_symbol_is_never_forgotten(database: Database) -> None:
    _, (series,) = await claimed(database, "AAPL")
    (without_progress,) = await _register(database, "MSFT")
    both = series.symbol, without_progress
    for symbol in both:
        await database.run(partial(universe.confirm, symbol_ids=[symbol.id]))
    await _forget(database, *both)
    assert await _tickers(database) == ["AAPL", "MSFT"]
    assert await value(database, "SELECT count(*) FROM backfill_progress") == 1


async def test_what_is_held_is_counted_by_series(database: Database) -> None:
    run_id, (m1, d1) = await claimed(database, "AAPL", Timeframe.m1, Timeframe.d1)
    other_run, (other,) = await claimed(database, "MSFT")
    bars = minutes(5)
    await write(database, run_id, chunk(m1, bars), chunk(d1))
    bad = Reason.price
    await write(
        database,
        other_run,
        chunk(other, bar(), rejected=minutes(2, START + 1), reasons=(bad, bad)),
    )
    assert await database.run(lambda it: holdings(it, [m1, other])) == {
        m1.key: Holding(5, to_time(START), to_time(int(bars.ts_ms[-1]))),
        other.key: Holding(1, to_time(START), to_time(START)),
    }
    assert await database.run(quarantined) == {other.key: 2}
    assert await database.run(claimed_series) == [m1.key, d1.key, other.key]
    await new_series(database, "NVDA")
    assert len(await database.run(claimed_series)) == 3
