"""Columns of bars as lists for a statement: what was not given is None, which becomes NULL."""

from backfill.core.bars import NO_COUNT, Bars


def given_vwaps(bars: Bars) -> list[float | None]:
    """Return the vwaps."""
    return [None if value != value else value for value in bars.vwap.tolist()]  # noqa: PLR0124  # NaN


def given_counts(bars: Bars) -> list[int | None]:
    """Return the trade counts."""
    return [None if value == NO_COUNT else value for value in bars.trade_count.tolist()]
