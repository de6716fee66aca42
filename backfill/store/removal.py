"""Removing rows for good: a symbol with all that is its own, or what of it is older than a day.

Some rows a transaction, each of which leaves the ledger true: what is gone is covered no more. So a
kill at any instant leaves work that is gone on with by the same call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final
from uuid import UUID

from backfill.core.calendar import bar_begins
from backfill.core.coverage import Span, Spans
from backfill.core.plain import argument
from backfill.core.series import Series, Symbol
from backfill.core.timeframe import Timeframe
from backfill.errors import UsageError
from backfill.store import universe
from backfill.store.changes import Change, note_changes
from backfill.store.life import locked_free
from backfill.store.pool import Connection
from backfill.store.source import EVER
from backfill.store.times import to_text, to_time

SLICE: Final = 50_000
"""How many bars one transaction removes."""

# How many bars are stored of a symbol in each timeframe, by the primary key.
_HELD: Final = """
    SELECT b.timeframe::text AS timeframe, count(*) AS bars, max(b.ts) AS newest
    FROM ohlc_bars AS b
    WHERE b.symbol_id = $1
    GROUP BY b.timeframe
    ORDER BY b.timeframe
"""
# Whose row it is: one of another system's is never removed.
_ADOPTED: Final = "SELECT adopted_at IS NOT NULL FROM symbols WHERE id = $1 FOR UPDATE"
# Other venues' of it; by the index on what they are of.
_VENUES: Final = "SELECT ticker FROM symbols WHERE listing_of = $1 ORDER BY ticker"
# A symbol that is being removed is fetched no more; by the primary key.
_CONDEMN: Final = "UPDATE symbols SET set_aside = $2 WHERE id = $1"
# Nobody keeps it any more; by the primary key.
_UNWATCH: Final = "DELETE FROM watchlist WHERE symbol_id = $1"
# Removes bars of one timeframe, the oldest first, as far as any are older than asked for.
_REMOVE_BARS: Final = """
    WITH edge AS MATERIALIZED (
        SELECT k.timeframe, least(k.before, (
            SELECT ts
            FROM ohlc_bars
            WHERE symbol_id = $1 AND timeframe = k.timeframe
            ORDER BY ts
            OFFSET $4
            LIMIT 1
        )) AS before
        FROM unnest($2::text[]::timeframe[], $3::timestamptz[]) AS k (timeframe, before)
        WHERE EXISTS (
            SELECT
            FROM ohlc_bars
            WHERE symbol_id = $1 AND timeframe = k.timeframe AND ts < k.before
        )
        LIMIT 1
    ),
    gone AS (
        DELETE FROM ohlc_bars AS b
        USING edge AS e
        WHERE b.symbol_id = $1 AND b.timeframe = e.timeframe AND b.ts < e.before
        RETURNING b.timeframe, b.ts
    )
    SELECT timeframe::text AS timeframe, count(*) AS bars, min(ts) AS first, max(ts) AS last
    FROM gone
    GROUP BY timeframe
"""
# As many of a symbol's bars in quarantine, as far as they are older than asked for.
_REMOVE_QUARANTINED: Final = """
    DELETE FROM quarantined_bars
    WHERE id IN (
        SELECT q.id
        FROM quarantined_bars AS q
        JOIN unnest($2::text[]::timeframe[], $3::timestamptz[]) AS k (timeframe, before)
            ON q.timeframe = k.timeframe AND q.ts < k.before
        WHERE q.symbol_id = $1
        LIMIT $4
    )
"""
# What was answered for, or is to be asked for again, from before a time is so no more.
_CUT: Final = """
    UPDATE backfill_progress AS p
    SET coverage = p.coverage - k.past::tstzmultirange,
        invalidated = p.invalidated - k.past::tstzmultirange,
        provisional = p.provisional - k.past::tstzmultirange,
        wanted_from = CASE WHEN $5 THEN greatest(p.wanted_from, k.before) ELSE p.wanted_from END
    FROM unnest($2::text[]::timeframe[], $3::timestamptz[], $4::text[]) AS k (
        timeframe, before, past
    )
    WHERE p.symbol_id = $1 AND p.timeframe = k.timeframe
"""
# Of what is known to be empty, what is older goes; by the primary key.
_CUT_EMPTY: Final = """
    UPDATE known_empty AS e
    SET slots = e.slots - k.past::tstzmultirange
    FROM unnest($2::text[]::timeframe[], $3::text[]) AS k (timeframe, past)
    WHERE e.symbol_id = $1 AND e.timeframe = k.timeframe AND e.slots && k.past::tstzmultirange
"""
# What of that holds nothing any more; by the primary key, of which it is the beginning.
_DROP_EMPTY: Final = "DELETE FROM known_empty WHERE symbol_id = $1 AND isempty(slots)"
# Where the stored bars of a symbol begin and end by now.
_REACH: Final = """
    UPDATE backfill_progress AS p
    SET oldest_bar = (
            SELECT min(ts) FROM ohlc_bars WHERE symbol_id = $1 AND timeframe = p.timeframe
        ),
        newest_bar = (
            SELECT max(ts) FROM ohlc_bars WHERE symbol_id = $1 AND timeframe = p.timeframe
        )
    WHERE p.symbol_id = $1
