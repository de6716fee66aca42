"""What the bars say of a symbol's listing date, noted; and another company's bars, moved out."""

from datetime import date
from typing import Final
from uuid import UUID

from backfill.core.bars import Bars
from backfill.core.checks import LATEST_MS, Reason
from backfill.core.coverage import Span, Spans
from backfill.core.series import Series, Symbol
from backfill.core.splits import basis_ends
from backfill.core.wire import Split
from backfill.store.keys import key_of
from backfill.store.life import ask_again, derive_weeks, locked
from backfill.store.pool import Connection
from backfill.store.read import stored_bars
from backfill.store.source import expel
from backfill.store.times import to_ms, to_time

# Splits listed under any name of a symbol, but for those that somebody says never were.
_SPLITS: Final = """
    SELECT DISTINCT x.ticker, x.execution_date, x.split_from, x.split_to
    FROM splits AS x
    JOIN symbol_names AS n ON n.ticker = x.ticker
    WHERE n.symbol_id = $1 AND x.status <> 'dropped'
    ORDER BY x.execution_date
"""
# No bar is older than the listing; by the primary key.
_AGREE: Final = """
    UPDATE symbols
    SET listing_verdict = 'agreed'
    WHERE id = $1 AND listing_verdict IS NULL AND reference_listed_on = $2
"""
# Older bars are another company's; by the primary key.
_CUT: Final = """
    UPDATE symbols
    SET listing_verdict = 'cut', listed_on = reference_listed_on, bars_asked_since = NULL
    WHERE id = $1
"""
# Older bars are the same company's: its life begins with them; by the primary key.
_DOUBT: Final = """
    UPDATE symbols
    SET listing_verdict = 'doubted',
        listed_on = least(listed_on, reference_listed_on, $2),
        bars_asked_since = least(bars_asked_since, $3)
    WHERE id = $1 AND listing_verdict IS DISTINCT FROM 'cut'
"""
# The bars on both sides of an instant: a step of the primary key for each.
_BESIDE: Final = """
    SELECT
        (
            SELECT max(ts)
            FROM ohlc_bars
            WHERE symbol_id = $1 AND timeframe = $2::text::timeframe AND ts < $3
        ) AS before,
        (
            SELECT min(ts)
            FROM ohlc_bars
            WHERE symbol_id = $1 AND timeframe = $2::text::timeframe AND ts >= $3
        ) AS after
"""


async def splits_of(connection: Connection, symbol: Symbol) -> list[Split]:
    """Return the splits that are listed under any name of a symbol, also those that don't apply."""
    return [Split(**row) for row in await connection.fetch(_SPLITS, symbol.id)]


async def stored_beside(connection: Connection, series: Series, at_ms: int) -> Bars:
    """Return the stored bars of a series next to an instant, before it and from it on."""
    at = to_time(min(at_ms, LATEST_MS))
    row = await connection.fetchrow(_BESIDE, *key_of(series), at)
    starts = [to_ms(one) for one in row.values() if one is not None]
    spans = Spans.of(*((start_ms, start_ms + 1) for start_ms in starts))
    return await stored_bars(connection, series, spans) if starts else Bars.empty()


async def note_agreed(connection: Connection, symbol: Symbol) -> None:
    """Note that no bar is older than the listing date that the reference tells."""
    await connection.execute(_AGREE, symbol.id, symbol.reference_listed_on)


async def note_doubted(
    connection: Connection, symbol: Symbol, oldest: date, asked_since: date
) -> None:
    """Note that bars of the same company are older than its listing, back to a day at least."""
    await connection.execute(_DOUBT, symbol.id, oldest, asked_since)


async def note_cut(
    connection: Connection, run_id: UUID, symbol: Symbol, listed_on: date
) -> dict[Series, int]:
    """Note that bars from before a listing are another company's, and move what is stored out.

    Weeks and months are rolled up from days from now on, since one holds days of both. Returns how
    many bars left each series.
    """
    expelled = {}
    for series in await locked(connection, symbol):
        wrong = Span(0, basis_ends(series.timeframe, listed_on, symbol.calendar))
        left = await expel(connection, run_id, series, wrong, reason=Reason.before_listing)
        if left:
            expelled[series] = left
        await ask_again(connection, series, wrong, listed_on)
    await connection.execute(_CUT, symbol.id)
    await derive_weeks(connection, symbol)
    return expelled
