"""Looking at the stored bars of one series, by its sessions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial

import structlog

from backfill.core.calendar import bar_begins, day_begins
from backfill.core.coverage import Spans
from backfill.core.series import Series, Symbol
from backfill.core.timeframe import Timeframe
from backfill.core.when import Bound
from backfill.run.connect import opened
from backfill.settings import Settings
from backfill.store import universe
from backfill.store.history import StoredBar, Stretch, blocks
from backfill.store.pool import Connection
from backfill.store.source import EVER
from backfill.store.standing import standing
from backfill.store.times import to_ms, to_time

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Question:
    """Which bars somebody wants to look at: all, some sessions', or the newest so many."""

    ticker: str
    timeframe: Timeframe
    first: Bound | None = None
    last: Bound | None = None
    newest: int | None = None
    adjusted: bool = False


@asynccontextmanager
async def looked_up(
    settings: Settings, question: Question
) -> AsyncIterator[tuple[Symbol, AsyncIterator[list[StoredBar]]]]:
    """Yield the symbol of a question, and its bars, oldest first, block by block.

    Raises
    ------
    UsageError
        If the symbol is not known.
    """
    async with opened(settings) as database:
        symbol, doubtful = await database.run(partial(_known, question=question))
        stretch = _stretch(symbol, question)
        yield symbol, _told(stretch.series, doubtful, blocks(database, stretch))


async def _known(connection: Connection, question: Question) -> tuple[Symbol, Spans]:
    symbol = await universe.known(connection, question.ticker)
    series = Series(symbol, question.timeframe)
    return symbol, (await standing(connection, series, adjusted=False)).doubtful


async def _told(
    series: Series, doubtful: Spans, shown: AsyncIterator[list[StoredBar]]
) -> AsyncIterator[list[StoredBar]]:
    """Yield blocks, and tell of the first that has bars which may be on an old share basis."""
    is_told = not doubtful
    async for block in shown:
        if not is_told and doubtful & Spans.of((to_ms(block[0].ts), to_ms(block[-1].ts) + 1)):
            is_told = True
            log.warning(
                "series.reloading",
                symbol=series.symbol.ticker,
                timeframe=str(series.timeframe),
                message="bars that are to be loaded again may be on the share basis before a split",
            )
        yield block


def _stretch(symbol: Symbol, question: Question) -> Stretch:
    first, last = question.first, question.last
    return Stretch(
        Series(symbol, question.timeframe),
        begins(symbol, first.at, question.timeframe) if first else to_time(EVER.start_ms),
        ends(symbol, last.at, question.timeframe) if last else to_time(EVER.end_ms),
        question.newest,
        question.adjusted,
    )


def begins(symbol: Symbol, at: date | datetime, timeframe: Timeframe) -> datetime:
    """Return where bars begin that begin with a session, or the week or month of it, or then."""
    if isinstance(at, datetime):
        return at
    return to_time(bar_begins(symbol.calendar, at, timeframe))


def ends(symbol: Symbol, at: date | datetime, timeframe: Timeframe) -> datetime:
    """Return where bars end that end with a session, that one included, or before an instant."""
    if isinstance(at, datetime):
        return at
    after = min(at, date.max - timedelta(days=2)) + timedelta(days=1)
    return to_time(day_begins(symbol.calendar, after, timeframe))
