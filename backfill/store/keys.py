"""How statements name a series: the type of its symbol's id is a domain, ``symbol_id``."""

from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from backfill.core.series import Series, SymbolId
from backfill.core.timeframe import Timeframe
from backfill.store.quote import Quoted

# The series that the ledger has of what is watched, in one order; by the primary key.
_OF_WATCHED: Final = """ARRAY(
        SELECT {column}
        FROM backfill_progress AS p
        WHERE p.symbol_id IN (SELECT w.symbol_id FROM watched AS w)
        ORDER BY p.symbol_id, p.timeframe
    )"""
WATCHED_KEYS: Final = (
    Quoted(_OF_WATCHED.format(column="p.symbol_id")),
    Quoted(_OF_WATCHED.format(column="p.timeframe::text")),
)
"""The keys of every series of the watchlist, as `keys_of` returns those of series."""


def key_of(series: Series) -> tuple[SymbolId, str]:
    """Return what the columns ``symbol_id`` and ``timeframe`` hold for a series."""
    return series.symbol.id, str(series.timeframe)


def keys_of(series: Iterable[Series]) -> tuple[list[SymbolId], list[str]]:
    """Return the keys of several series as the two arrays of a statement."""
    keys = [key_of(one) for one in series]
    return [symbol_id for symbol_id, _ in keys], [timeframe for _, timeframe in keys]


def told_id(told: int | str) -> SymbolId:
    """Return the id of a symbol that a row tells as JSON does."""
    return UUID(told) if isinstance(told, str) else told


def told_key(row: Mapping[str, Any]) -> tuple[SymbolId, Timeframe]:
    """Return the key of the series that a row tells of as JSON does."""
    return told_id(row["symbol_id"]), Timeframe(row["timeframe"])
