"""How statements name a series: the type of its symbol's id is a domain, ``symbol_id``."""

from collections.abc import Iterable

from backfill.core.series import Series, SymbolId


def key_of(series: Series) -> tuple[SymbolId, str]:
    """Return what the columns ``symbol_id`` and ``timeframe`` hold for a series."""
    return series.symbol.id, str(series.timeframe)


def keys_of(series: Iterable[Series]) -> tuple[list[SymbolId], list[str]]:
    """Return the keys of several series as the two arrays of a statement."""
    keys = [key_of(one) for one in series]
    return [symbol_id for symbol_id, _ in keys], [timeframe for _, timeframe in keys]
