"""Since when the bars of a symbol are its own, as its answers tell, page by page."""

from collections.abc import Awaitable, Callable
from datetime import date
from functools import partial

import structlog

from backfill.core.bars import Bars
from backfill.core.calendar import Calendar
from backfill.core.paging import Chunk, Paging
from backfill.core.series import ListingVerdict, Series, Symbol
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Page, Split
from backfill.core.work import Work
from backfill.run.actions import ActionsDesk
from backfill.run.context import Context
from backfill.store import life, progress, universe
from backfill.store import listing as store
from backfill.store.bars import write_chunks
from backfill.store.counts import Counts
from backfill.store.pool import Connection
from backfill.store.times import to_time

log = structlog.stdlib.get_logger()


async def jumps_unexplained(context: Context, work: Work, paging: Paging, page: Page) -> bool:
    """Whether the price jumps in a page as no listed split explains.

    Splits are listed first, if that is due: what they explain costs no look-up. A pair has none.
    """
    if not work.is_of_shares:
        return False
    jumps = paging.jumps(page, await _bar_after(context, work, paging, page))
    if not jumps:
        return False
    for listed_anew in (False, True):
        if listed_anew:
            await _list_splits(context, work.calendar)
        splits = await _splits(context, work.symbol)
        jumps = [jump for jump in jumps if not jump.is_explained(splits, work.calendar)]
        if not jumps:
            return False
    return True


async def _bar_after(context: Context, work: Work, paging: Paging, page: Page) -> Bars:
    """The bar that follows on a range's first page, where that isn't the newest of all.

    It may be of a page that is still to be written; else it is stored.
    """
    newest_ms = max((one.wanted.end_ms for one in work.targets if one.wanted), default=0)
    if not paging.is_first or paging.upto_ms >= newest_ms or not len(page.bars):
        return Bars.empty()
    if len(paging.oldest):
        return paging.oldest
    beside = await _stored_beside(context, work, paging.upto_ms)
    return beside.take(beside.ts_ms >= paging.upto_ms)


async def _stored_beside(context: Context, work: Work, at_ms: int) -> Bars:
    series = Series(work.symbol, work.base)
    return await context.database.run(partial(store.stored_beside, series=series, at_ms=at_ms))


def bears_on_listing(work: Work, paging: Paging, page: Page, symbol: Symbol) -> bool:
    """Whether a page has something to say of the listing date that is known of a symbol."""
    told = symbol.reference_listed_on
    if told is None or symbol.listing is ListingVerdict.cut:
        return False
    return _is_last(work, paging, page, told) or bool(paging.closes(page).first_from(told))


def _is_last(work: Work, paging: Paging, page: Page, told: date) -> bool:
    """Whether no page follows one of a range that begins before a listing."""
    return page.next is None and paging.start_ms < work.calendar.begins(told, work.base)


async def settle(
    context: Context, work: Work, paging: Paging, page: Page, symbol: Symbol
) -> Symbol:
    """Hold a page that bears on it against a symbol's listing date, and note what it says.

    Bars from before it are another company's if they break there: then those that are stored leave
    for quarantine, and so does a page of weeks. Otherwise they stay, and the life of the symbol
    begins with the oldest.
    """
    told = symbol.reference_listed_on
    if told is None:
        return symbol
    closes = paging.closes(page)
    is_last = _is_last(work, paging, page, told)
    older = closes.first_from(told)
    if symbol.listing is None:
        symbol = await _again(context, symbol)  # another stream may have settled it meanwhile
    if symbol.listing is not ListingVerdict.doubted:
        if not older:
            return await _note(context, symbol, store.note_agreed)
        breaks = await _break(context, work, paging, page, symbol, told)
        if breaks is None:
            return symbol
        if breaks:
            return await _cut(context, work, paging, page, symbol, told)
        log.warning("symbol.listing_doubted", symbol=symbol.ticker, listed_on=told.isoformat())
    oldest = work.calendar.trade_date(int(closes.ts_ms[0])) if older else told
    since = work.calendar.day_of(paging.start_ms) if is_last else oldest
    return await _note(
        context, symbol, partial(store.note_doubted, oldest=oldest, asked_since=since)
    )


async def _break(
    context: Context, work: Work, paging: Paging, page: Page, symbol: Symbol, told: date
) -> bool | None:
    """Whether the bars break at the listing; a page that ends before it is told by stored ones."""
    closes = paging.closes(page)
    if closes.first_from(told) == len(closes.ts_ms):
        at_ms = work.calendar.begins(told, work.base)
        closes = paging.closes(page, await _stored_beside(context, work, at_ms))
    splits = await _splits(context, symbol)
    if closes.break_at(told, splits):
        await _list_splits(context, work.calendar)
        splits = await _splits(context, symbol)
    return closes.break_at(told, splits)


async def _cut(
    context: Context, work: Work, paging: Paging, page: Page, symbol: Symbol, told: date
) -> Symbol:
    chunks = paging.of_another(page, told) if work.base in {Timeframe.w1, Timeframe.mn1} else []

    async def note(
        connection: Connection,
    ) -> tuple[list[tuple[Chunk, Counts]], dict[Series, int], Symbol]:
        await life.locked(connection, symbol)
        await progress.lock_progress(connection, work.series, context.run_id)
        now = to_time(context.rules.now_ms)
        written = []
        if chunks:
            written = await write_chunks(
                connection, context.run_id, chunks, work.calendar, now, work.day_final_ms
            )
        expelled = await store.note_cut(connection, context.run_id, symbol, told)
        return written, expelled, await universe.by_id(connection, symbol.id)

    written, expelled, found = await context.database.run(note)
    for chunk, count in written:
        context.outcomes.count(chunk.series, count)
    for series, bars in expelled.items():
        context.outcomes.expel(series, bars)
    log.warning(
        "symbol.listing_cuts",
        symbol=symbol.ticker,
        listed_on=told.isoformat(),
        expelled=sum(expelled.values()),
    )
    return found


async def _note(
    context: Context, symbol: Symbol, note: Callable[[Connection, Symbol], Awaitable[None]]
) -> Symbol:
    async def work(connection: Connection) -> Symbol:
        await note(connection, symbol)
        return await universe.by_id(connection, symbol.id)

    return await context.database.run(work)


async def _again(context: Context, symbol: Symbol) -> Symbol:
    return await context.database.run(partial(universe.by_id, symbol_id=symbol.id))


async def _splits(context: Context, symbol: Symbol) -> list[Split]:
    return await context.database.run(partial(store.splits_of, symbol=symbol))


async def _list_splits(context: Context, calendar: Calendar) -> None:
    """List splits now, if that is due; streams that need them at once wait for the first."""
    async with context.listing:
        await ActionsDesk(context, calendar).list_splits()
