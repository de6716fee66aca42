"""Splits as people see and correct them; what they set no listing overwrites."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from backfill.core.series import Symbol
from backfill.core.splits import Ratio
from backfill.errors import UsageError
from backfill.store.pool import Connection

# Splits with the symbol whose they are: as decided, or as who had the ticker that day, or at all.
_LISTED: Final = """
    SELECT coalesce(o.ticker, n.ticker) AS symbol, x.ticker AS listed_as, x.execution_date,
        x.split_from, x.split_to, x.status, x.tested, x.manual
    FROM splits AS x
    LEFT JOIN symbols AS o ON o.id = x.symbol_id
    LEFT JOIN LATERAL (
        SELECT s.ticker
        FROM symbol_names AS n
        JOIN symbols AS s ON s.id = n.symbol_id
        WHERE n.ticker = x.ticker AND s.listing_of IS NULL
        ORDER BY x.execution_date >= n.valid_from AND x.execution_date < n.valid_until DESC, s.id
        LIMIT 1
    ) AS n ON true
    WHERE coalesce(o.ticker, n.ticker) = ANY ($1::text[])
        OR $1::text[] IS NULL AND coalesce(o.ticker, n.ticker) IS NOT NULL
    ORDER BY symbol, x.execution_date, listed_as
"""
# A split of a symbol on a day, under any of its names: the one of that day first.
_OF_DAY: Final = """
    SELECT x.ticker, x.split_from, x.split_to
    FROM splits AS x
    JOIN symbol_names AS n
        ON n.ticker = x.ticker AND n.symbol_id = $1 AND coalesce(x.symbol_id, $1) = $1
    WHERE x.execution_date = $2 AND x.status <> 'dropped'
    ORDER BY x.execution_date >= n.valid_from AND x.execution_date < n.valid_until DESC, x.ticker
"""
# A split as somebody says it is; by the primary key.
_SET: Final = """
    INSERT INTO splits AS s (
        ticker, execution_date, split_from, split_to, first_seen_at, manual, symbol_id
    )
    VALUES ($1, $2, $3, $4, $5, true, $6)
    ON CONFLICT (ticker, execution_date) DO UPDATE
    SET split_from = excluded.split_from, split_to = excluded.split_to,
        first_seen_at = excluded.first_seen_at, status = 'announced', tested = false,
        manual = true, symbol_id = excluded.symbol_id
"""
# A split that somebody says never was; by the primary key.
_DROP: Final = """
    UPDATE splits
    SET status = 'dropped', tested = true, manual = true, symbol_id = $3
    WHERE ticker = ANY ($1::text[]) AND execution_date = $2
"""


@dataclass(frozen=True, slots=True)
class SplitRow:
    """A split as it is held: whose it is, the ticker that it is listed under, and its status."""

    symbol: str
    listed_as: str
    execution_date: date
    ratio: Ratio
    status: str
    tested: bool
    manual: bool


async def listed_splits(connection: Connection, tickers: list[str] | None) -> list[SplitRow]:
    """Return the splits of symbols, of all that are known where none are named."""
    return [_row(row) for row in await connection.fetch(_LISTED, tickers)]


async def set_split(
    connection: Connection,
    symbol: Symbol,
    day: date,
    ratio: Ratio | None,
    moved_to: date | None,
    now: datetime,
) -> None:
    """Set the ratio of a symbol's split, or the day on which it was, or add one.

    Raises
    ------
    UsageError
        If the ratio isn't told of a split that isn't listed.
    """
    found = await connection.fetch(_OF_DAY, symbol.id, day)
    if not found and (ratio is None or moved_to is not None):
        raise UsageError(f"no split of {symbol.ticker} is listed for {day}; tell its ratio: 4:1")
    if ratio is None:
        ratio = Ratio(found[0]["split_to"], found[0]["split_from"])
    if moved_to is not None:
        await connection.execute(_DROP, [row["ticker"] for row in found], day, symbol.id)
    name = found[0]["ticker"] if found else symbol.on(day).listed_as
    await connection.execute(_SET, name, moved_to or day, ratio.old, ratio.new, now, symbol.id)


async def drop_split(connection: Connection, symbol: Symbol, day: date) -> None:
    """Note that a symbol had no split on a day, under whatever name one is listed.

    Raises
    ------
    UsageError
        If none is.
    """
    found = await connection.fetch(_OF_DAY, symbol.id, day)
    if not found:
        raise UsageError(f"no split of {symbol.ticker} is listed for {day}: nothing to drop")
    await connection.execute(_DROP, [row["ticker"] for row in found], day, symbol.id)


def _row(row: Mapping[str, Any]) -> SplitRow:
    return SplitRow(
        row["symbol"],
        row["listed_as"],
        row["execution_date"],
        Ratio(row["split_to"], row["split_from"]),
        row["status"],
        row["tested"],
        row["manual"],
    )
