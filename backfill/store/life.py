"""The life of a symbol: the names it had, and who has its ticker by now."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from backfill.core.calendar import bar_begins, day_begins, trade_date
from backfill.core.checks import LATEST_MS
from backfill.core.coverage import Span, Spans
from backfill.core.series import Alias, Series, Symbol, SymbolId, renamed_days
from backfill.core.splits import basis_ends
from backfill.core.timeframe import Timeframe
from backfill.core.wire import Reference
from backfill.errors import UsageError
from backfill.store import progress, universe
from backfill.store.empty import reopen
from backfill.store.pool import Connection
from backfill.store.source import expel, uncover
from backfill.store.times import to_ms, to_time

# In key order, and before the symbol's own row: as a page's write locks them.
_LOCK_SERIES: Final = """
    SELECT timeframe::text, claimed_until > now() AND claimed_by IS NOT NULL AS held
    FROM backfill_progress
    WHERE symbol_id = $1
    ORDER BY symbol_id, timeframe
    FOR UPDATE
"""
# The same of every symbol that shares a plain one's names: itself, and other venues' of it.
_LOCK_SHARING: Final = """
    SELECT symbol_id, timeframe::text, claimed_until > now() AND claimed_by IS NOT NULL AS held
    FROM backfill_progress
    WHERE symbol_id = $1 OR symbol_id IN (SELECT id FROM symbols WHERE listing_of = $1)
    ORDER BY symbol_id, timeframe
    FOR UPDATE
"""
# A former name of a symbol.
KEEP_ALIAS: Final = """
    INSERT INTO symbol_aliases (symbol_id, ticker, valid_from, valid_until)
    VALUES ($1, $2, $3, $4)
"""
# The provider's events change nothing of it any more.
_NAMED_BY_HAND: Final = "UPDATE symbols SET names_manual = true WHERE id = $1"
# No former names of a symbol any more; by the primary key, of which it is the beginning.
_DROP_ALIASES: Final = "DELETE FROM symbol_aliases WHERE symbol_id = $1"
# A week or month that was fetched whole is rolled up from days from now on.
_DERIVE: Final = """
    UPDATE backfill_progress
    SET derived_from = 'd1', invalidated = invalidated + coverage, coverage = '{}'
    WHERE symbol_id = $1 AND timeframe IN ('w1', 'mn1') AND provider IS NOT NULL
        AND derived_from IS NULL
"""
# One step of the primary key for each series.
_LAST_BEFORE: Final = """
    SELECT max(b.ts)
    FROM backfill_progress AS p
    CROSS JOIN LATERAL (
        SELECT max(ts) AS ts
        FROM ohlc_bars
        WHERE symbol_id = p.symbol_id AND timeframe = p.timeframe AND ts < $2
    ) AS b
    WHERE p.symbol_id = $1 AND p.timeframe = ANY ($3::text[]::timeframe[])
"""
# Another company has the ticker now; by the primary key.
_SUCCEED: Final = """
    UPDATE symbols
    SET successor_figi = $2, successor_listed_on = $3, reference_at = now(),
        renamed_to = $4, renamed_on = $5, gone_on = NULL
    WHERE id = $1
