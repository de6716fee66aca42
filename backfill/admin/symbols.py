"""What becomes of a symbol: set aside and taken back, trimmed, deleted."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from uuid import uuid4

from backfill.core.calendar import bar_begins, trade_date
from backfill.core.series import Symbol
from backfill.errors import UsageError
from backfill.run.connect import opened
from backfill.run.spelled import see_spelled
from backfill.run.symbol_events import SymbolEvent, watched_events
from backfill.run.venues import check_venues
from backfill.settings import Settings
from backfill.store import precedence, removal, retirement, universe
from backfill.store.pool import Connection
from backfill.store.removal import Removed
from backfill.store.retirement import Restored, Retired
from backfill.store.times import to_ms


@dataclass(frozen=True, slots=True)
class Deleted:
    """A symbol that is gone, and how many bars went with it, those in quarantine apart."""

    ticker: str
    bars: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A symbol whose history begins with a day now, and how many bars went for that."""

    ticker: str
    kept_from: date
    bars: int
    quarantined: int


async def add(settings: Settings, tickers: list[str]) -> list[Symbol]:
    """Register symbols and return them; the first run that has bars of one confirms it.

    Raises
    ------
    UsageError
        If a ticker has no valid form, is surely none, or has a suffix that names no provider.
    """
    check_venues(settings, tickers)

    async def work(connection: Connection) -> list[Symbol]:
        await see_spelled(connection, tickers)
        return await universe.register(connection, tickers)

    async with opened(settings) as database:
        return await database.run(work)


async def listed(settings: Settings) -> list[Symbol]:
    """Return the symbols that are confirmed or watched."""
    async with opened(settings) as database:
        return await database.run(universe.known_symbols)


async def listed_with_events(settings: Settings) -> tuple[list[Symbol], list[SymbolEvent]]:
    """Return the symbols as `listed` does, and what became of those that are watched."""

    async def load(connection: Connection) -> tuple[list[Symbol], list[SymbolEvent]]:
        return await universe.known_symbols(connection), await watched_events(connection)

    async with opened(settings) as database:
        return await database.run(load)


async def prefer(settings: Settings, tickers: list[str]) -> list[str]:
    """Put sources of one instrument before its others, for the view `ohlc_bars_composed`.

    Returns the tickers of the plain symbol and its listings, in their order from now on.

    Raises
    ------
    UsageError
        If one isn't known, or they aren't of one instrument.
    """

    async def work(connection: Connection) -> list[str]:
        symbols = [await universe.known(connection, one) for one in tickers]
        plain = [one.id if one.listing_of is None else one.listing_of for one in symbols]
        for one, of in zip(symbols, plain, strict=True):
            if of != plain[0]:
                raise UsageError(
                    f"{one.ticker} is not of the instrument of {symbols[0].ticker}: name a plain "
                    "symbol and its listings (BTC/USD BTC/USD@coinbase); nothing was changed"
                )
        return await precedence.prefer(connection, symbols)

    async with opened(settings) as database:
        return await database.run(work)


async def retire(settings: Settings, ticker: str, *, sure: bool) -> Retired:
    """Set a symbol aside under a dated name, and free its ticker.

    Raises
    ------
    UsageError
        If it can't be, or looks alive and nobody is ``sure``.
    """
    today = datetime.now(UTC).date()
    async with opened(settings) as database:
        return await database.run(partial(retirement.retire, ticker=ticker, today=today, sure=sure))


async def restore(settings: Settings, name: str) -> Restored:
    """Give a symbol that was set aside its ticker back.

    Raises
    ------
    UsageError
        If it can't be.
    """
    async with opened(settings) as database:
        return await database.run(partial(retirement.restore, name=name))


async def delete(settings: Settings, ticker: str, *, sure: bool) -> Deleted:
    """Remove a symbol with all its rows, some at a time; a call that was ended is gone on with.

    Raises
    ------
    UsageError
        If it can't be, or nobody is ``sure``: it says what would go.
    """
    async with opened(settings) as database:
        held = await database.run(partial(removal.held, ticker=ticker))
        symbol = held.symbol
        if not sure:
            count = sum(held.bars.values())
            raise UsageError(
                f"{symbol.ticker} holds {count:,} bars ({', '.join(held.bars) or 'no series'}); "
                "nothing was deleted. To remove it with all of them for good: "
                f"backfill symbols delete {symbol.ticker} --yes"
            )
        every = Removed()
        while not every.is_last:
            every.add(await database.run(partial(removal.delete_some, symbol=symbol)))
        return Deleted(symbol.ticker, every.bars, every.quarantined)


async def trim(settings: Settings, ticker: str, day: date) -> Trimmed:
    """Remove what is stored of a symbol from before a day, some at a time, and want it no more.

    Raises
    ------
    UsageError
        If it can't be, or nothing would be left.
    """
    if day > datetime.now(UTC).date():
        raise UsageError(f"{day} lies ahead: nothing of {ticker} would be kept")
    async with opened(settings) as database:
        held = await database.run(partial(removal.held, ticker=ticker))
        symbol = held.symbol
        if held.newest and all(
            to_ms(newest) < bar_begins(symbol.calendar, day, timeframe)
            for timeframe, newest in held.newest.items()
        ):
            last = max(trade_date(symbol.calendar, to_ms(one)) for one in held.newest.values())
            raise UsageError(
                f"nothing of {symbol.ticker} would be left: its newest bar is of {last}. To remove "
                f"all of it: backfill symbols delete {symbol.ticker}"
            )
        trim = partial(removal.trim_some, trim_id=uuid4(), symbol=symbol, day=day)
        every = Removed()
        while not every.is_last:
            every.add(await database.run(trim))
        return Trimmed(symbol.ticker, day, every.bars, every.quarantined)
