"""What there is to tell of one series beside its bars, and which symbols a word may mean."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from backfill.core.basis import doubtful
from backfill.core.coverage import Spans
from backfill.core.export import Factor
from backfill.core.series import Progress, Series, Symbol
from backfill.core.timeframe import Timeframe
from backfill.store.export import factor_of
from backfill.store.keys import key_of
from backfill.store.pool import Connection
from backfill.store.progress import loading, read_progress
from backfill.store.quote import bound
from backfill.store.share_basis import AGAIN, LOADED, WITH_BASE
from backfill.store.times import from_bounds, to_ms, told_time

# When something of a series was written last; since when its bars, and those that they are rolled
# up from, are on their share basis; what of both is to be loaded again, if they are adjusted; and
# where its newest bar begins; by the primary keys.
_STANDING: Final = """
    SELECT
        p.last_updated AS updated,
        {loaded} AS loaded,
        CASE WHEN p.adjustment <> 'raw' THEN {again} END AS again,
        (
            SELECT max(ts)
            FROM ohlc_bars
            WHERE symbol_id = $1 AND timeframe = $2::text::timeframe
        ) AS newest
    FROM (SELECT) AS one
    LEFT JOIN backfill_progress AS p
        ON p.symbol_id = $1 AND p.timeframe = $2::text::timeframe
    {with_base}
"""
_ENDS: Final = _STANDING.format(loaded=LOADED, again=AGAIN, with_base=WITH_BASE)
# By what the raw bars of a symbol are divided, from when to before when.
_FACTORS: Final = """
    SELECT starts, ends, split_factor
    FROM adjustment_factors
    WHERE symbol_id = $1 AND split_factor <> 1
    ORDER BY starts
"""
# The timeframes of which a symbol has bars.
_TIMEFRAMES: Final = """
    SELECT timeframe::text AS timeframe
    FROM backfill_progress
    WHERE symbol_id = $1 AND newest_bar IS NOT NULL
    ORDER BY timeframe
"""
# Symbols with bars whose ticker holds a word, those first that begin with it.
_FOUND: Final = """
    SELECT s.ticker::text AS ticker, s.asset_type::text AS asset_type, s.calendar::text AS calendar
    FROM symbols AS s
    WHERE strpos(upper(s.ticker::text), upper($1)) > 0
        AND ($2 = '' OR s.asset_type::text = $2)
        AND EXISTS (
            SELECT FROM backfill_progress AS p WHERE p.symbol_id = s.id AND p.newest_bar IS NOT NULL
        )
    ORDER BY strpos(upper(s.ticker::text), upper($1)), length(s.ticker::text), s.ticker
    LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """A series as it stands: ``updated`` is when something of it was written last.

    It, or what it is rolled up from, was ``loaded`` from then on: another time is another share
    basis. ``doubtful`` is where bars may be on another one than its others.
    """

    progress: Progress
    updated: datetime | None
    loaded: datetime | None
    newest_ms: int | None
    factors: tuple[Factor, ...]
    doubtful: Spans


@dataclass(frozen=True, slots=True)
class Found:
    """A symbol that a word may mean."""

    ticker: str
    asset_type: str
    calendar: str


async def standing(connection: Connection, series: Series, *, adjusted: bool) -> Standing:
    """Return how a series stands, in one round trip; the factors only if they are asked for."""
    asked = [loading([series]), bound(_ENDS, *key_of(series))]
    if adjusted:
        asked.append(bound(_FACTORS, series.symbol.id))
    rows, (ends,), *factors = await connection.ask(*asked)
    known = read_progress(rows).get(series.key, Progress())
    newest = told_time(ends["newest"])
    newest_ms = None if newest is None else to_ms(newest)
    return Standing(
        known,
        told_time(ends["updated"]),
        told_time(ends["loaded"]),
        newest_ms,
        tuple(factor_of(row) for every in factors for row in every),
        doubtful(from_bounds(ends["again"]), known.coverage, newest_ms),
    )


async def timeframes_of(connection: Connection, symbol: Symbol) -> list[Timeframe]:
    """Return the timeframes of which a symbol has bars, the finest first."""
    (rows,) = await connection.ask(bound(_TIMEFRAMES, symbol.id))
    return [Timeframe(row["timeframe"]) for row in rows]


async def found(connection: Connection, word: str, asset_type: str, most: int) -> list[Found]:
    """Return the symbols with bars whose ticker holds a word; of one type, if it isn't empty."""
    (rows,) = await connection.ask(bound(_FOUND, word, asset_type, most))
    return [Found(**row) for row in rows]