"""
# Nothing older is wanted again; by the primary key.
_KEEP_FROM: Final = "UPDATE symbols SET kept_from = greatest(kept_from, $2) WHERE id = $1"
# What else is a symbol's own; its names, progress and watchlist entry leave with its row.
_REMOVE_REST: Final = (
    "DELETE FROM known_empty WHERE symbol_id = $1",
    "DELETE FROM backfill_changes WHERE symbol_id = $1",
    "DELETE FROM splits WHERE symbol_id = $1",
    "DELETE FROM symbols WHERE id = $1",
)


@dataclass(slots=True)
class Removed:
    """How many bars a transaction has removed, and how many from quarantine; whether it is done."""

    bars: int = 0
    quarantined: int = 0
    is_last: bool = False

    def add(self, other: "Removed") -> None:
        """Count what the next transaction removed; where that was done, all is."""
        self.bars += other.bars
        self.quarantined += other.quarantined
        self.is_last = other.is_last


@dataclass(frozen=True, slots=True)
class Held:
    """What is stored of a symbol: bars by timeframe, and the start of the newest of each."""

    symbol: Symbol
    bars: Mapping[str, int] = field(default_factory=dict)
    newest: Mapping[Timeframe, datetime] = field(default_factory=dict)


async def held(connection: Connection, ticker: str) -> Held:
    """Return what is stored of a symbol.

    Raises
    ------
    UsageError
        If it is not known.
    """
    symbol = await universe.known(connection, ticker)
    rows = await connection.fetch(_HELD, symbol.id)
    return Held(
        symbol,
        {row["timeframe"]: row["bars"] for row in rows},
        {
            Timeframe(row["timeframe"]): row["newest"]
            for row in rows
            if row["timeframe"] in set(Timeframe)
        },
    )


async def delete_some(connection: Connection, symbol: Symbol, most: int = SLICE) -> Removed:
    """Remove some bars of a symbol, or, where none is left, its row and what else is its own.

    Until then nothing is fetched for it, and nothing of it counts as covered.

    Raises
    ------
    UsageError
        If a run is working on it, its row is another system's, or other venues' of it are kept.
    """
    await locked_free(connection, symbol)
    if venues := [row["ticker"] for row in await connection.fetch(_VENUES, symbol.id)]:
        raise UsageError(
            f"{', '.join(venues)} would be of nothing without {symbol.ticker}: first",
            mend=f"backfill symbols delete {argument(venues[0])} --yes",
        )
    if await connection.fetchval(_ADOPTED, symbol.id):
        raise UsageError(
            f"{symbol.ticker} was adopted: its row in symbols is another system's, and is not "
            "removed from here. Delete it there; or remove its bars: backfill symbols trim"
        )
    await locked_free(connection, symbol)  # nobody claims it any more: that takes its row
    going = f"it is being deleted; to go on: backfill symbols delete {symbol.ticker} --yes"
    await connection.execute(_CONDEMN, symbol.id, going)
    await connection.execute(_UNWATCH, symbol.id)
    ends = dict.fromkeys(Timeframe, EVER.end_ms)
    await _cut(connection, symbol, ends, wanted=True)
    removed, _ = await _removed(connection, symbol, ends, most)
    if not removed.bars and not removed.quarantined:
        for statement in _REMOVE_REST:
            await connection.execute(statement, symbol.id)
        removed.is_last = True
    return removed


async def trim_some(
    connection: Connection, trim_id: UUID, symbol: Symbol, day: date, most: int = SLICE
) -> Removed:
    """Remove some bars of a symbol from before a day; a week or month that holds it stays whole.

    What was answered for before is forgotten, and no run asks for it again by itself.

    Raises
    ------
    UsageError
        If a run is working on it.
    """
    every = await locked_free(connection, symbol)
    await connection.execute(_KEEP_FROM, symbol.id, day)
    ends = {one: bar_begins(symbol.calendar, day, one) for one in Timeframe}
    await _cut(connection, symbol, ends, wanted=False)
    removed, change = await _removed(connection, symbol, ends, most)
    await connection.execute(_REACH, symbol.id)
    if change is not None and change.series in every:
        note_changes(connection, trim_id, [change])
    removed.is_last = not removed.bars and not removed.quarantined
    return removed


async def _cut(
    connection: Connection, symbol: Symbol, ends: Mapping[Timeframe, int], *, wanted: bool
) -> None:
    """Forget what was answered for from before some ends; it is ``wanted`` still or not."""
    names, befores = _arrays(ends)
    past = [to_text(Spans.of(Span(EVER.start_ms, end_ms))) for end_ms in ends.values()]
    await connection.execute(_CUT, symbol.id, names, befores, past, not wanted)
    await connection.execute(_CUT_EMPTY, symbol.id, names, past)
    await connection.execute(_DROP_EMPTY, symbol.id)


async def _removed(
    connection: Connection, symbol: Symbol, ends: Mapping[Timeframe, int], most: int
) -> tuple[Removed, Change | None]:
    names, befores = _arrays(ends)
    row = await connection.fetchrow(_REMOVE_BARS, symbol.id, names, befores, most)
    if row is not None:
        change = Change(Series(symbol, Timeframe(row["timeframe"])), withdrawn=row["bars"])
        change.reach(row["first"], row["last"])
        return Removed(bars=row["bars"]), change
    ended = await connection.execute(_REMOVE_QUARANTINED, symbol.id, names, befores, most)
    return Removed(quarantined=int(ended.rpartition(" ")[2])), None


def _arrays(ends: Mapping[Timeframe, int]) -> tuple[Sequence[str], Sequence[datetime]]:
    return [str(one) for one in ends], [to_time(end_ms) for end_ms in ends.values()]
