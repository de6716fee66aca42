"""How statements name a series: the type of its symbol's id is a domain, ``symbol_id``."""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from backfill.core.series import Series, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.quote import Quoted

# The series that the ledger has of some symbols, in one order; by the primary key.
_OF_SYMBOLS: Final = """ARRAY(
        SELECT {column}
        FROM backfill_progress AS p
        WHERE p.symbol_id IN ({symbols})
        ORDER BY p.symbol_id, p.timeframe
    )"""


def key_of(series: Series) -> tuple[SymbolId, str]:
    """Return what the columns ``symbol_id`` and ``timeframe`` hold for a series."""
    return series.symbol.id, str(series.timeframe)


def keys_of(series: Iterable[Series]) -> tuple[list[SymbolId], list[str]]:
    """Return the keys of several series as the two arrays of a statement."""
    keys = [key_of(one) for one in series]
    return [symbol_id for symbol_id, _ in keys], [timeframe for _, timeframe in keys]


def keys_of_symbols(symbols: Quoted) -> tuple[Quoted, Quoted]:
    """Return the keys of all that the ledger has of symbols, as `keys_of` returns those of series.

    ``symbols`` is the query for their ids.
    """
    timeframes = _OF_SYMBOLS.format(column="p.timeframe::text", symbols=symbols)
    return Quoted(_OF_SYMBOLS.format(column="p.symbol_id", symbols=symbols)), Quoted(timeframes)


def told_id(told: int | str) -> SymbolId:
    """Return the id of a symbol that a row tells as JSON does."""
    return UUID(told) if isinstance(told, str) else told


def told_key(row: Mapping[str, Any]) -> tuple[SymbolId, Timeframe]:
    """Return the key of the series that a row tells of as JSON does."""
    return told_id(row["symbol_id"]), Timeframe(row["timeframe"])
