"""Columns of bars as the arrays of a statement."""

from backfill.core.bars import NO_COUNT, Bars
from backfill.store import quote


def columns_of(bars: Bars) -> list[quote.Quoted]:
    """Return the starts in epoch ms, then a column for each of `shape.VALUES`; NULL for absent."""
    counts = [None if value == NO_COUNT else value for value in bars.trade_count.tolist()]
    names = ("ts_ms", "open", "high", "low", "close", "volume", "vwap")
    return [*(quote.numbers(getattr(bars, name).tolist()) for name in names), quote.numbers(counts)]