"""

_DAYS: Final = [str(one) for one in Timeframe if one.is_intraday or one is Timeframe.d1]


async def note_names(
    connection: Connection,
    run_id: UUID,
    symbol: Symbol,
    aliases: tuple[Alias, ...],
    listed_on: date | None,
) -> int:
    """Note the former names of a symbol, and put right what was asked for under the wrong one.

    They are the plain symbol's, and every venue's of it. What is stored from before the change is
    another company's: it leaves for quarantine, and its coverage from ``listed_on`` on is to be
    fetched again. Returns how many bars left.
    """
    every = await _sharing(connection, symbol)
    held = await universe.by_id(connection, _plain_id(symbol))
    if not aliases or aliases == held.aliases or held.names_manual:
        return 0
    return await _rename(connection, run_id, every, held, replace(held, aliases=aliases), listed_on)


async def set_names(
    connection: Connection,
    run_id: UUID,
    symbol: Symbol,
    names: Callable[[Symbol], tuple[Alias, ...]],
) -> int:
    """Set the former names of a symbol by hand, with what `note_names` does, and count the bars.

    ``names`` returns them for the symbol as it is known then.

    Raises
    ------
    UsageError
        If a run is working on the symbol.
    """
    every = await _sharing(connection, symbol, free=True)
    held = await universe.by_id(connection, _plain_id(symbol))
    told = replace(held, aliases=names(held))
    await connection.execute(_NAMED_BY_HAND, held.id)
    return await _rename(connection, run_id, every, held, told, held.listed_on)


async def _rename(
    connection: Connection,
    run_id: UUID,
    every: list[Series],
    held: Symbol,
    told: Symbol,
    listed_on: date | None,
) -> int:
    """Put right what was asked for under the wrong name, and return how many bars left."""
    await connection.execute(_DROP_ALIASES, held.id)
    for one in told.aliases:
        await connection.execute(KEEP_ALIAS, held.id, one.ticker, one.valid_from, one.valid_until)
    if (days := renamed_days(held, told)) is None:
        return 0
    first, until = days
    expelled = 0
    for series in every:
        start_ms = 0 if first == date.min else _begins(series, first)
        wrong = Span(start_ms, basis_ends(series.timeframe, until, held.calendar))
        expelled += await expel(connection, run_id, series, Span(start_ms, _begins(series, until)))
        await ask_again(connection, series, wrong, listed_on)
    if told.aliases:
        for symbol in dict.fromkeys(series.symbol for series in every):
            await derive_weeks(connection, symbol)
    return expelled


async def ask_again(
    connection: Connection, series: Series, wrong: Span, listed_on: date | None
) -> None:
    """Take what was asked of the wrong company out of the coverage, to be asked from a day on."""
    life_ms = _begins(series, listed_on) if listed_on else 0
    known = (await progress.load_progress(connection, [series]))[series.key]
    again = known.coverage & Spans.of((max(wrong.start_ms, life_ms), wrong.end_ms))
    await uncover(connection, series, wrong)
    await progress.invalidate(connection, series, again)
    reopen(connection, series, Spans.of(wrong))


async def derive_weeks(connection: Connection, symbol: Symbol) -> None:
    """Have weeks and months rolled up from days: one may hold days of two names, or companies."""
    await connection.execute(_DERIVE, symbol.id)


async def last_day_before(connection: Connection, symbol: Symbol, day: date) -> date | None:
    """Return the day of the last bar that is stored of a symbol from before a day."""
    return await last_day_of(connection, symbol, day_begins(symbol.calendar, day, Timeframe.m1))


async def note_successor(
    connection: Connection, run_id: UUID, symbol: Symbol, reference: Reference
) -> int:
    """Note that a symbol's ticker belongs to another company by now.

    What is stored from its listing on leaves for quarantine; returns how many bars did. A listing
    that is older than all that is stored tells nothing, and moves nothing.
    """
    listed_on = reference.listed_on
    every = await _sharing(connection, symbol)
    named = reference.renamed
    await connection.execute(
        _SUCCEED,
        _plain_id(symbol),
        reference.figi,
        listed_on,
        named.ticker if named else None,
        named.since if named else None,
    )
    expelled = 0
    for series in every:
        known = (await progress.load_progress(connection, [series]))[series.key]
        if listed_on is None or known.oldest_bar_ms is None:
            continue
        begins_ms = bar_begins(symbol.calendar, listed_on, series.timeframe)
        theirs = Span(begins_ms, LATEST_MS)
        if theirs.start_ms > known.oldest_bar_ms:
            expelled += await expel(connection, run_id, series, theirs)
            await uncover(connection, series, theirs)
    return expelled


async def locked_free(connection: Connection, symbol: Symbol) -> list[Series]:
    """Lock the series of a symbol as `locked` does, if no run is working on it.

    Raises
    ------
    UsageError
        If one is.
    """
    rows = await connection.fetch(_LOCK_SERIES, symbol.id)
    if any(row["held"] for row in rows):
        raise UsageError(f"a run is working on {symbol.ticker}: try again when that has ended")
    return [Series(symbol, Timeframe(row["timeframe"])) for row in rows]


async def locked(connection: Connection, symbol: Symbol) -> list[Series]:
    """Lock the series of a symbol until the transaction ends, and return them."""
    rows = await connection.fetch(_LOCK_SERIES, symbol.id)
    return [Series(symbol, Timeframe(row["timeframe"])) for row in rows]


def _plain_id(symbol: Symbol) -> SymbolId:
    return symbol.id if symbol.listing_of is None else symbol.listing_of


async def _sharing(connection: Connection, symbol: Symbol, *, free: bool = False) -> list[Series]:
    """Lock the series of all symbols that share one's names; with ``free`` if no run has one."""
    rows = await connection.fetch(_LOCK_SHARING, _plain_id(symbol))
    symbols = await universe.by_ids(connection, list({row["symbol_id"] for row in rows}))
    if free and (held := [symbols[row["symbol_id"]] for row in rows if row["held"]]):
        raise UsageError(f"a run is working on {held[0].ticker}: try again when that has ended")
    return [Series(symbols[row["symbol_id"]], Timeframe(row["timeframe"])) for row in rows]


async def last_day_of(connection: Connection, symbol: Symbol, end_ms: int) -> date | None:
    """The day of the last bar that starts before an instant; of a week or month its last day."""
    for timeframes in (_DAYS, ["w1"], ["mn1"]):
        last: datetime | None = await connection.fetchval(
            _LAST_BEFORE, symbol.id, to_time(end_ms), timeframes
        )
        if last is None:
            continue
        after = trade_date(symbol.calendar, to_ms(last)) + timedelta(days=1)
        ends_ms = basis_ends(Timeframe(timeframes[-1]), after, symbol.calendar)
        return trade_date(symbol.calendar, ends_ms) - timedelta(days=1)
    return None


def _begins(series: Series, day: date) -> int:
    return day_begins(series.symbol.calendar, day, series.timeframe)
