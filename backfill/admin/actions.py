"""Splits that a user lists, sets and drops; what is set by hand no listing overwrites."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

from backfill.core.series import Symbol
from backfill.core.splits import Ratio
from backfill.run.connect import opened
from backfill.settings import Settings
from backfill.store import actions, by_hand, universe
from backfill.store.by_hand import SplitRow
from backfill.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Correction:
    """What is right of a symbol's split on a day: its ratio, the day on which it was, or both."""

    ticker: str
    day: date
    ratio: Ratio | None
    moved_to: date | None


async def listed(settings: Settings, tickers: list[str] | None) -> list[SplitRow]:
    """Return the splits of symbols, of all that are known where none are named.

    Raises
    ------
    UsageError
        If one is not known.
    """

    async def work(connection: Connection) -> list[SplitRow]:
        found = [await universe.known_plain(connection, one) for one in tickers or ()]
        named = [one.ticker for one in found] or None
        return await by_hand.listed_splits(connection, named)

    async with opened(settings) as database:
        return await database.run(work)


async def correct(settings: Settings, correction: Correction) -> list[SplitRow]:
    """Set a split by hand, and return the symbol's.

    Raises
    ------
    UsageError
        If the symbol is not known, or no such split and no ratio is told.
    """

    async def change(connection: Connection, symbol: Symbol, now: datetime) -> None:
        await by_hand.set_split(
            connection, symbol, correction.day, correction.ratio, correction.moved_to, now
        )

    return await _changed(settings, correction.ticker, change)


async def drop(settings: Settings, ticker: str, day: date) -> list[SplitRow]:
    """Note that a symbol had no split on a day, and return the others.

    Raises
    ------
    UsageError
        If the symbol is not known, or has none that day.
    """

    async def change(connection: Connection, symbol: Symbol, _now: datetime) -> None:
        await by_hand.drop_split(connection, symbol, day)

    return await _changed(settings, ticker, change)


async def _changed(
    settings: Settings,
    ticker: str,
    change: Callable[[Connection, Symbol, datetime], Awaitable[None]],
) -> list[SplitRow]:
    """Change a split of a symbol; judge all anew, since one may stand for another."""
    now = datetime.now(UTC)

    async def work(connection: Connection) -> list[SplitRow]:
        symbol = await universe.known_plain(connection, ticker)
        await change(connection, symbol, now)
        await actions.judge_splits(connection, now.date())
        return await by_hand.listed_splits(connection, [symbol.ticker])

    async with opened(settings) as database:
        return await database.run(work)
